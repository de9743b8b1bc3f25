// SPDX-License-Identifier: Apache-2.0
// Steps that decode allocate nothing: not in the plan, not in the loop, not in the events; on the cpu device
// not on any thread.

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "engine/engine.h"
#include "engine/rolling_batch.h"
#include "engine/scripted_executor.h"
#include "model/load.h"
#include "support/test_data.h"

namespace {

std::atomic<std::uint64_t> allocations{0};

void* counted(std::size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  void* memory = std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

void* operator new(std::size_t size) { return counted(size); }
void* operator new[](std::size_t size) { return counted(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }

namespace peregrine::engine {
namespace {

class CountingSink : public EventSink {
 public:
  void on_step(std::span<const SequenceEvent> events) override {
    for (const SequenceEvent& event : events) tokens += event.tokens.size();
  }
  std::size_t tokens = 0;
};

TEST(Allocation, DecodingAllocatesNothing) {
  for (const std::int32_t in_flight : {1, 2, 3}) {
    const BatchLimits limits{.max_sequences = 8,
                             .prefill_tokens = 64,
                             .max_model_length = 400,
                             .kv_blocks = 8 * 25,
                             .steps_in_flight = in_flight,
                             .vocab_size = 40};
    peregrine::testing::ScriptedExecutor executor(limits, {});
    RollingBatch batch(limits, executor);
    for (RequestId id = 0; id < 4; ++id) {
      Request request;
      request.id = id;
      request.prompt_ids.assign(10 + id, 3);
      request.parameters.max_new_tokens = 300;
      request.parameters.n = 2;
      batch.submit(request, {});
    }
    CountingSink sink;
    for (int step = 0; step < 12; ++step) batch.step(sink);
    sink.tokens = 0;
    const std::uint64_t before = allocations.load();
    for (int step = 0; step < 200; ++step) batch.step(sink);  // 12 new blocks for each sequence
    EXPECT_EQ(allocations.load() - before, 0u) << in_flight << " steps in flight";
    EXPECT_EQ(sink.tokens, 8u * 200u);
    EXPECT_GT(before, 100u) << "the counter counts";
  }
}

// The reference device is left out: its plain loops allocate as they please.
TEST(Allocation, DecodingOnTheCpuDeviceAllocatesNothingOnAnyThread) {
  PEREGRINE_REQUIRE_TEST_DATA("golden");
  const auto device = ops::create_device("cpu", {.threads = 2, .isa = ""});
  const auto folder = peregrine::testing::test_data() / "golden" / "falcon_40b";
  const auto model = model::load_model(folder, *device, {});
  EngineOptions options;
  options.steps_in_flight = 2;
  Engine engine(*device, *model.decoder, options);
  for (RequestId id = 0; id < 4; ++id) {
    Request request;
    request.id = id;
    request.prompt_ids.assign(3 + id, 3);
    request.parameters.max_new_tokens = 55;
    request.parameters.n = 2;
    request.parameters.do_sample = id > 0;
    request.parameters.top_p = 0.9f;
    request.parameters.top_n_tokens = 3;
    request.parameters.repetition_penalty = 1.1f;
    engine.submit(request);
  }
  CountingSink sink;
  for (int step = 0; step < 12; ++step) engine.step(sink);
  sink.tokens = 0;
  const std::uint64_t before = allocations.load();
  for (int step = 0; step < 36; ++step) engine.step(sink);
  EXPECT_EQ(allocations.load() - before, 0u);
  EXPECT_EQ(sink.tokens, 8u * 36u);
}

}  // namespace
}  // namespace peregrine::engine
