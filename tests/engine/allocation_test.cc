// SPDX-License-Identifier: Apache-2.0
// Steps allocate nothing: not in the plan, not in the loop, not in the events; on the cpu device not on any
// thread. Requests that come, and outputs of beams that end, do.

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>
#include <vector>

#include "engine/engine.h"
#include "engine/rolling_batch.h"
#include "engine/scripted_executor.h"
#include "model/load.h"
#include "support/test_data.h"

namespace {

std::atomic<std::uint64_t> allocations{0};

void* counted(std::size_t size, std::size_t alignment = alignof(std::max_align_t)) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  void* memory = std::aligned_alloc(alignment, (size + alignment) / alignment * alignment);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
// What does not come through operator new: C libraries, and those that use them. (Sanitizers have their own.)
extern "C" {
void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* memory, std::size_t size);

void* malloc(std::size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_malloc(size);
}
void* calloc(std::size_t count, std::size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_calloc(count, size);
}
void* realloc(void* memory, std::size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_realloc(memory, size);
}
}
#endif

void* operator new(std::size_t size) { return counted(size); }
void* operator new[](std::size_t size) { return counted(size); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  return counted(size, static_cast<std::size_t>(alignment));
}
void* operator new[](std::size_t size, std::align_val_t alignment) {
  return counted(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
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

/// Requests of every kind, of which none ends before `tokens` tokens.
std::vector<Request> mixed_requests(std::int32_t tokens) {
  std::vector<generation::Parameters> kinds(9);
  for (generation::Parameters& kind : kinds) kind.max_new_tokens = tokens;
  kinds[0].top_n_tokens = 5;  // greedy
  for (std::size_t i = 1; i < 7; ++i) kinds[i].do_sample = true;
  kinds[1].temperature = 0.8f;
  kinds[2].top_k = 50;
  kinds[2].top_p = 0.9f;
  kinds[3].top_p = 0.9f;
  kinds[3].n = 2;
  kinds[4].min_p = 0.05f;
  kinds[4].typical_p = 0.9f;
  kinds[5].repetition_penalty = 1.1f;
  kinds[5].presence_penalty = 0.5f;
  kinds[5].frequency_penalty = 0.1f;
  kinds[6].no_repeat_ngram_size = 3;
  kinds[6].bad_words_ids = {{5}, {3, 4}};
  kinds[6].min_new_tokens = 10;
  kinds[7].num_beams = 4;
  kinds[8].num_beams = 4;
  kinds[8].num_beam_groups = 2;
  kinds[8].diversity_penalty = 0.5f;
  std::vector<Request> requests;
  for (const generation::Parameters& kind : kinds) {
    Request& request = requests.emplace_back();
    request.id = requests.size();
    request.prompt_ids.assign(5 + requests.size(), 3);
    request.parameters = kind;
  }
  return requests;
}

TEST(Allocation, MixedRequestsBesideALongPromptAllocateNothing) {
  const auto device = ops::create_device("cpu", {.threads = 2, .isa = ""});
  const auto model = model::load_random_model(
      "falcon-7b:layers=2,hidden=128,heads=2,intermediate=256,vocab=5000,positions=2048", *device, {});
  for (const std::int32_t in_flight : {1, 2}) {
    Engine engine(*device, *model.decoder,
                  {.max_rolling_batch_prefill_tokens = 16, .steps_in_flight = in_flight});
    for (Request& request : mixed_requests(400)) engine.submit(std::move(request));
    CountingSink sink;
    for (int step = 0; step < 40; ++step) engine.step(sink);
    Request long_prompt;
    long_prompt.id = 100;
    long_prompt.prompt_ids.assign(1600, 7);
    engine.submit(std::move(long_prompt));  // Its prefill takes a hundred steps.
    for (int step = 0; step < 10; ++step) engine.step(sink);
    sink.tokens = 0;
    const auto prefilled = engine.stats().prefill_tokens;
    const std::uint64_t before = allocations.load();
    for (int step = 0; step < 80; ++step) engine.step(sink);
    EXPECT_EQ(allocations.load() - before, 0u) << in_flight << " steps in flight";
    EXPECT_GE(sink.tokens, 8u * 80u) << "of all that do not search with beams";
    EXPECT_EQ(engine.stats().prefill_tokens - prefilled, 16u * 80u);
    EXPECT_EQ(engine.stats().running, 8 + 8 + 1);
  }
}

}  // namespace
}  // namespace peregrine::engine
