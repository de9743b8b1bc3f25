// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/json/value.hpp>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace peregrine::generation {

/// Why a sequence ended. Names as LMI writes them: "length", "eos_token", "stop_sequence", "error", "abort".
enum class FinishReason : std::uint8_t { kLength, kEosToken, kStopSequence, kError, kAbort };
const char* to_string(FinishReason reason);

/// What a request may ask of generation: Hugging Face's and LMI's parameters, resolved (model defaults
/// applied, aliases gone). Defaults here mean "off".
struct Parameters {
  std::int32_t max_new_tokens = 30;  ///< LMI's default.
  /// Before the output has so many tokens, none of eos_token_ids and stop_token_ids is drawn.
  std::int32_t min_new_tokens = 0;
  std::int32_t min_length = 0;  ///< The same, but counts the prompt too, as transformers does.

  bool do_sample = false;    ///< false: the highest logit, lowest id on ties.
  float temperature = 1.0f;  ///< Below 1e-5 is greedy.
  std::int32_t top_k = 0;    ///< 0: off. Ties of the k-th are kept, as transformers does.
  float top_p = 1.0f;        ///< Holtzman et al. 2020; ties to the lower id; 1: off.
  float min_p = 0.0f;        ///< Relative to the most likely token; 0: off.
  float typical_p = 1.0f;    ///< Meister et al. 2022; 1: off.
  std::optional<std::uint64_t> seed;

  float repetition_penalty = 1.0f;  ///< Keskar et al. 2019, over prompt and generated tokens; 1: off.
  float presence_penalty = 0.0f;    ///< OpenAI's, over generated tokens.
  float frequency_penalty = 0.0f;   ///< OpenAI's, over generated tokens.
  std::int32_t no_repeat_ngram_size = 0;
  std::vector<std::vector<std::int32_t>> bad_words_ids;
  std::vector<std::int32_t> suppress_tokens;

  /// Tokens that end a sequence; empty: none does.
  std::vector<std::int32_t> eos_token_ids;
  /// Further tokens that end a sequence, with finish reason stop_sequence (vLLM's stop_token_ids).
  std::vector<std::int32_t> stop_token_ids;

  std::int32_t n = 1;             ///< Sequences sampled from one prompt.
  std::int32_t num_beams = 1;     ///< More than 1 is refused until beam search exists.
  std::int32_t top_n_tokens = 0;  ///< Most likely tokens reported per position.
};

}  // namespace peregrine::generation
