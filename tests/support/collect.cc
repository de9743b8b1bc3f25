// SPDX-License-Identifier: Apache-2.0
#include "support/collect.h"

#include <gtest/gtest.h>

#include <bit>

namespace peregrine::testing {

bool Answer::operator==(const Answer& other) const {
  if (ids != other.ids || finish != other.finish || error != other.error) return false;
  if (logprobs.size() != other.logprobs.size()) return false;
  for (std::size_t i = 0; i < logprobs.size(); ++i) {
    if (std::bit_cast<std::uint32_t>(logprobs[i]) != std::bit_cast<std::uint32_t>(other.logprobs[i]))
      return false;
  }
  return true;
}

void Collector::expect(engine::RequestId request, std::int32_t sequences) {
  answers_[request].resize(static_cast<std::size_t>(sequences));
}

void Collector::forget(engine::RequestId request) { answers_.erase(request); }

void Collector::on_step(std::span<const engine::SequenceEvent> events) {
  for (const engine::SequenceEvent& event : events) {
    const auto found = answers_.find(event.request);
    ASSERT_NE(found, answers_.end()) << "event for request " << event.request << ", which nobody waits for";
    ASSERT_LT(static_cast<std::size_t>(event.sequence), found->second.size());
    Answer& answer = found->second[static_cast<std::size_t>(event.sequence)];
    ASSERT_FALSE(answer.finish.has_value()) << "event after the end of request " << event.request;
    for (const decoding::SampledToken& token : event.tokens) {
      answer.ids.push_back(token.token.id);
      answer.logprobs.push_back(token.token.log_prob);
    }
    answer.finish = event.finish;
    answer.error = event.error;
  }
}

Answers run_to_end(engine::Engine& engine, const std::vector<engine::Request>& requests) {
  Collector collector;
  for (const engine::Request& request : requests) {
    collector.expect(request.id, request.parameters.n);
    engine.submit(request);
  }
  while (engine.step(collector)) {
  }
  EXPECT_TRUE(engine.idle());
  for (const auto& [id, sequences] : collector.answers()) {
    for (const Answer& answer : sequences)
      EXPECT_TRUE(answer.finish.has_value()) << "request " << id << " never ended";
  }
  return collector.answers();
}

}  // namespace peregrine::testing
