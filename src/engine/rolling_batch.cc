// SPDX-License-Identifier: Apache-2.0
#include "engine/rolling_batch.h"

#include <algorithm>
#include <utility>

#include "core/checked.h"
#include "core/error.h"
#include "ops/device.h"

namespace peregrine::engine {

using core::ErrorKind;

model::StepLimits step_limits(const BatchLimits& limits) {
  model::StepLimits step;
  step.rows = limits.max_sequences + limits.prefill_tokens;
  step.sequences = limits.max_sequences;
  step.logit_rows = limits.max_sequences + kPromptLogitRows;
  step.blocks_per_sequence = core::ceil_div(limits.max_model_length, ops::kBlockTokens);
  step.slots = limits.max_sequences;
  if (limits.encoder_layers > 0) {
    step.encoder.rows = std::max(limits.prefill_tokens, limits.max_model_length);
    step.encoder.sequences = limits.max_sequences;
    step.cross_blocks_per_sequence = step.blocks_per_sequence;
  }
  return step;
}

RollingBatch::RollingBatch(const BatchLimits& limits, StepExecutor& executor)
    : scheduler_(limits), executor_(executor) {
  plan_.reserve(step_limits(limits));
  tickets_.reserve(static_cast<std::size_t>(limits.steps_in_flight));
  events_.reserve(2 * static_cast<std::size_t>(limits.max_sequences));
}

void RollingBatch::submit(Request request, std::vector<float> frequencies,
                          std::shared_ptr<const decoding::TokenBytes> bytes) {
  scheduler_.submit(std::move(request), std::move(frequencies), std::move(bytes));
}

bool RollingBatch::step(EventSink& sink) {
  if (failed_) core::fail(ErrorKind::kInternal, "a step of this engine failed before; it cannot go on");
  events_.clear();
  scheduler_.take_ended(events_);
  failed_ = true;  // Until this step has gone well.
  while (scheduler_.plan(plan_)) tickets_.push_back(executor_.launch(plan_));
  const bool collects = !tickets_.empty();
  if (collects) {
    const StepExecutor::Ticket oldest = tickets_.front();
    tickets_.erase(tickets_.begin());
    scheduler_.take_results(executor_.collect(oldest), events_);
  } else if (events_.empty() && !scheduler_.idle()) {
    core::fail(ErrorKind::kInternal, "requests wait, but no step can be planned for them");
  }
  failed_ = false;
  // Last, so that the sink may submit and cancel, and may throw.
  if (!events_.empty()) sink.on_step(events_);
  return collects || !events_.empty();
}

}  // namespace peregrine::engine
