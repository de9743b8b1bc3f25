// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
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

/// When a beam search ends (transformers' early_stopping): once there are num_beams finished hypotheses
/// (kTrue); when, judged by the best open beam as it is now, no better one is likely (kFalse); or when none
/// is possible whatever length the open beams may reach (kNever).
enum class EarlyStopping : std::uint8_t { kFalse, kTrue, kNever };

/// What is added to the logit of the last of `ids` where the others stand before it.
struct SequenceBias {
  std::vector<std::int32_t> ids;
  float bias = 0.0f;
  bool operator==(const SequenceBias&) const = default;
};

/// From when on, and how fast, end tokens become more likely.
struct ExponentialDecay {
  std::int32_t start = 0;  ///< Tokens of the output before it begins.
  float factor = 1.0f;     ///< For each token beyond them.
  bool operator==(const ExponentialDecay&) const = default;
};

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
  float epsilon_cutoff = 0;  ///< Hewitt et al. 2022, section 4.2; 0: off.
  float eta_cutoff = 0;      ///< Hewitt et al. 2022, section 4.3; 0: off.
  std::optional<std::uint64_t> seed;

  float repetition_penalty = 1.0f;  ///< Keskar et al. 2019, over prompt and generated tokens; 1: off.
  float presence_penalty = 0.0f;    ///< OpenAI's, over generated tokens.
  float frequency_penalty = 0.0f;   ///< OpenAI's, over generated tokens.
  std::int32_t no_repeat_ngram_size = 0;
  /// Makes tokens of the encoder's text (without an encoder: of the prompt) more likely; 1: off.
  float encoder_repetition_penalty = 1.0f;
  std::int32_t encoder_no_repeat_ngram_size = 0;  ///< No n-gram of that text appears in the output; 0: off.
  std::vector<SequenceBias> sequence_bias;        ///< Of equal sequences the last counts.
  std::vector<std::vector<std::int32_t>> bad_words_ids;
  std::vector<std::int32_t> suppress_tokens;
  std::vector<std::int32_t> begin_suppress_tokens;  ///< Not drawn as the first token.
  /// Drawn as the first token where the prompt is one token (a decoder's start token).
  std::optional<std::int32_t> forced_bos_token_id;
  std::vector<std::int32_t> forced_eos_token_ids;  ///< One of them is drawn as the max_new_tokens-th token.
  std::optional<ExponentialDecay> exponential_decay_length_penalty;
  /// Whether what processors left is made to probabilities again, which changes the scores of beams.
  bool renormalize_logits = false;

  /// Tokens that end a sequence; empty: none does.
  std::vector<std::int32_t> eos_token_ids;
  /// Further tokens that end a sequence, with finish reason stop_sequence (vLLM's stop_token_ids).
  std::vector<std::int32_t> stop_token_ids;

  /// Sequences that are returned: of those sampled the best ones, or of the beams the best hypotheses.
  std::int32_t n = 1;
  /// Sequences that are sampled, where more than n: the n with the highest log-probability per token are
  /// returned, which whoever receives the tokens chooses. No effect with beams.
  std::int32_t best_of = 1;

  // Beam search, where num_beams > 1 (transformers' BeamSearchScorer); nothing is sampled then.
  std::int32_t num_beams = 1;
  std::int32_t num_beam_groups = 1;  ///< Divides num_beams (Vijayakumar et al. 2018).
  float diversity_penalty = 0.0f;  ///< For tokens that earlier groups chose in the same step; above 1 group.
  float length_penalty = 1.0f;     ///< A hypothesis scores sum of log-probabilities / length^length_penalty.
  EarlyStopping early_stopping = EarlyStopping::kFalse;
  /// Texts that end a hypothesis as an end token does. Only with beams: elsewhere the server finds them,
  /// which has the text.
  std::vector<std::string> stop_strings;

  std::int32_t top_n_tokens = 0;  ///< Most likely tokens reported per position.
  /// Whether the log-probabilities of the prompt's tokens (from the second) are reported, each with so many
  /// of the most likely tokens.
  std::optional<std::int32_t> prompt_logprobs;

  /// Sequences that take room in the batch.
  std::int32_t computed_sequences() const { return num_beams > 1 ? num_beams : std::max(n, best_of); }
  /// Sequences whose tokens the engine reports.
  std::int32_t reported_sequences() const { return num_beams > 1 ? n : std::max(n, best_of); }
};

}  // namespace peregrine::generation
