// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "engine/engine.h"

namespace peregrine::testing {

/// All that one sequence of a request received.
struct Answer {
  std::vector<std::int32_t> ids;
  std::vector<float> logprobs;
  std::optional<generation::FinishReason> finish;
  std::string error;
  std::optional<float> score;  ///< Of a hypothesis of a beam search.
  /// Log-probabilities of the prompt's tokens from the second, where they were asked for.
  std::vector<decoding::SampledToken> prompt;

  /// Takes over what an event brings; fails the test where the prompt's tokens have a gap.
  void add(const engine::SequenceEvent& event);

  /// Bit-for-bit equality, log-probabilities included.
  bool operator==(const Answer& other) const;
};

/// One answer per sequence of a request.
using Answers = std::map<engine::RequestId, std::vector<Answer>>;

/// Collects events; fails the test on an event after a sequence's end or out of its request's range.
class Collector : public engine::EventSink {
 public:
  /// Expects `sequences` answers for `request`.
  void expect(engine::RequestId request, std::int32_t sequences);
  /// Forgets a cancelled request: an event of it from now on fails the test.
  void forget(engine::RequestId request);
  void on_step(std::span<const engine::SequenceEvent> events) override;

  const Answers& answers() const { return answers_; }

 private:
  Answers answers_;
};

/// Submits all requests at once and steps until the engine is idle.
Answers run_to_end(engine::Engine& engine, const std::vector<engine::Request>& requests);

}  // namespace peregrine::testing
