// SPDX-License-Identifier: Apache-2.0
#include "channel/convert.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace peregrine::channel {
namespace {

using core::ErrorKind;
using core::fail;
using generation::FinishReason;
using Ids = google::protobuf::RepeatedField<std::int32_t>;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kSmallest = std::numeric_limits<float>::min();

/// `value`, which must be in [low, high] and finite (a NaN is in no range).
float checked(std::string_view name, float value, float low, float high) {
  if (!(value >= low && value <= high) || !std::isfinite(value)) {
    fail(ErrorKind::kInvalidArgument, "{} is {}; it must be a finite number from {} to {}", name, value, low,
         high);
  }
  return value;
}

std::int32_t at_least(std::string_view name, std::int32_t value, std::int32_t low) {
  if (value < low) fail(ErrorKind::kInvalidArgument, "{} is {}; it must be at least {}", name, value, low);
  return value;
}

std::vector<std::int32_t> checked_ids(std::string_view name, const Ids& ids) {
  for (int i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0) {
      fail(ErrorKind::kInvalidArgument, "{}[{}] is {}; token ids are not negative", name, i, ids[i]);
    }
  }
  return {ids.begin(), ids.end()};
}

generation::EarlyStopping early_stopping(std::int32_t value) {
  using generation::EarlyStopping;
  for (const EarlyStopping known : {EarlyStopping::kFalse, EarlyStopping::kTrue, EarlyStopping::kNever}) {
    if (value == static_cast<std::int32_t>(known)) return known;
  }
  fail(ErrorKind::kInvalidArgument, "early_stopping is {}; it must be 0 (false), 1 (true) or 2 (never)",
       value);
}

/// How many sequences there are, and how they are searched for.
void read_sequences(const wire::Sampling& message, generation::Parameters& parameters) {
  parameters.n = at_least("n", message.n(), 1);
  parameters.num_beams = at_least("num_beams", message.num_beams(), 1);
  parameters.best_of = at_least("best_of", message.best_of(), 1);
  if (parameters.num_beams > 1 && parameters.n > parameters.num_beams) {
    fail(ErrorKind::kInvalidArgument, "n is {}; it must be at most num_beams, {}", parameters.n,
         parameters.num_beams);
  }
  parameters.num_beam_groups = at_least("num_beam_groups", message.num_beam_groups(), 1);
  parameters.diversity_penalty =
      checked("diversity_penalty", message.diversity_penalty(), -kInfinity, kInfinity);
  parameters.length_penalty = checked("length_penalty", message.length_penalty(), -kInfinity, kInfinity);
  parameters.early_stopping = early_stopping(message.early_stopping());
  for (const std::string& text : message.stop_strings()) {
    if (text.empty()) fail(ErrorKind::kInvalidArgument, "stop_strings holds an empty one");
    parameters.stop_strings.push_back(text);
  }
}

void set_ids(const std::vector<std::int32_t>& ids, Ids& message) { message.Assign(ids.begin(), ids.end()); }

/// What is forbidden, forced or made less likely, beside penalties and bad words.
void write_restrictions(const generation::Parameters& parameters, wire::Sampling& message) {
  message.set_epsilon_cutoff(parameters.epsilon_cutoff);
  message.set_eta_cutoff(parameters.eta_cutoff);
  message.set_encoder_repetition_penalty(parameters.encoder_repetition_penalty);
  message.set_encoder_no_repeat_ngram_size(parameters.encoder_no_repeat_ngram_size);
  message.clear_sequence_bias();
  for (const generation::SequenceBias& bias : parameters.sequence_bias) {
    wire::SequenceBias& entry = *message.add_sequence_bias();
    set_ids(bias.ids, *entry.mutable_ids());
    entry.set_bias(bias.bias);
  }
  set_ids(parameters.begin_suppress_tokens, *message.mutable_begin_suppress_tokens());
  message.clear_forced_bos_token_id();
  if (parameters.forced_bos_token_id) message.set_forced_bos_token_id(*parameters.forced_bos_token_id);
  set_ids(parameters.forced_eos_token_ids, *message.mutable_forced_eos_token_ids());
  message.clear_exponential_decay_length_penalty();
  if (const auto& decay = parameters.exponential_decay_length_penalty) {
    message.mutable_exponential_decay_length_penalty()->set_start(decay->start);
    message.mutable_exponential_decay_length_penalty()->set_factor(decay->factor);
  }
  message.set_renormalize_logits(parameters.renormalize_logits);
}

void read_restrictions(const wire::Sampling& message, generation::Parameters& parameters) {
  parameters.epsilon_cutoff = checked("epsilon_cutoff", message.epsilon_cutoff(), 0, 1);
  parameters.eta_cutoff = checked("eta_cutoff", message.eta_cutoff(), 0, 1);
  parameters.encoder_repetition_penalty =
      checked("encoder_repetition_penalty", message.encoder_repetition_penalty(), kSmallest, kInfinity);
  parameters.encoder_no_repeat_ngram_size =
      at_least("encoder_no_repeat_ngram_size", message.encoder_no_repeat_ngram_size(), 0);
  for (const wire::SequenceBias& bias : message.sequence_bias()) {
    if (bias.ids().empty()) fail(ErrorKind::kInvalidArgument, "sequence_bias holds a list without tokens");
    parameters.sequence_bias.push_back({checked_ids("sequence_bias", bias.ids()),
                                        checked("sequence_bias", bias.bias(), -kInfinity, kInfinity)});
  }
  parameters.begin_suppress_tokens = checked_ids("begin_suppress_tokens", message.begin_suppress_tokens());
  if (message.has_forced_bos_token_id()) {
    parameters.forced_bos_token_id = at_least("forced_bos_token_id", message.forced_bos_token_id(), 0);
  }
  parameters.forced_eos_token_ids = checked_ids("forced_eos_token_ids", message.forced_eos_token_ids());
  if (message.has_exponential_decay_length_penalty()) {
    const wire::ExponentialDecay& decay = message.exponential_decay_length_penalty();
    parameters.exponential_decay_length_penalty = {
        at_least("exponential_decay_length_penalty", decay.start(), 0),
        checked("exponential_decay_length_penalty", decay.factor(), kSmallest, kInfinity)};
  }
  parameters.renormalize_logits = message.renormalize_logits();
}

}  // namespace

void to_message(const generation::Parameters& parameters, wire::Sampling& message) {
  message.set_max_new_tokens(parameters.max_new_tokens);
  message.set_min_new_tokens(parameters.min_new_tokens);
  message.set_min_length(parameters.min_length);
  message.set_do_sample(parameters.do_sample);
  message.set_temperature(parameters.temperature);
  message.set_top_k(parameters.top_k);
  message.set_top_p(parameters.top_p);
  message.set_min_p(parameters.min_p);
  message.set_typical_p(parameters.typical_p);
  message.set_repetition_penalty(parameters.repetition_penalty);
  message.set_presence_penalty(parameters.presence_penalty);
  message.set_frequency_penalty(parameters.frequency_penalty);
  message.set_no_repeat_ngram_size(parameters.no_repeat_ngram_size);
  write_restrictions(parameters, message);
  message.clear_bad_words_ids();
  for (const auto& word : parameters.bad_words_ids)
    set_ids(word, *message.add_bad_words_ids()->mutable_ids());
  set_ids(parameters.suppress_tokens, *message.mutable_suppress_tokens());
  set_ids(parameters.eos_token_ids, *message.mutable_eos_token_ids());
  set_ids(parameters.stop_token_ids, *message.mutable_stop_token_ids());
  message.set_n(parameters.n);
  message.set_best_of(parameters.best_of);
  message.set_num_beams(parameters.num_beams);
  message.set_num_beam_groups(parameters.num_beam_groups);
  message.set_diversity_penalty(parameters.diversity_penalty);
  message.set_length_penalty(parameters.length_penalty);
  message.set_early_stopping(static_cast<std::int32_t>(parameters.early_stopping));
  message.mutable_stop_strings()->Assign(parameters.stop_strings.begin(), parameters.stop_strings.end());
  message.set_top_n_tokens(parameters.top_n_tokens);
  message.clear_prompt_logprobs();
  if (parameters.prompt_logprobs) message.set_prompt_logprobs(*parameters.prompt_logprobs);
}

generation::Parameters from_message(const wire::Sampling& message) {
  generation::Parameters parameters;
  parameters.max_new_tokens = at_least("max_new_tokens", message.max_new_tokens(), 1);
  parameters.min_new_tokens = at_least("min_new_tokens", message.min_new_tokens(), 0);
  parameters.min_length = at_least("min_length", message.min_length(), 0);
  parameters.do_sample = message.do_sample();
  parameters.temperature = checked("temperature", message.temperature(), 0, kInfinity);
  parameters.top_k = at_least("top_k", message.top_k(), 0);
  parameters.top_p = checked("top_p", message.top_p(), 0, 1);
  parameters.min_p = checked("min_p", message.min_p(), 0, 1);
  parameters.typical_p = checked("typical_p", message.typical_p(), 0, 1);
  // Logits are divided by it.
  parameters.repetition_penalty =
      checked("repetition_penalty", message.repetition_penalty(), kSmallest, kInfinity);
  parameters.presence_penalty =
      checked("presence_penalty", message.presence_penalty(), -kInfinity, kInfinity);
  parameters.frequency_penalty =
      checked("frequency_penalty", message.frequency_penalty(), -kInfinity, kInfinity);
  parameters.no_repeat_ngram_size = at_least("no_repeat_ngram_size", message.no_repeat_ngram_size(), 0);
  read_restrictions(message, parameters);
  parameters.bad_words_ids.reserve(static_cast<std::size_t>(message.bad_words_ids_size()));
  for (const wire::TokenList& word : message.bad_words_ids()) {
    if (word.ids().empty()) fail(ErrorKind::kInvalidArgument, "bad_words_ids holds a list without tokens");
    parameters.bad_words_ids.push_back(checked_ids("bad_words_ids", word.ids()));
  }
  parameters.suppress_tokens = checked_ids("suppress_tokens", message.suppress_tokens());
  parameters.eos_token_ids = checked_ids("eos_token_ids", message.eos_token_ids());
  parameters.stop_token_ids = checked_ids("stop_token_ids", message.stop_token_ids());
  read_sequences(message, parameters);
  parameters.top_n_tokens = at_least("top_n_tokens", message.top_n_tokens(), 0);
  if (message.has_prompt_logprobs()) {
    parameters.prompt_logprobs = at_least("prompt_logprobs", message.prompt_logprobs(), 0);
  }
  return parameters;
}

void to_message(const generation::SampledToken& token, wire::SampledToken& message) {
  message.set_id(token.token.id);
  message.set_log_prob(token.token.log_prob);
  message.clear_top();
  for (const generation::TokenLogProb& top : token.top) {
    wire::TokenLogProb& entry = *message.add_top();
    entry.set_id(top.id);
    entry.set_log_prob(top.log_prob);
  }
}

generation::SampledToken from_message(const wire::SampledToken& message) {
  generation::SampledToken token{{message.id(), message.log_prob()}, {}};
  token.top.reserve(static_cast<std::size_t>(message.top_size()));
  for (const wire::TokenLogProb& top : message.top()) token.top.push_back({top.id(), top.log_prob()});
  return token;
}

wire::Finish to_message(generation::FinishReason reason) {
  switch (reason) {
    case FinishReason::kLength:
      return wire::LENGTH;
    case FinishReason::kEosToken:
      return wire::EOS_TOKEN;
    case FinishReason::kStopSequence:
      return wire::STOP_SEQUENCE;
    case FinishReason::kError:
      return wire::ERROR;
    case FinishReason::kAbort:
      return wire::ABORT;
  }
  fail(ErrorKind::kInternal, "{} is no finish reason", static_cast<int>(reason));
}

std::optional<generation::FinishReason> from_message(wire::Finish finish) {
  switch (finish) {
    case wire::RUNNING:
      return std::nullopt;
    case wire::LENGTH:
      return FinishReason::kLength;
    case wire::EOS_TOKEN:
      return FinishReason::kEosToken;
    case wire::STOP_SEQUENCE:
      return FinishReason::kStopSequence;
    case wire::ERROR:
      return FinishReason::kError;
    case wire::ABORT:
      return FinishReason::kAbort;
    default:  // An enumeration of proto3 can hold any number.
      fail(ErrorKind::kDataLoss, "the channel has a finish reason {}; there are 0 to {}",
           static_cast<int>(finish), static_cast<int>(wire::Finish_MAX));
  }
}

void to_message(const core::Error& error, wire::Error& message) {
  const auto kind = [&] {
    switch (error.kind()) {
      case ErrorKind::kInvalidArgument:
        return wire::Error::INVALID_ARGUMENT;
      case ErrorKind::kNotFound:
        return wire::Error::NOT_FOUND;
      case ErrorKind::kUnsupported:
        return wire::Error::UNSUPPORTED;
      case ErrorKind::kOverloaded:
        return wire::Error::OVERLOADED;
      case ErrorKind::kDeadline:
        return wire::Error::DEADLINE;
      case ErrorKind::kDataLoss:
        return wire::Error::DATA_LOSS;
      case ErrorKind::kInternal:
        break;
    }
    return wire::Error::INTERNAL;
  };
  message.set_kind(kind());
  message.set_message(error.what());
}

core::Error from_message(const wire::Error& message) {
  const auto kind = [&] {
    switch (message.kind()) {
      case wire::Error::INVALID_ARGUMENT:
        return ErrorKind::kInvalidArgument;
      case wire::Error::NOT_FOUND:
        return ErrorKind::kNotFound;
      case wire::Error::UNSUPPORTED:
        return ErrorKind::kUnsupported;
      case wire::Error::OVERLOADED:
        return ErrorKind::kOverloaded;
      case wire::Error::DEADLINE:
        return ErrorKind::kDeadline;
      case wire::Error::DATA_LOSS:
        return ErrorKind::kDataLoss;
      default:  // INTERNAL, and what a newer host may know.
        return ErrorKind::kInternal;
    }
  };
  return {kind(), message.message()};
}

}  // namespace peregrine::channel
