// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <new>
#include <vector>

#include "decoding/sampler.h"

namespace {
std::atomic<std::size_t> allocations{0};
}  // namespace

// Not inlined: GCC would take malloc and free for the pair of the other's delete and new.
[[gnu::noinline]] void* operator new(std::size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size > 0 ? size : 1)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace peregrine::decoding {
namespace {

TEST(Sampler, SamplingAllocatesNothing) {
  generation::Parameters greedy;
  greedy.max_new_tokens = 2000;
  greedy.top_n_tokens = 5;
  generation::Parameters full = greedy;
  full.do_sample = true;
  full.temperature = 0.9f;
  full.top_k = 300;
  full.top_p = 0.97f;
  full.min_p = 0.001f;
  full.typical_p = 0.98f;
  full.repetition_penalty = 1.1f;
  full.presence_penalty = 0.3f;
  full.frequency_penalty = 0.1f;
  full.no_repeat_ngram_size = 3;
  full.bad_words_ids = {{5}, {3, 4}, {1, 2, 3}};
  full.suppress_tokens = {7, 9};
  full.eos_token_ids = {11};
  full.min_new_tokens = 30;
  generation::Parameters wide = greedy;
  wide.do_sample = true;
  wide.top_p = 0.9999f;
  constexpr std::int64_t kVocab = 3000;
  for (const auto& parameters : {greedy, full, wide}) {
    const std::vector<std::int32_t> prompt = {1, 2, 3};
    SequenceSampler sampler(parameters, 1, 0, kVocab, prompt, {});
    SamplerScratch scratch(kVocab);
    SampledToken out;
    std::vector<float> logits(kVocab);
    std::size_t before = 0;
    for (int step = 0; step < 2000; ++step) {
      for (std::size_t i = 0; i < logits.size(); ++i) {
        logits[i] = 6 * std::sin(static_cast<float>(i) * 1.7f + static_cast<float>(step));
      }
      if (step == 1) before = allocations;
      sampler.sample(logits, scratch, out);
    }
    EXPECT_EQ(allocations, before);
  }
  const std::size_t before = allocations;
  ::operator delete(::operator new(4));  // A call that the compiler may not leave out, unlike `new int`.
  EXPECT_EQ(allocations, before + 1) << "the counter does not count";
}

}  // namespace
}  // namespace peregrine::decoding
