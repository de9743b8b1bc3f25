// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "generation/encode.h"

namespace peregrine::api {

/// What the files of sentence-transformers say about a model directory.
struct SentenceTransformers {
  generation::Pooling pooling = generation::Pooling::kMean;  ///< 1_Pooling/config.json
  bool normalize = false;                                    ///< Whether there is a Normalize module.
  std::optional<std::int64_t> max_tokens;                    ///< max_seq_length of sentence_bert_config.json.
  bool lower_case = false;                                   ///< do_lower_case of the same.
  /// What stands before a text, by name (config_sentence_transformers.json).
  std::map<std::string, std::string, std::less<>> prompts;
  std::string default_prompt;  ///< The text; empty: none.
  bool pools_prompt = true;    ///< Whether a prompt's tokens count in the pooling.
};

/// Reads modules.json and what it names; nothing where `directory` has no modules.json. Throws Error naming
/// the file and what is wrong in it; kUnsupported for modules and ways of pooling that there are none of
/// here.
std::optional<SentenceTransformers> read_sentence_transformers(const std::filesystem::path& directory);

}  // namespace peregrine::api
