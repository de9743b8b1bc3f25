// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include "decoding/sampler.h"
#include "engine/step_plan.h"

namespace peregrine::engine {

/// What a step drew.
struct StepResults {
  std::span<const decoding::SampledToken> samples;  ///< In the order of plan.samples.
  std::span<const decoding::SampledToken> prompts;  ///< Of plan.prompts, one behind the other.
};

/// Runs planned steps, in the order of their launch. The seam between the loop and the device.
class StepExecutor {
 public:
  using Ticket = std::uint64_t;

  virtual ~StepExecutor() = default;

  /// Enqueues a step and returns at once. No more steps may be in flight than the executor was made for.
  virtual Ticket launch(const StepPlan& plan) = 0;

  /// Waits for the oldest step that was not collected, which must be `ticket`: its beam searches have gone a
  /// step on, and its tokens, valid until the next launch(), are returned. Throws Error(kInternal) where the
  /// device failed; nothing more can be expected of the executor then.
  virtual StepResults collect(Ticket ticket) = 0;
};

}  // namespace peregrine::engine
