// SPDX-License-Identifier: Apache-2.0
#include <limits>

#include "engine/scheduler.h"

// Groups of beams.

namespace peregrine::engine {

/// The search goes on with the logits of the group's rows, from `first_row`.
void Scheduler::add_beams(Group& group, std::int32_t first_row, StepPlan& plan) {
  plan.beams.push_back({group.beams, first_row});
  step(launched_).beams.push_back(&group);
}

void Scheduler::accept_beams(Group& group, std::vector<SequenceEvent>& events) {
  if (group.beams->done() || group.beams->failed()) return end_beams(group, events);
  group.follow_beams();
}

/// All hypotheses come at once, and the group ends.
void Scheduler::end_beams(Group& group, std::vector<SequenceEvent>& events) {
  const auto results = group.beams->results();
  const std::int32_t reported = group.request.parameters.reported_sequences();
  for (std::int32_t index = 0; index < reported; ++index) {
    SequenceEvent& event = event_of(group, index, events);
    if (group.beams->failed()) {
      event.finish = generation::FinishReason::kError;
      event.error = kNotNumbers;
    } else if (static_cast<std::size_t>(index) < results.size()) {
      const auto& hypothesis = results[static_cast<std::size_t>(index)];
      event.tokens = hypothesis.tokens;
      event.finish = hypothesis.finish;
      event.score = hypothesis.score;
    } else {  // So few tokens were allowed that there are not so many different outputs.
      event.finish = generation::FinishReason::kLength;
      event.score = -std::numeric_limits<float>::infinity();
    }
  }
  ended_beams_.push_back(group.beams);
  for (Sequence& sequence : group.sequences) end_sequence(sequence);
  remove(group);
}

}  // namespace peregrine::engine
