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
    : scheduler_(limits), executor_(executor), paced_(limits.step_seconds > 0), pace_(limits.step_seconds) {
  plan_.reserve(step_limits(limits));
  launched_.reserve(static_cast<std::size_t>(limits.steps_in_flight));
  events_.reserve(2 * static_cast<std::size_t>(limits.max_sequences));
}

void RollingBatch::submit(Request request, std::vector<float> frequencies,
                          std::shared_ptr<const decoding::TokenBytes> bytes) {
  scheduler_.submit(std::move(request), std::move(frequencies), std::move(bytes));
}

bool RollingBatch::launch() {
  if (paced_) scheduler_.set_prefill_beside_decodes(pace_.rows());
  if (!scheduler_.plan(plan_)) return false;
  if (launched_.empty()) began_ = Clock::now();
  launched_.push_back({executor_.launch(plan_), plan_.decode_rows, plan_.prompt_rows});
  return true;
}

void RollingBatch::note_collected(const Launched& step) {
  const Clock::time_point now = Clock::now();
  pace_.note(std::chrono::duration<double>(now - began_).count(), step.decode_rows, step.prompt_rows);
  began_ = now;
}

bool RollingBatch::step(EventSink& sink) {
  if (failed_) core::fail(ErrorKind::kInternal, "a step of this engine failed before; it cannot go on");
  events_.clear();
  scheduler_.take_ended(events_);
  failed_ = true;  // Until this step has gone well.
  while (launch()) {
  }
  const bool collects = !launched_.empty();
  if (collects) {
    const Launched oldest = launched_.front();
    launched_.erase(launched_.begin());
    const StepResults results = executor_.collect(oldest.ticket);
    note_collected(oldest);
    scheduler_.take_results(results, events_);
  } else if (events_.empty() && !scheduler_.idle()) {
    core::fail(ErrorKind::kInternal, "requests wait, but no step can be planned for them");
  }
  failed_ = false;
  // Last, so that the sink may submit and cancel, and may throw.
  if (!events_.empty()) sink.on_step(events_);
  return collects || !events_.empty();
}

}  // namespace peregrine::engine
