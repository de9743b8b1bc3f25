// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/dtype.h"
#include "weights/tensor.h"

namespace peregrine::weights {

/// The format (https://github.com/huggingface/safetensors#format): 8 bytes with the little-endian length of
/// the header, the header (a JSON object, padded with spaces), then the data of all tensors without gaps.
inline constexpr std::uint64_t kSafetensorsPrefix = 8;
inline constexpr std::uint64_t kMaxSafetensorsHeader = 100'000'000;

/// One tensor of a header: bytes [begin, end) of the data section.
struct SafetensorsEntry {
  std::string name;
  core::DType dtype = core::DType::kF32;
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

/// A header that has been checked against the size of its data section: the entries, in the order of their
/// data, cover it exactly once, names are unique, and each extent is product(shape) * size_of(dtype).
struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;
  std::map<std::string, std::string, std::less<>> metadata;  ///< `__metadata__`: free text for people.
  std::uint64_t data_start = 0;                              ///< Where the data section begins in the file.
};

/// Reads the beginning of a whole safetensors file that lies in memory. `where` names it in messages. Throws
/// Error: kInvalidArgument for a header that is not what the format says, kUnsupported for an unknown data
/// type, kDataLoss where header and file disagree about sizes. Memory used is in proportion to the header
/// that is there, whatever it claims.
SafetensorsHeader parse_safetensors(std::span<const std::byte> file, std::string_view where);

/// The same for the JSON text of a header alone, whose data section has `data_size` bytes. `data_start` is
/// left 0.
SafetensorsHeader parse_safetensors_header(std::string_view json, std::uint64_t data_size,
                                           std::string_view where);

/// "F32", "BF16", "I64", ...: the names that headers use.
const char* safetensors_dtype_name(core::DType dtype);
std::optional<core::DType> parse_safetensors_dtype(std::string_view name);

}  // namespace peregrine::weights
