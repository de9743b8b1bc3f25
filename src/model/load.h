// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string_view>

#include "core/dtype.h"
#include "model/decoder.h"
#include "model/encoder.h"
#include "model_info/model_info.h"
#include "ops/device.h"

namespace peregrine::model {

/// Data types to load a model with; nothing means auto.
struct LoadOptions {
  /// Stored matrices (LMI's option.dtype). Auto: as config.json says, or else as the checkpoint has them.
  std::optional<core::DType> weights;
  /// Activations and attention (option.compute_dtype). Auto: bfloat16 where the weights are and the device
  /// can compute in it, otherwise float32.
  std::optional<core::DType> compute;
  /// Keys and values (option.kv_cache_dtype). Auto: as the arithmetic. An encoder that stands alone has none.
  std::optional<core::DType> cache;
  /// Of the matrices (LMI's option.quantize), see is_quantized(). Nothing else follows it.
  core::Quantization quantization = core::Quantization::kNone;
  bool allow_pickle = true;       ///< See weights::Checkpoint::Options.
  LoadProgress progress = {};     ///< Optional.
  std::uint64_t random_seed = 0;  ///< For load_random_model.
};

/// A decoder-only model has a decoder, an encoder-decoder both, an encoder that stands alone only that.
struct LoadedModel {
  model_info::ModelDirectory directory;
  std::unique_ptr<Decoder> decoder;
  std::unique_ptr<Encoder> encoder = nullptr;
};

/// Loads the model in `directory` (config.json and weights) onto `device`, which must outlive it. Throws
/// Error: see ModelDirectory::open, find_family, Checkpoint::open, Decoder::load and Encoder::load;
/// kUnsupported for data types that cannot be served.
LoadedModel load_model(const std::filesystem::path& directory, ops::Device& device,
                       const LoadOptions& options);

/// The same for a named shape with random weights; `spec` is as in random_model_config().
LoadedModel load_random_model(std::string_view spec, ops::Device& device, const LoadOptions& options);

}  // namespace peregrine::model
