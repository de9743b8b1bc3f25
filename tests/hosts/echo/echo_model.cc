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
  if (!submit.encoder_ids().empty()) fail(ErrorKind::kUnsupported, "encoder_ids are not supported");
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
  if (group.parameters.num_beams != 1) {
    fail(ErrorKind::kUnsupported, "num_beams is {}; beam search is not supported, it must be 1",
         group.parameters.num_beams);
  }
  if (group.parameters.n > options_.max_sequences) {
    fail(ErrorKind::kInvalidArgument, "n is {}; allowed is 1 to {}", group.parameters.n,
         options_.max_sequences);
  }
  const auto prompt = static_cast<std::int64_t>(submit.prompt_ids_size());
  if (prompt < 1 || prompt >= options_.max_model_len) {
    fail(ErrorKind::kInvalidArgument, "the prompt has {} tokens; a context of {} tokens allows 1 to {}",
         prompt, options_.max_model_len, options_.max_model_len - 1);
  }
  check_ids("prompt_ids", submit.prompt_ids());

  if (submit.generated_size() != 0 && submit.generated_size() != group.parameters.n) {
    fail(ErrorKind::kInvalidArgument,
         "generated has tokens of {} sequences; the request has n={} and must have as many, or none",
         submit.generated_size(), group.parameters.n);
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
              .parameters = channel::from_message(submit.sampling()),
              .sequences = {}};
  check(group, submit);
  group.sequences.resize(static_cast<std::size_t>(group.parameters.n));
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
  while (!waiting_.empty() && running + waiting_.front().parameters.n <= options_.max_sequences) {
    Group& group = waiting_.front();
    running += group.parameters.n;
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
  const std::size_t from = (static_cast<std::size_t>(position) + sequence) % group.prompt.size();
  generation::SampledToken sampled;
  sampled.token = {group.prompt[from], static_cast<float>(-(position % 8)) / 8.0f};
  const std::int32_t top = std::min(group.parameters.top_n_tokens, options_.vocab);
  for (std::int32_t k = 0; k < top; ++k) {
    const std::int64_t id = (static_cast<std::int64_t>(sampled.token.id) + k) % options_.vocab;
    sampled.top.push_back({static_cast<std::int32_t>(id), sampled.token.log_prob - static_cast<float>(k)});
  }
  channel::to_message(sampled, *event.add_tokens());
  return sampled.token.id;
}

void EchoModel::step(wire::Events& events) {
  admit();
  ++steps_;
  events.set_model(name_);
  for (Group& group : running_) {
    for (std::size_t s = 0; s < group.sequences.size(); ++s) {
      Sequence& sequence = group.sequences[s];
      if (sequence.ended) continue;
      wire::SequenceEvent& event = *events.add_sequences();
      event.set_request(group.request);
      event.set_sequence(static_cast<std::int32_t>(s));
      std::optional<FinishReason> end = sequence.ended_before;
      if (!end) {
        end = end_at(group, emit_token(group, s, event), sequence.length);
        ++sequence.length;
        ++decode_tokens_;
      }
      if (end) event.set_finish(channel::to_message(*end));
      sequence.ended = end.has_value();
    }
  }
  std::erase_if(running_,
                [](const Group& group) { return std::ranges::all_of(group.sequences, &Sequence::ended); });
  stats(*events.mutable_stats());
}

std::int32_t EchoModel::running_sequences() const {
  std::int64_t count = 0;
  for (const Group& group : running_) {
    count += std::ranges::count(group.sequences, false, &Sequence::ended);
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
