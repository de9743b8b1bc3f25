// SPDX-License-Identifier: Apache-2.0
#include "engine/memory_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "core/error.h"

namespace peregrine::engine {
namespace {

constexpr EngineFacts kFacts{
    .max_positions = 2048, .vocab_size = 100, .kv_block_bytes = 1000, .physical_memory = 40'000'000};

std::string refusal(const std::function<void(EngineOptions&)>& change) {
  EngineOptions options;
  change(options);
  try {
    resolve_options(options, kFacts);
  } catch (const core::Error& error) {
    EXPECT_EQ(error.kind(), core::ErrorKind::kInvalidArgument);
    return error.what();
  }
  return "accepted";
}

TEST(MemoryPlan, DefaultsAreAllSequencesAtFullLengthButAQuarterOfMemoryAtMost) {
  BatchLimits limits = resolve_options({}, kFacts);
  EXPECT_EQ(limits.max_model_length, 2048);
  EXPECT_EQ(limits.kv_blocks, 32 * 128);  // 4096 blocks of 1000 bytes are less than 10 million
  EXPECT_EQ(limits.max_sequences, 32);
  EXPECT_EQ(limits.prefill_tokens, 512);
  EXPECT_EQ(limits.steps_in_flight, 1);
  EngineFacts small = kFacts;
  small.physical_memory = 400'000;
  EXPECT_EQ(resolve_options({}, small).kv_blocks, 100);
  small.physical_memory = 3'999;
  EXPECT_THROW(resolve_options({}, small), core::Error);
}

TEST(MemoryPlan, BlocksFollowBytesAndNumbers) {
  EngineOptions options;
  options.kv_cache_bytes = 55'500;
  EXPECT_EQ(resolve_options(options, kFacts).kv_blocks, 55);
  options.kv_blocks = 7;
  EXPECT_EQ(resolve_options(options, kFacts).kv_blocks, 7);
  options = {};
  options.kv_cache_bytes = 30'000'000;
  EXPECT_EQ(resolve_options(options, kFacts).kv_blocks, 4096) << "more could never be used";
  options = {};
  options.max_model_length = 100;
  options.max_rolling_batch_size = 2;
  EXPECT_EQ(resolve_options(options, kFacts).kv_blocks, 14);
  EXPECT_EQ(resolve_options(options, kFacts).prefill_tokens, 200) << "more could never be computed";
}

TEST(MemoryPlan, RefusalsNameOptionValueAndRange) {
  using ::testing::HasSubstr;
  EXPECT_THAT(refusal([](auto& o) { o.max_rolling_batch_size = 0; }),
              HasSubstr("max_rolling_batch_size is 0; allowed is 1 to 4096"));
  EXPECT_THAT(refusal([](auto& o) { o.max_rolling_batch_prefill_tokens = -1; }),
              HasSubstr("max_rolling_batch_prefill_tokens is -1; allowed is 1 to 131072"));
  EXPECT_THAT(refusal([](auto& o) { o.steps_in_flight = 5; }),
              HasSubstr("steps_in_flight is 5; allowed is 1 to 4"));
  EXPECT_THAT(refusal([](auto& o) { o.max_model_length = 4096; }),
              HasSubstr("max_model_length is 4096; allowed is 2 to 2048"));
  EXPECT_THAT(refusal([](auto& o) { o.kv_blocks = 40'001; }),
              HasSubstr("kv_blocks is 40001; allowed is 1 to 40000"));
  EXPECT_THAT(refusal([](auto& o) { o.kv_blocks = -1; }), HasSubstr("kv_blocks is -1"));
  EXPECT_THAT(refusal([](auto& o) { o.kv_cache_bytes = 999; }),
              HasSubstr("kv_cache_bytes is 999; allowed is 1000 to 40000000"));
  EXPECT_THAT(refusal([](auto& o) { o.kv_cache_bytes = 50'000'000; }),
              HasSubstr("kv_cache_bytes is 50000000"));
}

TEST(MemoryPlan, PhysicalMemoryIsThatOfThisMachine) {
  EXPECT_GT(physical_memory(), 64ull << 20);
  EXPECT_LT(physical_memory(), 1ull << 50);
}

}  // namespace
}  // namespace peregrine::engine
