// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "generation/parameter_set.h"

namespace peregrine::generation {

/// What was asked for, each value within its own range; nothing where it was not.
struct Requested {
  using Tokens = std::vector<std::int32_t>;

  std::optional<std::int64_t> max_new_tokens, max_length, min_new_tokens, min_length;
  std::optional<bool> do_sample;
  std::optional<double> temperature, top_p, min_p, typical_p, epsilon_cutoff, eta_cutoff;
  std::optional<std::int64_t> top_k;
  std::optional<std::uint64_t> seed;
  std::optional<double> repetition_penalty, presence_penalty, frequency_penalty, encoder_repetition_penalty;
  std::optional<std::int64_t> no_repeat_ngram_size, encoder_no_repeat_ngram_size;
  std::vector<SequenceBias> sequence_bias;
  std::optional<std::vector<Tokens>> bad_words_ids;
  std::optional<Tokens> suppress_tokens, begin_suppress_tokens, eos_token_id, stop_token_ids;
  std::optional<Tokens> forced_bos_token_id;  ///< One.
  std::optional<Tokens> forced_eos_token_id;
  std::optional<ExponentialDecay> exponential_decay_length_penalty;
  std::optional<bool> ignore_eos_token, renormalize_logits;
  std::optional<std::int64_t> n, best_of, top_n_tokens, prompt_logprobs;
  std::optional<std::int64_t> num_beams, num_beam_groups;
  std::optional<double> diversity_penalty, beam_search_diversity_rate, length_penalty;
  std::optional<EarlyStopping> early_stopping;
};

/// A parameter as the table has it: what it is, and how it is read.
struct Definition {
  ParameterInfo info;
  /// Reads a value that is not null. Throws Error(kInvalidArgument or kUnsupported) that names view.where().
  std::function<void(const core::JsonView& view, Requested& requested)> read;
};

/// All definitions, in documentation order.
const std::vector<Definition>& definitions();

/// The definition with this name or alias, or null.
const Definition* find_definition(std::string_view name);

}  // namespace peregrine::generation
