// SPDX-License-Identifier: Apache-2.0
#include "hosts/echo/echo_model.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "channel/convert.h"
#include "core/error.h"

namespace peregrine::echo {
namespace {

using core::ErrorKind;
using core::fail;
using generation::FinishReason;

bool contains(const std::vector<std::int32_t>& ids, std::int32_t id) {
  return std::ranges::find(ids, id) != ids.end();
}

void refuse_what_cannot_be(const wire::Submit& submit) {
  if (submit.kind() != wire::GENERATE) {
    fail(ErrorKind::kUnsupported, "requests of kind {} are not supported; this host generates (0)",
         static_cast<int>(submit.kind()));
  }
  if (!submit.adapter().empty()) fail(ErrorKind::kUnsupported, "adapters are not supported");
  if (!submit.grammar().empty()) fail(ErrorKind::kUnsupported, "grammars are not supported");
}

}  // namespace

EchoModel::EchoModel(std::string name, const Options& options) : name_(std::move(name)), options_(options) {}

void EchoModel::check_ids(std::string_view what,
                          const google::protobuf::RepeatedField<std::int32_t>& ids) const {
  for (int i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= options_.vocab) {
      fail(ErrorKind::kInvalidArgument, "{}[{}] is {}; the model's token ids are 0 to {}", what, i, ids[i],
           options_.vocab - 1);
    }
  }
}

void EchoModel::check(const Group& group, const wire::Submit& submit) const {
  const auto same = [&](const Group& other) { return other.request == group.request; };
  if (std::ranges::any_of(running_, same) || std::ranges::any_of(waiting_, same)) {
    fail(ErrorKind::kInvalidArgument, "request {} is here already", group.request);
  }
  if (group.parameters.computed_sequences() > options_.max_sequences) {
    fail(ErrorKind::kInvalidArgument,
         "the request has {} sequences (n, best_of, num_beams); allowed is 1 to {}",
         group.parameters.computed_sequences(), options_.max_sequences);
  }
  if (group.has_beams() && submit.generated_size() != 0) {
    fail(ErrorKind::kInvalidArgument, "generated has tokens of beams, which begin anew");
  }
  check_ids("encoder_ids", submit.encoder_ids());
  const auto prompt = static_cast<std::int64_t>(submit.prompt_ids_size());
  if (prompt < 1 || prompt >= options_.max_model_len) {
    fail(ErrorKind::kInvalidArgument, "the prompt has {} tokens; a context of {} tokens allows 1 to {}",
         prompt, options_.max_model_len, options_.max_model_len - 1);
  }
  check_ids("prompt_ids", submit.prompt_ids());

  const std::int32_t sequences = group.parameters.reported_sequences();
  if (submit.generated_size() != 0 && submit.generated_size() != sequences) {
    fail(ErrorKind::kInvalidArgument,
         "generated has tokens of {} sequences; the request has {} and must have as many, or none",
         submit.generated_size(), sequences);
  }
  const std::int64_t most =
      std::min<std::int64_t>(group.parameters.max_new_tokens, options_.max_model_len - prompt);
  for (const wire::TokenList& list : submit.generated()) {
    check_ids("generated", list.ids());
    if (list.ids_size() > most) {
      fail(ErrorKind::kInvalidArgument, "generated has {} tokens of one sequence; it can have {}",
           list.ids_size(), most);
    }
  }
}

void EchoModel::submit(const wire::Submit& submit) {
  refuse_what_cannot_be(submit);
  Group group{.request = submit.request(),
              .prompt = {submit.prompt_ids().begin(), submit.prompt_ids().end()},
              .text = {submit.encoder_ids().begin(), submit.encoder_ids().end()},
              .parameters = channel::from_message(submit.sampling()),
              .sequences = {}};
  check(group, submit);
  if (group.text.empty()) group.text = group.prompt;
  group.sequences.resize(static_cast<std::size_t>(group.parameters.reported_sequences()));
  for (int i = 0; i < submit.generated_size(); ++i) {
    const auto& ids = submit.generated(i).ids();
    if (ids.empty()) continue;
    Sequence& sequence = group.sequences[static_cast<std::size_t>(i)];
    sequence.length = ids.size();
    sequence.ended_before = end_at(group, ids[ids.size() - 1], ids.size() - 1);
  }
  waiting_.push_back(std::move(group));
}

void EchoModel::cancel(std::uint64_t request) {
  const auto same = [&](const Group& group) { return group.request == request; };
  std::erase_if(running_, same);
  std::erase_if(waiting_, same);
}

void EchoModel::admit() {
  std::int32_t running = running_sequences();
  while (!waiting_.empty() &&
         running + waiting_.front().parameters.computed_sequences() <= options_.max_sequences) {
    Group& group = waiting_.front();
    running += group.parameters.computed_sequences();
    prefill_tokens_ += group.prompt.size();
    running_.push_back(std::move(group));
    waiting_.pop_front();
  }
}

std::optional<FinishReason> EchoModel::end_at(const Group& group, std::int32_t token,
                                              std::int64_t position) const {
  const generation::Parameters& parameters = group.parameters;
  if (position >= parameters.min_new_tokens) {
    if (contains(parameters.eos_token_ids, token)) return FinishReason::kEosToken;
    if (contains(parameters.stop_token_ids, token)) return FinishReason::kStopSequence;
  }
  const std::int64_t length = position + 1;
  if (length >= parameters.max_new_tokens ||
      static_cast<std::int64_t>(group.prompt.size()) + length >= options_.max_model_len) {
    return FinishReason::kLength;
  }
  return std::nullopt;
}

std::int32_t EchoModel::emit_token(const Group& group, std::size_t sequence,
                                   wire::SequenceEvent& event) const {
  const std::int64_t position = group.sequences[sequence].length;
  const std::size_t from = (static_cast<std::size_t>(position) + sequence) % group.text.size();
  channel::to_message(echo(group.text[from], position, group.parameters.top_n_tokens), *event.add_tokens());
  return group.text[from];
}

generation::SampledToken EchoModel::echo(std::int32_t id, std::int64_t position, std::int32_t top) const {
  generation::SampledToken sampled;
  sampled.token = {id, static_cast<float>(-(position % 8)) / 8.0f};
  for (std::int32_t k = 0; k < std::min(top, options_.vocab); ++k) {
    const std::int64_t other = (static_cast<std::int64_t>(id) + k) % options_.vocab;
    sampled.top.push_back({static_cast<std::int32_t>(other), sampled.token.log_prob - static_cast<float>(k)});
  }
  return sampled;
}

void EchoModel::step(Group& group, std::size_t index, wire::SequenceEvent& event) {
  Sequence& sequence = group.sequences[index];
  event.set_request(group.request);
  event.set_sequence(static_cast<std::int32_t>(index));
  std::optional<FinishReason> end = sequence.ended_before;
  if (!end) {
    end = end_at(group, emit_token(group, index, event), sequence.length);
    ++sequence.length;
    ++decode_tokens_;
  }
  if (end) event.set_finish(channel::to_message(*end));
  sequence.ended = end.has_value();
}

bool EchoModel::step_prompt(Group& group, wire::Events& events) const {
  const auto size = static_cast<std::int32_t>(group.prompt.size());
  if (!group.parameters.prompt_logprobs || group.next_prompt >= size) return false;
  wire::SequenceEvent& event = *events.add_sequences();
  event.set_request(group.request);
  event.set_prompt_start(group.next_prompt);
  const std::int32_t end = std::min(group.next_prompt + kPromptPiece, size);
  for (; group.next_prompt < end; ++group.next_prompt) {
    const std::int32_t id = group.prompt[static_cast<std::size_t>(group.next_prompt)];
    channel::to_message(echo(id, group.next_prompt, *group.parameters.prompt_logprobs), *event.add_prompt());
  }
  return true;
}

void EchoModel::step_beams(Group& group, wire::Events& events) {
  ++group.steps;
  wire::Events all;
  for (std::size_t s = 0; s < group.sequences.size(); ++s) {
    wire::SequenceEvent& event = *all.add_sequences();
    group.sequences[s] = {};
    while (!group.sequences[s].ended && group.sequences[s].length < group.steps) step(group, s, event);
    event.set_score(-static_cast<float>(s + 1) / 4.0f);
  }
  if (group.ended()) {
    events.mutable_sequences()->Add(all.sequences().begin(), all.sequences().end());
  } else {
    for (Sequence& sequence : group.sequences) sequence.ended = false;
  }
}

bool EchoModel::Group::ended() const { return std::ranges::all_of(sequences, &Sequence::ended); }

void EchoModel::step(wire::Events& events) {
  admit();
  ++steps_;
  events.set_model(name_);
  for (Group& group : running_) {
    if (step_prompt(group, events)) continue;
    if (group.has_beams()) {
      step_beams(group, events);
      continue;
    }
    for (std::size_t s = 0; s < group.sequences.size(); ++s) {
      if (!group.sequences[s].ended) step(group, s, *events.add_sequences());
    }
  }
  std::erase_if(running_, [](const Group& group) { return group.ended(); });
  stats(*events.mutable_stats());
}

std::int32_t EchoModel::running_sequences() const {
  std::int64_t count = 0;
  for (const Group& group : running_) {
    count += group.has_beams() ? group.parameters.num_beams
                               : std::ranges::count(group.sequences, false, &Sequence::ended);
  }
  return static_cast<std::int32_t>(count);
}

void EchoModel::stats(wire::Stats& stats) const {
  stats.set_model(name_);
  stats.set_steps(steps_);
  stats.set_prefill_tokens(prefill_tokens_);
  stats.set_decode_tokens(decode_tokens_);
  stats.set_running(running_sequences());
  stats.set_waiting(static_cast<std::int32_t>(waiting_.size()));
}

}  // namespace peregrine::echo
