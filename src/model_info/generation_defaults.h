// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/json.h"

namespace peregrine::model_info {

/// When beam search may end: at num_beams finished hypotheses (kTrue), when no better one is likely (kFalse,
/// a heuristic), or when no better one is possible (kNever).
enum class EarlyStopping : std::uint8_t { kFalse, kTrue, kNever };

/// What a model's author recommends for requests that leave a parameter out. Nothing where the file does not
/// say. Names and meanings are those of transformers' GenerationConfig.
struct GenerationDefaults {
  std::optional<bool> do_sample;
  std::optional<double> temperature;         ///< >= 0
  std::optional<std::int64_t> top_k;         ///< >= 0; 0 keeps all
  std::optional<double> top_p;               ///< [0, 1]
  std::optional<double> min_p;               ///< [0, 1]
  std::optional<double> typical_p;           ///< [0, 1]
  std::optional<double> repetition_penalty;  ///< > 0

  std::optional<std::int64_t> max_new_tokens;  ///< >= 1
  std::optional<std::int64_t> max_length;      ///< >= 1, prompt included
  std::optional<std::int64_t> min_new_tokens;  ///< >= 0
  std::optional<std::int64_t> min_length;      ///< >= 0, prompt included

  std::optional<std::int64_t> no_repeat_ngram_size;                     ///< >= 0; 0 is off
  std::optional<std::vector<std::int32_t>> suppress_tokens;             ///< token ids
  std::optional<std::vector<std::vector<std::int32_t>>> bad_words_ids;  ///< token id sequences, none empty

  std::optional<std::int64_t> num_beams;             ///< >= 1
  std::optional<std::int64_t> num_return_sequences;  ///< >= 1
  std::optional<double> length_penalty;              ///< finite
  std::optional<EarlyStopping> early_stopping;
};

/// Reads the defaults from the object of a generation_config.json; null is absent, unknown keys are passed
/// over. Throws Error(kInvalidArgument) naming file, key, what is allowed and what was found.
GenerationDefaults parse_generation_defaults(const core::JsonView& config);

/// A token id: an integer from 0 to 2^31 - 1.
std::int32_t token_id(const core::JsonView& value);

/// A list of token ids.
std::vector<std::int32_t> token_ids(const core::JsonView& list);

}  // namespace peregrine::model_info
