// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/request.h"
#include "model/decoder.h"
#include "model/step.h"

namespace peregrine::engine {

/// A sequence takes a slot: from this step on, samples of the slot are its tokens.
struct SlotOpening {
  std::int32_t slot = 0;
  const Request* request = nullptr;
  std::int32_t sequence = 0;                ///< Index in its group.
  std::span<const std::int32_t> generated;  ///< Its tokens after the prompt.
};

/// A token to draw: row `logit_row` of the step's logits, for the sequence in `slot`. Several samples may
/// name one row (a group that forks); they lie side by side.
struct StepSample {
  std::int32_t logit_row = 0;
  std::int32_t slot = 0;
};

/// What one step does, in this order: slots are opened, blocks copied, tokens computed, tokens drawn. All
/// pointers and spans are valid during StepExecutor::launch() only. Memory is kept from step to step.
struct StepPlan {
  std::vector<SlotOpening> openings;
  std::vector<std::int32_t> copies;  ///< Pairs (from, to) of KV blocks.
  std::vector<std::int32_t> tokens;  ///< Of all sequences: ids or model::token_of_slot().
  std::vector<model::StepSequence> sequences;
  std::vector<StepSample> samples;

  /// Makes room for the largest step, so that planning allocates nothing.
  void reserve(const model::StepLimits& limits);
  void clear();
  bool empty() const { return sequences.empty(); }
};

}  // namespace peregrine::engine
