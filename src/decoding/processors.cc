// SPDX-License-Identifier: Apache-2.0
#include "decoding/processors.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "decoding/bad_words.h"
#include "decoding/encoder_repetition.h"
#include "decoding/forbidden_tokens.h"
#include "decoding/forced_tokens.h"
#include "decoding/length_decay.h"
#include "decoding/no_repeat_ngram.h"
#include "decoding/penalties.h"
#include "decoding/renormalize.h"
#include "decoding/sequence_bias.h"

namespace peregrine::decoding {
namespace {

void check_ids(std::span<const std::int32_t> ids, std::int64_t vocab_size, const char* name) {
  for (const std::int32_t id : ids) {
    if (id < 0 || id >= vocab_size) {
      core::fail(core::ErrorKind::kInvalidArgument,
                 "parameter '{}' must hold token ids from 0 to {}, found {}", name, vocab_size - 1, id);
    }
  }
}

/// The end and stop tokens that the model could draw at all.
std::vector<std::int32_t> end_ids(const generation::Parameters& parameters, std::int64_t vocab_size) {
  std::vector<std::int32_t> ids = parameters.eos_token_ids;
  ids.insert(ids.end(), parameters.stop_token_ids.begin(), parameters.stop_token_ids.end());
  std::erase_if(ids, [&](std::int32_t id) { return id < 0 || id >= vocab_size; });
  return ids;
}

}  // namespace

template <typename Processor, typename... Arguments>
void ProcessorChain::add(Arguments&&... arguments) {
  processors_.push_back(std::make_shared<Processor>(std::forward<Arguments>(arguments)...));
}

ProcessorChain::ProcessorChain(const generation::Parameters& parameters, std::int64_t vocab_size,
                               std::int64_t prompt_size, std::size_t tokens_expected,
                               std::span<const std::int32_t> encoder_ids) {
  add_biases(parameters, vocab_size);
  if (parameters.encoder_repetition_penalty != 1.0f || parameters.encoder_no_repeat_ngram_size > 0) {
    check_ids(encoder_ids, vocab_size, "encoder_ids");
  }
  add_penalties(parameters, std::min(tokens_expected, static_cast<std::size_t>(vocab_size)), encoder_ids);
  add_restrictions(parameters, vocab_size, tokens_expected, encoder_ids);
  add_ends(parameters, vocab_size, prompt_size);
  if (parameters.renormalize_logits) add<Renormalize>();
}

void ProcessorChain::add_biases(const generation::Parameters& parameters, std::int64_t vocab_size) {
  if (!parameters.sequence_bias.empty()) {
    for (const auto& bias : parameters.sequence_bias) check_ids(bias.ids, vocab_size, "sequence_bias");
    add<SequenceBiases>(parameters.sequence_bias);
  }
  before_diversity_ = processors_.size();
}

void ProcessorChain::add_penalties(const generation::Parameters& parameters, std::size_t distinct,
                                   std::span<const std::int32_t> encoder_ids) {
  if (parameters.encoder_repetition_penalty != 1.0f && !encoder_ids.empty()) {
    add<EncoderRepetition>(parameters.encoder_repetition_penalty, encoder_ids);
  }
  if (parameters.repetition_penalty != 1.0f) add<RepetitionPenalty>(parameters.repetition_penalty, distinct);
  if (parameters.presence_penalty != 0.0f || parameters.frequency_penalty != 0.0f) {
    add<PresenceFrequencyPenalty>(parameters.presence_penalty, parameters.frequency_penalty, distinct);
  }
}

void ProcessorChain::add_restrictions(const generation::Parameters& parameters, std::int64_t vocab_size,
                                      std::size_t tokens_expected,
                                      std::span<const std::int32_t> encoder_ids) {
  if (parameters.no_repeat_ngram_size > 0) {
    add<NoRepeatNgram>(parameters.no_repeat_ngram_size, tokens_expected);
  }
  if (parameters.encoder_no_repeat_ngram_size > 0 && !encoder_ids.empty()) {
    add<EncoderNoRepeatNgram>(parameters.encoder_no_repeat_ngram_size, encoder_ids);
  }
  if (!parameters.bad_words_ids.empty()) {
    for (const auto& word : parameters.bad_words_ids) check_ids(word, vocab_size, "bad_words_ids");
    add<BadWords>(parameters.bad_words_ids, parameters.eos_token_ids);
  }
}

void ProcessorChain::add_ends(const generation::Parameters& parameters, std::int64_t vocab_size,
                              std::int64_t prompt_size) {
  const auto prompt = static_cast<std::size_t>(prompt_size);
  const std::int64_t minimum = std::max<std::int64_t>(
      parameters.min_length, parameters.min_new_tokens > 0 ? prompt_size + parameters.min_new_tokens : 0);
  if (minimum > prompt_size) {
    add<MinimumSize>(static_cast<std::size_t>(minimum), end_ids(parameters, vocab_size));
  }
  if (parameters.forced_bos_token_id && prompt <= 1) {
    const std::vector<std::int32_t> first = {*parameters.forced_bos_token_id};
    check_ids(first, vocab_size, "forced_bos_token_id");
    add<ForcedTokens>(std::size_t{1}, first);
  }
  if (!parameters.forced_eos_token_ids.empty()) {
    check_ids(parameters.forced_eos_token_ids, vocab_size, "forced_eos_token_id");
    const auto last = static_cast<std::size_t>(std::max(parameters.max_new_tokens, 1) - 1);
    add<ForcedTokens>(prompt + last, parameters.forced_eos_token_ids);
  }
  if (const auto& decay = parameters.exponential_decay_length_penalty) {
    std::vector<std::int32_t> ends = parameters.eos_token_ids;
    std::erase_if(ends, [&](std::int32_t id) { return id < 0 || id >= vocab_size; });
    add<LengthDecay>(prompt + static_cast<std::size_t>(std::max(decay->start, 0)), decay->factor,
                     std::move(ends));
  }
  if (!parameters.suppress_tokens.empty()) {
    check_ids(parameters.suppress_tokens, vocab_size, "suppress_tokens");
    add<SuppressTokens>(parameters.suppress_tokens);
  }
  if (!parameters.begin_suppress_tokens.empty()) {
    check_ids(parameters.begin_suppress_tokens, vocab_size, "begin_suppress_tokens");
    // Behind a first token that is forced, if it is.
    const bool forced = parameters.forced_bos_token_id && prompt <= 1;
    add<SuppressAtBegin>(prompt + (forced ? 1 : 0), parameters.begin_suppress_tokens);
  }
}

ProcessorChain::ProcessorChain(const ProcessorChain& other) : before_diversity_(other.before_diversity_) {
  processors_.reserve(other.processors_.size());
  for (const auto& processor : other.processors_) {
    std::shared_ptr<LogitsProcessor> copy = processor->clone();
    processors_.push_back(copy != nullptr ? std::move(copy) : processor);
  }
}

ProcessorChain& ProcessorChain::operator=(const ProcessorChain& other) {
  if (processors_.size() != other.processors_.size()) {  // This one was moved from.
    return *this = ProcessorChain(other);
  }
  for (std::size_t i = 0; i < processors_.size(); ++i) {
    if (processors_[i] != other.processors_[i]) processors_[i]->assign(*other.processors_[i]);
  }
  return *this;
}

void ProcessorChain::append(std::span<const std::int32_t> tokens, bool generated) {
  for (const auto& processor : processors_) processor->append(tokens, generated);
}

void ProcessorChain::apply(std::span<float> logits, std::span<const std::int32_t> tokens,
                           std::span<const TokenPenalty> diversity) const {
  const auto diversity_here = processors_.begin() + static_cast<std::ptrdiff_t>(before_diversity_);
  for (auto next = processors_.begin(); next != diversity_here; ++next) (*next)->apply(logits, tokens);
  for (const auto& [id, penalty] : diversity) logits[static_cast<std::size_t>(id)] -= penalty;
  for (auto next = diversity_here; next != processors_.end(); ++next) (*next)->apply(logits, tokens);
}

}  // namespace peregrine::decoding
