// SPDX-License-Identifier: Apache-2.0
#include "decoding/processors.h"

#include <algorithm>

#include "core/error.h"
#include "decoding/bad_words.h"
#include "decoding/forbidden_tokens.h"
#include "decoding/no_repeat_ngram.h"
#include "decoding/penalties.h"

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

ProcessorChain::ProcessorChain(const generation::Parameters& parameters, std::int64_t vocab_size,
                               std::int64_t prompt_size, std::size_t tokens_expected) {
  const std::size_t distinct = std::min(tokens_expected, static_cast<std::size_t>(vocab_size));
  if (parameters.repetition_penalty != 1.0f) {
    processors_.push_back(std::make_unique<RepetitionPenalty>(parameters.repetition_penalty, distinct));
  }
  if (parameters.presence_penalty != 0.0f || parameters.frequency_penalty != 0.0f) {
    processors_.push_back(std::make_unique<PresenceFrequencyPenalty>(parameters.presence_penalty,
                                                                     parameters.frequency_penalty, distinct));
  }
  if (parameters.no_repeat_ngram_size > 0) {
    processors_.push_back(std::make_unique<NoRepeatNgram>(parameters.no_repeat_ngram_size, tokens_expected));
  }
  if (!parameters.bad_words_ids.empty()) {
    for (const auto& word : parameters.bad_words_ids) check_ids(word, vocab_size, "bad_words_ids");
    processors_.push_back(std::make_unique<BadWords>(parameters.bad_words_ids, parameters.eos_token_ids));
  }
  const std::int64_t minimum = std::max<std::int64_t>(
      parameters.min_length, parameters.min_new_tokens > 0 ? prompt_size + parameters.min_new_tokens : 0);
  if (minimum > prompt_size) {
    processors_.push_back(
        std::make_unique<MinimumSize>(static_cast<std::size_t>(minimum), end_ids(parameters, vocab_size)));
  }
  if (!parameters.suppress_tokens.empty()) {
    check_ids(parameters.suppress_tokens, vocab_size, "suppress_tokens");
    processors_.push_back(std::make_unique<SuppressTokens>(parameters.suppress_tokens));
  }
}

void ProcessorChain::append(std::span<const std::int32_t> tokens, bool generated) {
  for (const auto& processor : processors_) processor->append(tokens, generated);
}

void ProcessorChain::apply(std::span<float> logits, std::span<const std::int32_t> tokens) const {
  for (const auto& processor : processors_) processor->apply(logits, tokens);
}

}  // namespace peregrine::decoding
