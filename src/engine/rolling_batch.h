// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/engine.h"
#include "engine/prefill_pace.h"
#include "engine/scheduler.h"
#include "engine/step_executor.h"

namespace peregrine::engine {

/// The loop between a scheduler and an executor: what Engine does, without a device. Not thread-safe.
class RollingBatch {
 public:
  /// `executor` must be made for `limits.steps_in_flight` steps and outlive this.
  RollingBatch(const BatchLimits& limits, StepExecutor& executor);

  /// Queues a request; see Scheduler::submit and Engine::submit.
  void submit(Request request, std::vector<float> frequencies,
              std::shared_ptr<const decoding::TokenBytes> bytes = nullptr);
  /// See Engine::cancel.
  bool cancel(RequestId id) { return scheduler_.cancel(id); }
  /// See Engine::step.
  bool step(EventSink& sink);
  /// See Engine::idle.
  bool idle() const { return scheduler_.idle(); }
  EngineStats stats() const { return scheduler_.stats(); }
  /// See Engine::preempt_youngest.
  bool preempt_youngest() { return scheduler_.preempt_youngest(); }

  /// For tests.
  const Scheduler& scheduler() const { return scheduler_; }

 private:
  using Clock = std::chrono::steady_clock;

  /// A step in flight.
  struct Launched {
    StepExecutor::Ticket ticket;
    std::int32_t decode_rows;
    std::int32_t prompt_rows;
  };

  bool launch();
  /// Tells the pace how long the oldest step took.
  void note_collected(const Launched& step);

  Scheduler scheduler_;
  StepExecutor& executor_;
  bool paced_;
  PrefillPace pace_;
  StepPlan plan_;
  std::vector<Launched> launched_;  ///< The steps in flight, oldest first.
  Clock::time_point began_;         ///< When the oldest step in flight had the device for itself.
  std::vector<SequenceEvent> events_;
  bool failed_ = false;
};

/// The limits of one step of a rolling batch.
model::StepLimits step_limits(const BatchLimits& limits);

}  // namespace peregrine::engine
