// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/json/value.hpp>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/dtype.h"
#include "core/json.h"
#include "model_info/generation_defaults.h"

namespace peregrine::model_info {

/// The facts that every family's config.json and generation_config.json name the same way. Token ids come
/// from generation_config.json where it has them, otherwise from config.json; -1 there means "none", as in
/// older files.
struct ModelInfo {
  std::string architecture;  ///< "FalconForCausalLM": architectures[0], or else model_type
  std::string model_type;    ///< "falcon"; empty where the file does not say
  std::optional<core::DType>
      torch_dtype;  ///< "torch_dtype", or "dtype" as newer files call it; nothing for "auto"
  std::optional<std::int64_t> vocab_size;  ///< >= 1

  std::optional<std::int32_t> bos_token_id;
  std::optional<std::int32_t> pad_token_id;
  std::optional<std::int32_t> decoder_start_token_id;
  std::vector<std::int32_t> eos_token_ids;  ///< Each once, in file order; generation ends at any of them.

  std::optional<bool>
      tie_word_embeddings;  ///< Whether the output layer is the embedding; the default is the family's.
  GenerationDefaults generation;

  /// What the answers of an encoder-decoder begin with: decoder_start_token_id, else bos_token_id, as
  /// transformers has it. Throws Error(kUnsupported) where there is neither.
  std::int32_t decoder_start() const;
};

/// A Hugging Face model directory: its parsed config.json and the facts in it. Movable and copyable (copies
/// share the parsed document); all const members may be called from any thread.
class ModelDirectory {
 public:
  /// Reads config.json (required) and generation_config.json (if there is one). Throws Error naming file and
  /// key: kNotFound (no directory, no config.json), kInvalidArgument (not JSON, a wrong type, out of range,
  /// above 16 MiB).
  static ModelDirectory open(const std::filesystem::path& directory);

  /// The same from the text of the two files, for a directory that is not on disk. `path` is kept as it is,
  /// and names the files in messages.
  static ModelDirectory parse(const std::filesystem::path& path, std::string_view config,
                              std::optional<std::string_view> generation_config);

  const std::filesystem::path& path() const { return path_; }
  const ModelInfo& info() const { return info_; }
  /// The whole config.json, for a family to read; an object. Valid as long as this directory or a copy of it.
  core::JsonView config() const { return {*config_, where_}; }

 private:
  ModelDirectory() = default;

  std::filesystem::path path_;
  std::string where_;
  std::shared_ptr<const boost::json::value> config_;
  ModelInfo info_;
};

}  // namespace peregrine::model_info
