// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <span>

#include "engine/scheduler.h"

// The texts of encoder-decoder requests.

namespace peregrine::engine {

/// Goes on with the batch of texts that the encoder works at, or begins one: as many layers as the budget of
/// prompt tokens allows, where a token that goes through all layers counts as one, and at least one layer.
void Scheduler::plan_texts(StepPlan& plan) {
  auto& groups = encoding_.groups;
  const auto given_up = [](const Group* group) { return group == nullptr; };
  if (std::ranges::all_of(groups, given_up)) groups.clear();
  if (groups.empty()) begin_texts(plan);
  if (groups.empty()) return;

  const std::int32_t all = limits_.encoder_layers;
  const std::int64_t affordable = std::int64_t{prefill_budget_} * all / encoding_.rows;
  const auto layers =
      static_cast<std::int32_t>(std::clamp<std::int64_t>(affordable, 1, all - encoding_.next_layer));
  prefill_budget_ =
      std::max(0, prefill_budget_ - static_cast<std::int32_t>(std::int64_t{encoding_.rows} * layers / all));
  plan.encoding.first_layer = encoding_.next_layer;
  plan.encoding.end_layer = encoding_.next_layer += layers;
  encoding_.last_step = launched_;
  const bool ends = encoding_.next_layer == all;
  for (Group* group : groups) {
    if (group != nullptr) group->last_step = launched_;
    if (!ends) continue;
    plan.encoding.blocks.push_back(group == nullptr ? std::span<const std::int32_t>()
                                                    : group->cross_blocks.ids());
    if (group != nullptr) group->encode = EncodeState::kDone;
  }
  if (ends) groups.clear();
}

void Scheduler::begin_texts(StepPlan& plan) {
  if (encoding_.last_step > collected_) return;  // The executor takes one batch at a time.
  encoding_.rows = 0;
  encoding_.next_layer = 0;
  for (const auto& group : running_) {
    if (group->encode != EncodeState::kWaiting) continue;
    const auto rows = static_cast<std::int32_t>(group->request.encoder_ids.size());
    // A large batch delays its first text for the last one's sake.
    if (encoding_.rows > 0 && encoding_.rows + rows > limits_.prefill_tokens) break;
    group->encode = EncodeState::kRunning;
    encoding_.rows += rows;
    encoding_.groups.push_back(group.get());
    plan.encoding.texts.push_back({group->request.encoder_ids});
  }
  stats_.prefill_tokens += static_cast<std::uint64_t>(encoding_.rows);
}

void Scheduler::forget_text(Group& group) { std::ranges::replace(encoding_.groups, &group, nullptr); }

}  // namespace peregrine::engine
