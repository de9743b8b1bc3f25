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
  beams.reserve(most_sequences);
  prompts.reserve(static_cast<std::size_t>(kPromptLogitRows));
  encoding.texts.reserve(most_sequences);
  encoding.blocks.reserve(most_sequences);
}

void StepPlan::clear() {
  openings.clear();
  copies.clear();
  tokens.clear();
  sequences.clear();
  samples.clear();
  beams.clear();
  prompts.clear();
  encoding.texts.clear();
  encoding.blocks.clear();
  encoding.first_layer = encoding.end_layer = 0;
  decode_rows = prompt_rows = 0;
}

bool Scheduler::plan(StepPlan& plan) {
  plan.clear();
  if (in_flight() >= limits_.steps_in_flight) return false;
  ++launched_;  // Rows and retired blocks of this plan are entered under its number.
  prefill_budget_ = limits_.prefill_tokens;
  logit_rows_ = 0;
  prompt_logit_rows_ = kPromptLogitRows;
  starved_ = false;
  plan_decodes(plan);
  plan.decode_rows = static_cast<std::int32_t>(plan.sequences.size());
  if (plan.decode_rows > 0) prefill_budget_ = std::min(prefill_budget_, prefill_beside_decodes_);
  const std::int32_t budget = prefill_budget_;
  plan_prefills(plan);
  if (!starved_) admit(plan);
  if (limits_.encoder_layers > 0) plan_texts(plan);
  if (plan.empty()) {
    --launched_;
    return false;
  }
  plan.prompt_rows = budget - prefill_budget_;
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

void Scheduler::extend(const Group& group, Sequence& sequence, std::int32_t rows, StepPlan& plan) {
  if (sequence.shares_tail) {
    // The leader may have written behind the prompt in this block, or may yet: those positions are written
    // again in the copy before anything reads them.
    const std::int32_t tail = sequence.blocks.size() - 1;
    if (pool_.references(sequence.blocks.ids().back()) > 1) {
      // Beams decode while no other step names them, and whoever else refers to the block does so beyond this
      // step.
      const bool at_once = group.beams && decodes_now(group, sequence);
      BlockList* old = at_once ? nullptr : &step(launched_).retired_blocks;
      plan.copies.push_back(sequence.blocks.replace(tail, old));
      plan.copies.push_back(sequence.blocks.ids().back());
    }
    sequence.shares_tail = false;
  }
  while (sequence.blocks.size() * ops::kBlockTokens < sequence.computed + rows) sequence.blocks.append_new();
}

void Scheduler::add_rows(Group& group, Sequence& sequence, std::int32_t rows, StepPlan& plan) {
  extend(group, sequence, rows, plan);
  const std::size_t first = plan.tokens.size();
  const std::int32_t end = sequence.computed + rows;
  if (sequence.pending > 0) {
    plan.tokens.push_back(model::token_of_slot(sequence.slot));
  } else {
    group.append_tokens(sequence, sequence.computed, end, plan.tokens);
  }
  const bool last = end == group.length(sequence);
  const std::int32_t scored = add_prompt(group, sequence, end, plan);
  // plan.tokens never grows beyond what it reserved (the step's limits), so the span stays.
  plan.sequences.push_back({.tokens = std::span(plan.tokens).subspan(first),
                            .start = sequence.computed,
                            .blocks = sequence.blocks.ids(),
                            .rotary_frequencies = group.frequencies,
                            .logit_rows = scored > 0 ? rows : (last ? 1 : 0),
                            .cross_blocks = group.cross_blocks.ids(),
                            .cross_length = static_cast<std::int32_t>(group.request.encoder_ids.size())});
  sequence.computed = end;
  sequence.last_step = launched_;
  group.last_step = launched_;
  logit_rows_ += plan.sequences.back().logit_rows;
  if (last && !group.beams) add_sample(group, sequence, logit_rows_ - 1, plan);
}

/// Plans the log-probabilities of the prompt's tokens that follow rows [computed, end), where they are wanted
/// and not known yet; returns how many. All rows have logits then.
std::int32_t Scheduler::add_prompt(Group& group, const Sequence& sequence, std::int32_t end, StepPlan& plan) {
  if (!group.scores_prompt() || group.forked || end <= group.scored) return 0;
  const std::int32_t first = std::max(sequence.computed, group.scored);
  const std::int32_t count = std::min(end, group.prompt_size() - 1) - first;
  if (count <= 0) return 0;
  const auto ids =
      std::span<const std::int32_t>(group.request.prompt_ids).subspan(static_cast<std::size_t>(first) + 1);
  plan.prompts.push_back({logit_rows_ + first - sequence.computed, ids.first(static_cast<std::size_t>(count)),
                          *group.request.parameters.prompt_logprobs});
  step(launched_).scored.push_back({&group, first + 1, count});
  group.scored = first + count;
  prompt_logit_rows_ -= end - sequence.computed;
  return count;
}

void Scheduler::add_sample(Group& group, Sequence& sequence, std::int32_t logit_row, StepPlan& plan) {
  plan.samples.push_back({logit_row, sequence.slot});
  step(launched_).drawn.push_back({&group, &sequence});
  ++sequence.pending;
}

bool Scheduler::decodes_now(const Group& group, const Sequence& sequence) const {
  return sequence.active() && group.may_grow(sequence) && group.length(sequence) - sequence.computed == 1;
}

/// Beams go on together, and only once it is known which they are: when no step in flight names them.
bool Scheduler::waits_for_beams(const Group& group) const {
  if (!group.beams) return false;
  return group.last_step > collected_ || std::ranges::any_of(group.sequences, [&](const Sequence& sequence) {
           return sequence.active() && !decodes_now(group, sequence);
         });
}

void Scheduler::plan_decodes(StepPlan& plan) {
  // Preemption takes groups from the end of the list, at most up to and with the present one.
  for (std::size_t index = 0; index < running_.size(); ++index) {
    if (!running_[index]->forked || waits_for_beams(*running_[index]) || !secure_decodes(index)) continue;
    Group& group = *running_[index];
    const std::int32_t first_row = logit_rows_;
    for (Sequence& sequence : group.sequences) {
      if (!decodes_now(group, sequence)) continue;
      add_rows(group, sequence, 1, plan);
      ++stats_.decode_tokens;
    }
    if (group.beams) add_beams(group, first_row, plan);
  }
}

/// Blocks for one more row of each decoding sequence of a group.
std::int32_t Scheduler::decode_blocks(const Group& group) const {
  std::int32_t wanted = 0;
  const auto tail = [](const Sequence& sequence) { return sequence.blocks.ids().back(); };
  for (auto one = group.sequences.begin(); one != group.sequences.end(); ++one) {
    if (!decodes_now(group, *one)) continue;
    wanted += blocks_wanted(*one, 1);
    // Of beams that share a last block, the last one needs no copy where nobody else refers to it any more.
    const std::int32_t references = pool_.references(tail(*one));
    if (!group.beams || !one->shares_tail || references == 1) continue;
    const auto shares = [&](const Sequence& other) {
      return other.active() && other.shares_tail && tail(other) == tail(*one);
    };
    const bool is_last = std::none_of(one + 1, group.sequences.end(), shares);
    if (is_last && std::ranges::count_if(group.sequences, shares) == references) --wanted;
  }
  return wanted;
}

/// Whether there are blocks for one more row of each decoding sequence of a group; preempts the youngest for
/// them, itself where it is that.
bool Scheduler::secure_decodes(std::size_t index) {
  const std::int32_t wanted = decode_blocks(*running_[index]);
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
  if (limits_.encoder_layers > 0 && group.encode != EncodeState::kDone) return;
  if (!group.forked) {
    chunk(group.sequences[static_cast<std::size_t>(group.leader)]);
    return;  // Where it forked now, the others may read its blocks from the next step on.
  }
  for (Sequence& sequence : group.sequences) {
    if (prefill_budget_ == 0) return;
    if (sequence.active() && sequence.pending == 0 && group.length(sequence) - sequence.computed > 1) {
      chunk(sequence);
    }
  }
}

/// Plans as much of the sequence's known tokens as budget and blocks allow; false where blocks allow none.
bool Scheduler::prefill_sequence(Group& group, Sequence& sequence, StepPlan& plan) {
  std::int32_t rows = std::min(prefill_budget_, group.prefill_end(sequence) - sequence.computed);
  if (group.scores_prompt() && !group.forked && group.scored < group.prompt_size() - 1) {
    rows = std::min(rows, prompt_logit_rows_);
    if (rows == 0) return true;  // Others have taken the step's rows of logits.
  }
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
  if (group.beams) {
    if (sequence.generated.empty()) add_beams(group, logit_rows_ - 1, plan);
    return true;
  }
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
  Sequence& leader = group.sequences[static_cast<std::size_t>(group.leader)];
  leader.shares_tail = group.beams != nullptr;  // Among beams, whoever writes last keeps the block.
  const std::int32_t blocks = core::ceil_div(group.prompt_size(), ops::kBlockTokens);
  for (Sequence& other : group.sequences) {
    if (!other.active() || &other == &leader) continue;
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
  if (group.last_step > collected_)
    return false;  // Preempted, and a step in flight is still drawing its tokens.
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
  wanted = static_cast<std::int32_t>(
      std::min<std::int64_t>(wanted, blocks_needed(group.prompt_size(), group.limit, sequences)));
  return wanted + cross_blocks(group.request.encoder_ids.size()) + running_sequences() <= pool_.free();
}

void Scheduler::admit(StepPlan& plan) {
  while (!waiting_.empty() && prefill_budget_ > 0) {
    Group& group = *waiting_.front();
    group.choose_leader();
    if (!can_admit(group)) return;
    running_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
    group.reserve();
    for (Sequence& sequence : group.sequences) {
      if (sequence.finished) continue;
      sequence.slot = free_slots_.back();
      free_slots_.pop_back();
      if (!group.beams)
        plan.openings.push_back({sequence.slot, &group.request, sequence.index, sequence.generated});
    }
    if (limits_.encoder_layers > 0) {
      group.encode = EncodeState::kWaiting;
      for (std::int32_t i = cross_blocks(group.request.encoder_ids.size()); i > 0; --i)
        group.cross_blocks.append_new();
      continue;
    }
    prefill_group(group, false, plan);
  }
}

}  // namespace peregrine::engine
