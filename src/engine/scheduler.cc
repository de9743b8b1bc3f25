// SPDX-License-Identifier: Apache-2.0
#include "engine/scheduler.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/error.h"

// Requests on their way in and out, and what steps drew. Planning is in scheduler_plan.cc, scheduler_texts.cc
// and scheduler_beams.cc.

namespace peregrine::engine {

using core::ErrorKind;

Scheduler::Scheduler(const BatchLimits& limits) : limits_(limits), pool_(limits.kv_blocks) {
  const auto sequences = static_cast<std::size_t>(limits.max_sequences);
  for (std::int32_t slot = limits.max_sequences - 1; slot >= 0; --slot) free_slots_.push_back(slot);
  running_.reserve(sequences);
  steps_.reserve(static_cast<std::size_t>(limits.steps_in_flight));
  for (std::int32_t i = 0; i < limits.steps_in_flight; ++i) {
    Step& step = steps_.emplace_back(pool_);
    step.drawn.reserve(sequences);
    step.beams.reserve(sequences);
    step.scored.reserve(sequences);
    step.retired_blocks.reserve(limits.kv_blocks);
    step.retired_slots.reserve(sequences);
  }
}

SequenceEvent& Scheduler::event_of(const Group& group, std::int32_t sequence,
                                   std::vector<SequenceEvent>& events) {
  if (sequence == 0 && group.scores_prompt()) {
    const auto found = std::find_if(events.begin(), events.end(), [&](const SequenceEvent& event) {
      return event.request == group.request.id && !event.prompt.empty();
    });
    if (found != events.end()) return *found;
  }
  SequenceEvent& event = events.emplace_back();
  event.request = group.request.id;
  event.sequence = sequence;
  return event;
}

void Scheduler::submit(Request request, std::vector<float> frequencies,
                       std::shared_ptr<const decoding::TokenBytes> bytes) {
  const std::int32_t most = check_request(request, limits_);
  if (request.parameters.num_beams > 1 && !request.parameters.stop_strings.empty() && !bytes) {
    core::fail(
        ErrorKind::kUnsupported,
        "stop strings end beams only where the bytes of the model's tokens are known, and they are not");
  }
  const RequestId id = request.id;
  const bool known = groups_.contains(id) || std::any_of(ended_.begin(), ended_.end(),
                                                         [&](const Ended& one) { return one.request == id; });
  if (known) {
    core::fail(ErrorKind::kInvalidArgument, "request id {} is in use by a request that has not ended", id);
  }
  auto group = std::make_unique<Group>(pool_, std::move(request), std::move(frequencies), most,
                                       limits_.vocab_size, std::move(bytes));
  for (Sequence& sequence : group->sequences) {
    const auto reason = group->finish_reason(sequence.generated);
    if (!reason) continue;
    sequence.finished = true;
    ended_.push_back({id, sequence.index, *reason});
  }
  if (group->unfinished() == 0) return;
  group->choose_leader();
  groups_.emplace(id, group.get());
  waiting_.push_back(std::move(group));
}

bool Scheduler::cancel(RequestId id) {
  const bool dropped = std::erase_if(ended_, [&](const Ended& one) { return one.request == id; }) > 0;
  const auto found = groups_.find(id);
  if (found == groups_.end()) return dropped;
  Group& group = *found->second;
  for (Sequence& sequence : group.sequences) {
    if (!sequence.finished) end_sequence(sequence);
  }
  remove(group);
  return true;
}

void Scheduler::take_ended(std::vector<SequenceEvent>& events) {
  for (const Ended& one : ended_) {
    SequenceEvent event;
    event.request = one.request;
    event.sequence = one.sequence;
    event.finish = one.reason;
    events.push_back(event);
  }
  ended_.clear();
}

void Scheduler::take_results(const StepResults& results, std::vector<SequenceEvent>& events) {
  if (in_flight() == 0) core::fail(ErrorKind::kInternal, "results of a step, but none is in flight");
  ++collected_;
  Step& done = step(collected_);
  ended_beams_.clear();
  if (results.samples.size() != done.drawn.size()) {
    core::fail(ErrorKind::kInternal, "a step drew {} tokens; its plan asked for {}", results.samples.size(),
               done.drawn.size());
  }
  accept_prompts(done, results.prompts, events);
  for (std::size_t i = 0; i < results.samples.size(); ++i) {
    if (done.drawn[i].sequence != nullptr) accept(done.drawn[i], results.samples[i], events);
  }
  for (Group* group : done.beams) {
    if (group != nullptr) accept_beams(*group, events);
  }
  done.drawn.clear();
  done.beams.clear();
  done.scored.clear();
  done.retired_blocks.clear();
  free_slots_.insert(free_slots_.end(), done.retired_slots.begin(), done.retired_slots.end());
  done.retired_slots.clear();
}

void Scheduler::accept_prompts(Step& done, std::span<const decoding::SampledToken> tokens,
                               std::vector<SequenceEvent>& events) {
  std::size_t next = 0;
  for (const Step::Scored& scored : done.scored) {
    const auto count = static_cast<std::size_t>(scored.count);
    if (scored.group != nullptr) {
      SequenceEvent event;
      event.request = scored.group->request.id;
      event.prompt = tokens.subspan(next, count);
      event.prompt_start = scored.start;
      events.push_back(event);
    }
    next += count;
  }
}

void Scheduler::accept(Step::Drawn drawn, const decoding::SampledToken& token,
                       std::vector<SequenceEvent>& events) {
  Group& group = *drawn.group;
  Sequence& sequence = *drawn.sequence;
  --sequence.pending;
  SequenceEvent& event = event_of(group, sequence.index, events);
  if (std::isnan(token.token.log_prob)) {
    // One NaN among a row's logits makes the sum of the softmax NaN, and with it every log-probability.
    event.finish = generation::FinishReason::kError;
    event.error = kNotNumbers;
  } else {
    sequence.generated.push_back(token.token.id);
    event.tokens = {&token, 1};
    event.finish = group.finish_reason(sequence.generated);
  }
  if (!event.finish) return;
  end_sequence(sequence);
  if (group.unfinished() == 0) remove(group);
}

void Scheduler::retire(Sequence& sequence) {
  if (in_use(sequence)) {
    Step& last = step(sequence.last_step);
    last.retired_blocks.take(sequence.blocks);
    if (sequence.slot >= 0) last.retired_slots.push_back(sequence.slot);
  } else {
    sequence.blocks.clear();
    if (sequence.slot >= 0) free_slots_.push_back(sequence.slot);
  }
  sequence.slot = -1;
  sequence.computed = 0;
  sequence.shares_tail = false;
}

void Scheduler::retire_text(Group& group) {
  if (group.last_step > collected_) {
    step(group.last_step).retired_blocks.take(group.cross_blocks);
  } else {
    group.cross_blocks.clear();
  }
  if (group.encode == EncodeState::kRunning) forget_text(group);
  group.encode = EncodeState::kNone;
}

void Scheduler::end_sequence(Sequence& sequence) {
  retire(sequence);
  sequence.finished = true;
  for (std::uint64_t number = collected_ + 1; number <= launched_; ++number) {
    for (Step::Drawn& drawn : step(number).drawn) {
      if (drawn.sequence == &sequence) drawn = {};
    }
  }
}

void Scheduler::remove(Group& group) {
  retire_text(group);
  for (std::uint64_t number = collected_ + 1; number <= launched_; ++number) {
    std::ranges::replace(step(number).beams, &group, nullptr);
    for (Step::Scored& scored : step(number).scored) {
      if (scored.group == &group) scored.group = nullptr;
    }
  }
  groups_.erase(group.request.id);
  const auto is_it = [&](const std::unique_ptr<Group>& one) { return one.get() == &group; };
  if (std::erase_if(running_, is_it) == 0) std::erase_if(waiting_, is_it);
}

void Scheduler::preempt_last() {
  std::unique_ptr<Group> group = std::move(running_.back());
  running_.pop_back();
  for (Sequence& sequence : group->sequences) {
    if (!sequence.finished) retire(sequence);
  }
  retire_text(*group);
  group->forked = false;
  // In front of all that wait: they arrived later.
  waiting_.push_front(std::move(group));
  ++stats_.preemptions;
}

bool Scheduler::preempt_youngest() {
  if (running_.empty()) return false;
  preempt_last();
  return true;
}

std::int32_t Scheduler::running_sequences() const {
  std::int32_t count = 0;
  for (const auto& group : running_) count += group->unfinished();
  return count;
}

EngineStats Scheduler::stats() const {
  EngineStats stats = stats_;
  stats.running = running_sequences();
  stats.waiting = static_cast<std::int32_t>(waiting_.size());
  stats.kv_blocks = pool_.size();
  stats.kv_blocks_used = pool_.used();
  return stats;
}

void Scheduler::check() const {
  pool_.check();
  std::vector<std::int32_t> references(static_cast<std::size_t>(pool_.size()), 0);
  std::vector<std::int32_t> slots(static_cast<std::size_t>(limits_.max_sequences), 0);
  const auto count_blocks = [&](const BlockList& list) {
    for (const std::int32_t block : list.ids()) ++references[static_cast<std::size_t>(block)];
  };
  const auto count_slot = [&](std::int32_t slot) { ++slots[static_cast<std::size_t>(slot)]; };
  for (const auto& group : running_) {
    count_blocks(group->cross_blocks);
    for (const Sequence& sequence : group->sequences) {
      count_blocks(sequence.blocks);
      if (sequence.slot >= 0) count_slot(sequence.slot);
      const std::int32_t room = sequence.blocks.size() * ops::kBlockTokens;
      if (sequence.finished != (sequence.slot < 0) || sequence.computed > room) {
        core::fail(ErrorKind::kInternal, "a running sequence has slot {}, {} of {} positions computed",
                   sequence.slot, sequence.computed, room);
      }
    }
  }
  for (const auto& group : waiting_) {
    count_blocks(group->cross_blocks);
    for (const Sequence& sequence : group->sequences) {
      if (!sequence.blocks.empty() || sequence.slot >= 0) {
        core::fail(ErrorKind::kInternal, "a waiting sequence holds {} blocks and slot {}",
                   sequence.blocks.size(), sequence.slot);
      }
    }
  }
  for (const Step& step : steps_) {
    count_blocks(step.retired_blocks);
    for (const std::int32_t slot : step.retired_slots) count_slot(slot);
  }
  for (const std::int32_t slot : free_slots_) count_slot(slot);
  for (std::int32_t block = 0; block < pool_.size(); ++block) {
    const std::int32_t counted = references[static_cast<std::size_t>(block)];
    if (counted != pool_.references(block)) {
      core::fail(ErrorKind::kInternal, "KV block {} has {} references; {} are known", block,
                 pool_.references(block), counted);
    }
  }
  for (std::size_t slot = 0; slot < slots.size(); ++slot) {
    if (slots[slot] != 1) core::fail(ErrorKind::kInternal, "slot {} is held {} times", slot, slots[slot]);
  }
}

}  // namespace peregrine::engine
