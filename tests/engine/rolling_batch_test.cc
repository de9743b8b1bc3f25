// SPDX-License-Identifier: Apache-2.0
#include "engine/rolling_batch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <stdexcept>

#include "core/error.h"
#include "engine/scripted_executor.h"
#include "support/collect.h"

namespace peregrine::engine {
namespace {

using ::peregrine::testing::Answers;
using ::peregrine::testing::Collector;
using ::peregrine::testing::ScriptedExecutor;

BatchLimits limits(std::int32_t in_flight) {
  return {.max_sequences = 6,
          .prefill_tokens = 9,
          .max_model_length = 80,
          .kv_blocks = 12,
          .steps_in_flight = in_flight,
          .vocab_size = 40};
}

std::vector<Request> mixed_requests() {
  std::vector<Request> requests;
  for (std::int32_t i = 0; i < 24; ++i) {
    Request request;
    request.id = static_cast<RequestId>(i);
    for (std::int32_t p = 0; p < 1 + i * 7 % 37; ++p) request.prompt_ids.push_back((p * 5 + i) % 40);
    request.parameters.max_new_tokens = 1 + i * 11 % 30;
    request.parameters.n = 1 + i % 3;
    if (i % 3 != 0) request.parameters.eos_token_ids = {3};
    request.seed = static_cast<std::uint64_t>(100 + i);
    requests.push_back(request);
  }
  return requests;
}

/// Runs requests to their end in one batch, and checks that nothing is held afterwards.
Answers run(const BatchLimits& with, const std::vector<Request>& requests, ScriptedExecutor::Script script) {
  ScriptedExecutor executor(with, script);
  RollingBatch batch(with, executor);
  Collector collector;
  for (const Request& request : requests) {
    collector.expect(request.id, request.parameters.n);
    batch.submit(request, {});
  }
  while (batch.step(collector)) batch.scheduler().check();
  EXPECT_TRUE(batch.idle());
  EXPECT_EQ(batch.stats().kv_blocks_used, 0);
  EXPECT_GT(batch.stats().preemptions, 0u);
  return collector.answers();
}

TEST(RollingBatch, ResultsDoNotDependOnStepsInFlightOrDelays) {
  const std::vector<Request> requests = mixed_requests();
  for (const std::int32_t in_flight : {1, 2, 3, 4}) {
    const ScriptedExecutor::Script script{.delay_seed = static_cast<std::uint64_t>(in_flight)};
    const Answers answers = run(limits(in_flight), requests, script);
    ASSERT_EQ(answers.size(), requests.size());
    for (const Request& request : requests) {
      EXPECT_EQ(answers.at(request.id), ScriptedExecutor::expected(request, 80, script))
          << "request " << request.id << ", " << in_flight << " steps in flight";
    }
  }
}

TEST(RollingBatch, LogitsThatAreNotNumbersEndTheirSequenceOnly) {
  const std::vector<Request> requests = mixed_requests();
  const ScriptedExecutor::Script script{.nan_token = 7};
  const Answers answers = run(limits(2), requests, script);
  int errors = 0;
  for (const Request& request : requests) {
    EXPECT_EQ(answers.at(request.id), ScriptedExecutor::expected(request, 80, script));
    for (const auto& answer : answers.at(request.id)) {
      errors += answer.finish == generation::FinishReason::kError ? 1 : 0;
    }
  }
  EXPECT_GT(errors, 3);
}

TEST(RollingBatch, FailedDeviceFailsTheStepAndAllLaterOnes) {
  ScriptedExecutor executor(limits(2), {});
  RollingBatch batch(limits(2), executor);
  Collector collector;
  collector.expect(0, 1);
  batch.submit(mixed_requests()[0], {});
  executor.fail_next();
  for (int i = 0; i < 2; ++i) {
    try {
      batch.step(collector);
      ADD_FAILURE() << "the step went well";
    } catch (const core::Error& error) {
      EXPECT_EQ(error.kind(), core::ErrorKind::kInternal);
    }
  }
}

/// Calls a function with each event.
class FunctionSink : public EventSink {
 public:
  explicit FunctionSink(std::function<void(const SequenceEvent&)> function)
      : function_(std::move(function)) {}
  void on_step(std::span<const SequenceEvent> events) override {
    for (const SequenceEvent& event : events) function_(event);
  }

 private:
  std::function<void(const SequenceEvent&)> function_;
};

TEST(RollingBatch, SinkMaySubmitCancelAndThrow) {
  ScriptedExecutor executor(limits(2), {});
  RollingBatch batch(limits(2), executor);
  Request request;
  request.prompt_ids = {1, 2, 3};
  request.parameters.max_new_tokens = 20;
  batch.submit(request, {});
  int events = 0;
  FunctionSink sink([&](const SequenceEvent& event) {
    ++events;
    EXPECT_LE(event.request, 9u);
    if (event.request == 9) return;
    EXPECT_TRUE(batch.cancel(event.request));
    Request next = request;
    next.id = event.request + 1;
    batch.submit(next, {});
    if (next.id == 5) throw std::runtime_error("the client is gone");
  });
  int thrown = 0;
  while (!batch.idle()) {
    try {
      batch.step(sink);
    } catch (const std::runtime_error&) {
      ++thrown;
    }
  }
  EXPECT_EQ(thrown, 1);
  EXPECT_EQ(events, 9 + 20);
  EXPECT_EQ(batch.stats().kv_blocks_used, 0);
}

TEST(RollingBatch, CancelledNeighbourChangesNothing) {
  const std::vector<Request> requests = mixed_requests();
  ScriptedExecutor executor(limits(3), {});
  RollingBatch batch(limits(3), executor);
  Collector collector;
  for (const Request& request : requests) {
    collector.expect(request.id, request.parameters.n);
    batch.submit(request, {});
  }
  for (std::size_t step = 0; batch.step(collector); ++step) {
    const RequestId victim = step * 2 + 1;
    if (victim < requests.size() && batch.cancel(victim)) collector.forget(victim);
    batch.scheduler().check();
  }
  for (const auto& [id, answers] : collector.answers()) {
    EXPECT_EQ(answers, ScriptedExecutor::expected(requests[id], 80, {})) << "request " << id;
  }
  EXPECT_GE(collector.answers().size(), 12u);
  EXPECT_LT(collector.answers().size(), 24u);
  EXPECT_EQ(batch.stats().kv_blocks_used, 0);
}

TEST(RollingBatch, NothingToDoIsSaidSo) {
  ScriptedExecutor executor(limits(1), {});
  RollingBatch batch(limits(1), executor);
  Collector collector;
  EXPECT_TRUE(batch.idle());
  EXPECT_FALSE(batch.step(collector));
  EXPECT_FALSE(batch.preempt_youngest());
}

}  // namespace
}  // namespace peregrine::engine
