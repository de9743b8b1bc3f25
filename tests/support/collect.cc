// SPDX-License-Identifier: Apache-2.0
#include "support/collect.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>

namespace peregrine::testing {

void Answer::add(const engine::SequenceEvent& event) {
  for (const decoding::SampledToken& token : event.tokens) {
    ids.push_back(token.token.id);
    logprobs.push_back(token.token.log_prob);
  }
  for (std::size_t i = 0; i < event.prompt.size(); ++i) {
    const std::size_t at = static_cast<std::size_t>(event.prompt_start) - 1 + i;
    ASSERT_LE(at, prompt.size()) << "tokens of the prompt are missing";
    if (at == prompt.size()) prompt.push_back(event.prompt[i]);
  }
  finish = event.finish;
  error = event.error;
  score = event.score;
}

bool Answer::operator==(const Answer& other) const {
  if (ids != other.ids || finish != other.finish || error != other.error || score != other.score)
    return false;
  const auto same = [](const decoding::SampledToken& a, const decoding::SampledToken& b) {
    return a.token.id == b.token.id && a.token.log_prob == b.token.log_prob;
  };
  if (!std::equal(prompt.begin(), prompt.end(), other.prompt.begin(), other.prompt.end(), same)) return false;
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
    answer.add(event);
  }
}

Answers run_to_end(engine::Engine& engine, const std::vector<engine::Request>& requests) {
  Collector collector;
  for (const engine::Request& request : requests) {
    collector.expect(request.id, request.parameters.reported_sequences());
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
