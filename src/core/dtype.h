// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace peregrine::core {

/// Element types of stored tensors, activations and caches.
enum class DType : std::uint8_t {
  kF64,
  kF32,
  kF16,
  kBF16,
  kF8E4M3,
  kF8E5M2,
  kI64,
  kI32,
  kI16,
  kI8,
  kU64,
  kU32,
  kU16,
  kU8,
  kBool,
};

/// Bytes of one element.
std::size_t size_of(DType type);

/// LMI's and PyTorch's long name: "float32", "bfloat16", "int8", ...
const char* to_string(DType type);

/// Whether elements are floating-point numbers that matrices can be made of: float32, float16 or bfloat16.
bool is_weight_float(DType type);

/// Reads the names that LMI and config.json use: fp32, float32, fp16, float16, half, bf16, bfloat16. Nothing
/// for others.
std::optional<DType> parse_float_dtype(std::string_view name);

/// What the matrices of a model are quantized to when it is loaded (option.quantize).
enum class Quantization : std::uint8_t {
  kNone,
  kInt8,  ///< Rows with a scale each, see ops::Weight.
};

/// "none", "int8".
const char* to_string(Quantization quantization);

}  // namespace peregrine::core
