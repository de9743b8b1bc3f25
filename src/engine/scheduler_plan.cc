// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <utility>

#include "core/checked.h"
#include "core/error.h"
#include "engine/scheduler.h"
#include "ops/device.h"

// One step's plan: decodes first, then chunks of prompts, then admission.

namespace peregrine::engine {

using core::ErrorKind;

void StepPlan::reserve(const model::StepLimits& limits) {
  const auto most_sequences = static_cast<std::size_t>(limits.sequences);
  openings.reserve(most_sequences);
  copies.reserve(2 * most_sequences);
  tokens.reserve(static_cast<std::size_t>(limits.rows));
  sequences.reserve(most_sequences);
  samples.reserve(most_sequences);
}

void StepPlan::clear() {
  openings.clear();
  copies.clear();
  tokens.clear();
  sequences.clear();
  samples.clear();
}

bool Scheduler::plan(StepPlan& plan) {
  plan.clear();
  if (in_flight() >= limits_.steps_in_flight) return false;
  ++launched_;  // Rows and retired blocks of this plan are entered under its number.
  prefill_budget_ = limits_.prefill_tokens;
  logit_rows_ = 0;
  starved_ = false;
  plan_decodes(plan);
  plan_prefills(plan);
  if (!starved_) admit(plan);
  if (plan.empty()) {
    --launched_;
    return false;
  }
  ++stats_.steps;
  return true;
}

bool Scheduler::blocks_returning() const {
  return std::any_of(steps_.begin(), steps_.end(),
                     [](const Step& step) { return !step.retired_blocks.empty(); });
}

std::int32_t Scheduler::blocks_wanted(const Sequence& sequence, std::int32_t rows) const {
  const std::int32_t more =
      core::ceil_div(sequence.computed + rows, ops::kBlockTokens) - sequence.blocks.size();
  const bool copies_tail = sequence.shares_tail && pool_.references(sequence.blocks.ids().back()) > 1;
  return std::max(more, 0) + (copies_tail ? 1 : 0);
}

void Scheduler::extend(Sequence& sequence, std::int32_t rows, StepPlan& plan) {
  if (sequence.shares_tail) {
    // The leader may have written behind the prompt in this block, or may yet: those positions are written
    // again in the copy before anything reads them.
    const std::int32_t tail = sequence.blocks.size() - 1;
    if (pool_.references(sequence.blocks.ids().back()) > 1) {
      const std::int32_t from = sequence.blocks.replace(tail, step(launched_).retired_blocks);
      plan.copies.push_back(from);
      plan.copies.push_back(sequence.blocks.ids().back());
    }
    sequence.shares_tail = false;
  }
  while (sequence.blocks.size() * ops::kBlockTokens < sequence.computed + rows) sequence.blocks.append_new();
}

void Scheduler::add_rows(Group& group, Sequence& sequence, std::int32_t rows, StepPlan& plan) {
  extend(sequence, rows, plan);
  const std::size_t first = plan.tokens.size();
  const std::int32_t end = sequence.computed + rows;
  if (sequence.pending > 0) {
    plan.tokens.push_back(model::token_of_slot(sequence.slot));
  } else {
    group.append_tokens(sequence, sequence.computed, end, plan.tokens);
  }
  const bool last = end == group.length(sequence);
  // plan.tokens never grows beyond what it reserved (the step's limits), so the span stays.
  plan.sequences.push_back({.tokens = std::span(plan.tokens).subspan(first),
                            .start = sequence.computed,
                            .blocks = sequence.blocks.ids(),
                            .rotary_frequencies = group.frequencies,
                            .logit_rows = last ? 1 : 0});
  sequence.computed = end;
  sequence.last_step = launched_;
  if (last) add_sample(group, sequence, logit_rows_++, plan);
}

void Scheduler::add_sample(Group& group, Sequence& sequence, std::int32_t logit_row, StepPlan& plan) {
  plan.samples.push_back({logit_row, sequence.slot});
  step(launched_).drawn.push_back({&group, &sequence});
  ++sequence.pending;
}

bool Scheduler::decodes_now(const Group& group, const Sequence& sequence) const {
  return !sequence.finished && group.may_grow(sequence) && group.length(sequence) - sequence.computed == 1;
}

void Scheduler::plan_decodes(StepPlan& plan) {
  // Preemption takes groups from the end of the list, at most up to and with the present one.
  for (std::size_t index = 0; index < running_.size(); ++index) {
    if (!running_[index]->forked || !secure_decodes(index)) continue;
    Group& group = *running_[index];
    for (Sequence& sequence : group.sequences) {
      if (!decodes_now(group, sequence)) continue;
      add_rows(group, sequence, 1, plan);
      ++stats_.decode_tokens;
    }
  }
}

/// Whether there are blocks for one more row of each decoding sequence of a group; preempts the youngest for
/// them, itself where it is that.
bool Scheduler::secure_decodes(std::size_t index) {
  std::int32_t wanted = 0;
  for (const Sequence& sequence : running_[index]->sequences) {
    if (decodes_now(*running_[index], sequence)) wanted += blocks_wanted(sequence, 1);
  }
  if (wanted == 0) return true;
  while (!starved_ && wanted > pool_.free()) {
    if (blocks_returning()) {
      starved_ = true;  // Enough or not, it is not known before a step has been collected.
      break;
    }
    const bool itself = running_.size() - 1 == index;
    if (itself && index == 0) {
      core::fail(ErrorKind::kInternal, "a lone group wants {} KV blocks, {} of {} are free", wanted,
                 pool_.free(), pool_.size());
    }
    preempt_last();
    if (itself) return false;
  }
  return !starved_;
}

void Scheduler::plan_prefills(StepPlan& plan) {
  for (std::size_t index = 0; index < running_.size() && prefill_budget_ > 0; ++index) {
    prefill_group(*running_[index], index == 0, plan);
  }
}

void Scheduler::prefill_group(Group& group, bool oldest, StepPlan& plan) {
  const auto chunk = [&](Sequence& sequence) {
    if (prefill_sequence(group, sequence, plan)) return;
    if (oldest && running_.size() > 1 && !blocks_returning()) {
      preempt_last();
      if (prefill_sequence(group, sequence, plan)) return;
    }
    starved_ = true;
  };
  if (!group.forked) {
    chunk(group.sequences[static_cast<std::size_t>(group.leader)]);
    return;  // Where it forked now, the others may read its blocks from the next step on.
  }
  for (Sequence& sequence : group.sequences) {
    if (prefill_budget_ == 0) return;
    if (!sequence.finished && sequence.pending == 0 && group.length(sequence) - sequence.computed > 1) {
      chunk(sequence);
    }
  }
}

/// Plans as much of the sequence's known tokens as budget and blocks allow; false where blocks allow none.
bool Scheduler::prefill_sequence(Group& group, Sequence& sequence, StepPlan& plan) {
  std::int32_t rows = std::min(prefill_budget_, group.length(sequence) - sequence.computed);
  const std::int32_t free = starved_ ? 0 : pool_.free();
  if (blocks_wanted(sequence, rows) > free) {
    const std::int32_t copied = blocks_wanted(sequence, 0);
    if (copied > free) return false;
    rows = (sequence.blocks.size() + free - copied) * ops::kBlockTokens - sequence.computed;
    if (rows <= 0) return false;
  }
  prefill_budget_ -= rows;
  stats_.prefill_tokens += static_cast<std::uint64_t>(rows);
  add_rows(group, sequence, rows, plan);
  if (group.forked || sequence.computed < group.prompt_size()) return true;
  fork(group);
  if (sequence.pending > 0 && sequence.generated.empty()) {
    for (Sequence& other : group.sequences) {
      const bool draws = !other.finished && &other != &sequence && other.generated.empty();
      if (draws) add_sample(group, other, logit_rows_ - 1, plan);
    }
  }
  return true;
}

void Scheduler::fork(Group& group) {
  group.forked = true;
  const Sequence& leader = group.sequences[static_cast<std::size_t>(group.leader)];
  const std::int32_t blocks = core::ceil_div(group.prompt_size(), ops::kBlockTokens);
  for (Sequence& other : group.sequences) {
    if (other.finished || &other == &leader) continue;
    for (std::int32_t i = 0; i < blocks; ++i) {
      other.blocks.append_shared(leader.blocks.ids()[static_cast<std::size_t>(i)]);
    }
    other.computed = group.prompt_size();
    other.shares_tail = group.prompt_size() % ops::kBlockTokens != 0;
    other.last_step = launched_;
  }
}

bool Scheduler::can_admit(const Group& group) const {
  const std::int32_t sequences = group.unfinished();
  if (sequences > static_cast<std::int32_t>(free_slots_.size())) return false;
  for (const Sequence& sequence : group.sequences) {
    if (in_use(sequence)) return false;  // Preempted, and a step in flight is still drawing its tokens.
  }
  // Room for all that is known of it, not only for the first chunk: a prompt that gets stuck half way would
  // hold its blocks for nothing. And one block more for every running sequence, or the newcomer would soon be
  // the youngest that has to go.
  const std::int32_t shared = group.prompt_size() / ops::kBlockTokens;
  std::int32_t wanted = shared;
  for (const Sequence& sequence : group.sequences) {
    if (!sequence.finished) {
      wanted += core::ceil_div(group.known_length(sequence), ops::kBlockTokens) - shared;
    }
  }
  return wanted + running_sequences() <= pool_.free();
}

void Scheduler::admit(StepPlan& plan) {
  while (!waiting_.empty() && prefill_budget_ > 0) {
    Group& group = *waiting_.front();
    group.choose_leader();
    if (!can_admit(group)) return;
    running_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
    for (Sequence& sequence : group.sequences) {
      if (sequence.finished) continue;
      sequence.slot = free_slots_.back();
      free_slots_.pop_back();
      sequence.generated.reserve(static_cast<std::size_t>(group.limit));
      sequence.blocks.reserve(core::ceil_div(group.prompt_size() + group.limit, ops::kBlockTokens));
      plan.openings.push_back({sequence.slot, &group.request, sequence.index, sequence.generated});
    }
    prefill_group(group, false, plan);
  }
}

}  // namespace peregrine::engine
