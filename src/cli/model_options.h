// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "engine/engine.h"

namespace peregrine::cli {

/// A key that was set, its value as written, and where.
struct OptionOrigin {
  std::string key;  ///< Without "option.".
  std::string value;
  std::string origin;
};

/// How a model is loaded and run: the `option.` keys of serving.properties and --option, which have LMI's
/// names.
struct ModelOptions {
  std::string device = "cpu";
  std::string isa;                            ///< Empty: the best this processor has.
  int cpu_threads = 0;                        ///< 0: all available processors.
  std::optional<core::DType> dtype;           ///< Stored weights; nothing: as in the checkpoint.
  std::optional<core::DType> compute_dtype;   ///< Nothing: follows the weights.
  std::optional<core::DType> kv_cache_dtype;  ///< Nothing: follows the arithmetic.
  engine::EngineOptions engine;

  std::vector<OptionOrigin> origins;  ///< In the order in which they were set. For `inspect --config`.
};

/// Reads MODEL_DIR/serving.properties (if there is one), then `overrides` ("key=value", with or without
/// "option."), which win. Throws Error that names the key, its value, what is allowed, and for an unknown key
/// the nearest known one; a key of LMI's that Peregrine does not support yet is an error if it would change
/// results, else a warning.
ModelOptions read_model_options(const std::filesystem::path& model_dir,
                                const std::vector<std::string>& overrides);

}  // namespace peregrine::cli
