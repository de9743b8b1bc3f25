// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/dtype.h"

namespace peregrine::configuration {

/// A key that was set, its value as written, and where.
struct Setting {
  std::string key;  ///< "option.dtype", "job_queue_size"
  std::string value;
  std::string origin;  ///< "--option", or the path of a serving.properties.
};

/// Shape of a streamed answer on LMI's routes (option.output_formatter, specification 2.7).
enum class OutputFormatter : std::uint8_t {
  kAuto,       ///< JSON, or lines of JSON where the request says "stream": true.
  kJson,       ///< One JSON object always.
  kJsonLines,  ///< Lines of JSON always.
  kSse,        ///< As kAuto, with server-sent events instead of lines.
};

/// What a model is served for (option.task).
enum class Task : std::uint8_t {
  kAuto,      ///< All that it can do.
  kGenerate,  ///< text-generation
  kEmbed,     ///< text-embedding, feature-extraction
  kClassify,  ///< text-classification
  kRerank,    ///< rerank: scores of pairs of texts, by a classifier with one label
};

/// How a model is loaded, run and served: serving.properties and --option, which have LMI's names.
struct ModelOptions {
  // How it is computed. The engine host reads these.
  std::string device = "cpu";
  std::string isa;                   ///< Empty: the best this processor has.
  int cpu_threads = 0;               ///< 0: one for each core, within the quota.
  std::optional<core::DType> dtype;  ///< Stored weights; nothing: as in the checkpoint.
  core::Quantization quantize = core::Quantization::kNone;  ///< Of the matrices when they are loaded.
  std::optional<core::DType> compute_dtype;                 ///< Nothing: follows `dtype`.
  std::optional<core::DType> kv_cache_dtype;                ///< Nothing: follows the arithmetic.
  std::int32_t max_rolling_batch_size = 32;                 ///< Sequences that may run at once.
  std::int32_t max_rolling_batch_prefill_tokens = 512;      ///< Prompt tokens that one step may compute.
  std::int64_t max_model_len = 0;                           ///< Longest prompt + output; 0: the model's own.
  std::int32_t kv_blocks = 0;  ///< Of the KV cache; 0: what the batch needs, bounded by memory.
  bool allow_pickle = true;    ///< Weights may be a .bin file, where there are no safetensors.

  // How it is served. The server reads these.
  std::string model_id;       ///< Directory of the model's files; empty: where serving.properties is.
  std::string chat_template;  ///< A file in the model directory, or the template itself; empty: the model's.
  OutputFormatter output_formatter = OutputFormatter::kAuto;
  Task task = Task::kAuto;
  std::string pooling;            ///< Of embeddings: "mean", "cls" or "lasttoken"; empty: the model's own.
  std::optional<bool> normalize;  ///< Embeddings to length 1; nothing: as the model says.
  std::int32_t job_queue_size = 1000;             ///< Requests that may wait.
  std::chrono::seconds model_loading_timeout{0};  ///< 0: none.

  std::vector<Setting> settings;  ///< In the order in which they were applied; those without effect left out.
};

/// Reads MODEL_DIR/serving.properties (if there is one), then `overrides` ("key=value", with or without
/// "option."), which win. Throws Error that names the key, its value, what is allowed, and for an unknown key
/// the nearest known one; a key of LMI's that Peregrine does not support yet is an error if it would change
/// results, else a warning. Where SageMaker's secure mode is on (secure_mode.h), also what it forbids is an
/// error, and allow_pickle is what it says.
ModelOptions read_model_options(const std::filesystem::path& model_dir,
                                const std::vector<std::string>& overrides);

/// Where the files of the model are: option.model_id, or else `model_dir` itself, absolute. Throws
/// Error(kNotFound) where model_id is no local directory.
std::filesystem::path model_files(const std::filesystem::path& model_dir, const ModelOptions& options);

/// The options that `settings` (of an earlier read_model_options) give.
ModelOptions apply_settings(std::span<const Setting> settings);

}  // namespace peregrine::configuration
