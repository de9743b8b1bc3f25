// SPDX-License-Identifier: Apache-2.0
// The step itself: ragged batches, chunks, tokens known to the device only, steps in flight, and the checks
// of what a step may hold.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <tuple>
#include <vector>

#include "model/support.h"
#include "support/golden.h"
#include "support/test_data.h"

namespace peregrine::model {
namespace {

using core::ErrorKind;
using testing::DeviceCase;
using ::testing::HasSubstr;
using Tokens = std::vector<std::int32_t>;

/// A sequence with what it owns.
struct Owned {
  Tokens tokens;
  Tokens blocks;
  std::vector<float> frequencies;

  StepSequence step(std::size_t start, std::size_t count, std::int32_t logit_rows) const {
    return {.tokens = std::span(tokens).subspan(start, count),
            .start = static_cast<std::int32_t>(start),
            .blocks = blocks,
            .rotary_frequencies = frequencies,
            .logit_rows = logit_rows};
  }
};

Owned make(Bench& bench, Tokens tokens) {
  const auto blocks = bench.take_blocks(tokens.size());
  return {tokens, blocks, bench.decoder().rotary_frequencies(static_cast<std::int64_t>(tokens.size()))};
}

/// `count` token ids below `vocab` that differ from place to place.
Tokens tokens_of(std::size_t count, std::int32_t seed, std::int32_t vocab = 90) {
  Tokens out;
  for (std::size_t i = 0; i < count; ++i)
    out.push_back((static_cast<std::int32_t>(i) * 31 + seed * 17) % vocab);
  return out;
}

class Step : public ::testing::TestWithParam<std::tuple<std::string, DeviceCase>> {
 protected:
  void SetUp() override {
    PEREGRINE_REQUIRE_TEST_DATA("golden");
    const auto& [fixture, device] = GetParam();
    bench_.emplace(golden_bench(device, fixture));
    vocab_ = static_cast<std::size_t>(bench_->decoder().config().vocab_size);
  }

  std::optional<Bench> bench_;
  std::size_t vocab_ = 0;
};

TEST_P(Step, ChunksOfAnySizeGiveTheSameBits) {
  const Tokens prompt = tokens_of(45, 3);
  const auto whole = bench_->run_prompt(prompt, 45);
  for (const std::size_t chunk : {1u, 7u, 16u, 44u}) {
    EXPECT_EQ(bench_->run_prompt(prompt, 45, chunk), whole) << "chunks of " << chunk;
  }
}

TEST_P(Step, ARaggedBatchGivesWhatEachSequenceGetsAlone) {
  const std::vector<Tokens> prompts = {tokens_of(1, 1), tokens_of(33, 2), tokens_of(16, 3), tokens_of(20, 4)};
  std::vector<float> expected;
  for (const auto& prompt : prompts) {
    const auto row = bench_->run_prompt(prompt, 1);
    expected.insert(expected.end(), row.begin(), row.end());
  }
  // The third sequence is a decode: its first 15 tokens came before.
  std::vector<Owned> owned;
  for (const auto& prompt : prompts) owned.push_back(make(*bench_, prompt));
  const std::vector<StepSequence> before = {owned[2].step(0, 15, 0)};
  EXPECT_TRUE(bench_->run(before).empty());
  const std::vector<StepSequence> together = {owned[0].step(0, 1, 1), owned[1].step(0, 33, 1),
                                              owned[2].step(15, 1, 1), owned[3].step(0, 20, 1)};
  EXPECT_EQ(bench_->run(together), expected);
}

TEST_P(Step, LogitsComeForTheLastRowsAskedFor) {
  const Tokens first = tokens_of(9, 5), second = tokens_of(12, 6);
  const auto whole_first = bench_->run_prompt(first, 9);
  const auto whole_second = bench_->run_prompt(second, 12);
  const auto a = make(*bench_, first), b = make(*bench_, second), c = make(*bench_, first);
  const std::vector<StepSequence> sequences = {a.step(0, 9, 4), c.step(0, 9, 0), b.step(0, 12, 2)};
  std::vector<float> expected(whole_first.end() - static_cast<std::ptrdiff_t>(4 * vocab_), whole_first.end());
  expected.insert(expected.end(), whole_second.end() - static_cast<std::ptrdiff_t>(2 * vocab_),
                  whole_second.end());
  EXPECT_EQ(bench_->run(sequences), expected);
}

TEST_P(Step, TokensMayBeKnownToTheDeviceOnly) {
  const Tokens prompt = tokens_of(18, 7);
  const auto expected = bench_->run_prompt(prompt, 1);
  Owned owned = make(*bench_, prompt);
  const std::vector<StepSequence> before = {owned.step(0, 17, 0)};
  bench_->run(before);
  const ops::Ints slots = bench_->buffers().slot_tokens();
  ASSERT_EQ(slots.size, Bench::kLimits.slots);
  const std::int32_t token = prompt[17];
  bench_->stream().upload(slots.data + 3 * sizeof token, &token, sizeof token);
  owned.tokens[17] = token_of_slot(3);
  const std::vector<StepSequence> last = {owned.step(17, 1, 1)};
  EXPECT_EQ(bench_->run(last), expected);
}

TEST_P(Step, TwoStepsMayBeInFlight) {
  const Tokens prompt = tokens_of(30, 8);
  const auto expected = bench_->run_prompt(prompt, 30);
  const Owned owned = make(*bench_, prompt);
  // Logits of both are read only after both have been enqueued, and steps without logits come between.
  for (int round = 0; round < 3; ++round) {
    const std::vector<StepSequence> first = {owned.step(0, 20, 1)};
    const std::vector<StepSequence> second = {owned.step(20, 10, 1)};
    auto& stream = bench_->stream();
    const auto a = bench_->decoder().forward(stream, bench_->buffers(), bench_->cache(), first);
    const auto b = bench_->decoder().forward(stream, bench_->buffers(), bench_->cache(), second);
    ASSERT_NE(a.data, b.data);
    std::vector<float> found_a(vocab_), found_b(vocab_);
    stream.download(found_a.data(), a.data, vocab_ * sizeof(float));
    stream.download(found_b.data(), b.data, vocab_ * sizeof(float));
    stream.wait(stream.record());
    const auto row = [&](std::size_t i) {
      return std::vector<float>(expected.begin() + static_cast<std::ptrdiff_t>(i * vocab_),
                                expected.begin() + static_cast<std::ptrdiff_t>((i + 1) * vocab_));
    };
    EXPECT_EQ(found_a, row(19)) << "round " << round;
    EXPECT_EQ(found_b, row(29)) << "round " << round;
  }
}

/// A launch beyond the ring waits for the set it reuses, so that no upload reads what it has overwritten.
TEST_P(Step, MoreLaunchesThanSetsDoNotMixUp) {
  const Tokens prompt = tokens_of(60, 9);
  const auto expected = bench_->run_prompt(prompt, 1);
  const Owned owned = make(*bench_, prompt);
  for (std::size_t i = 0; i < 59; ++i) {
    const std::vector<StepSequence> one = {owned.step(i, 1, 0)};
    bench_->decoder().forward(bench_->stream(), bench_->buffers(), bench_->cache(), one);
  }
  const std::vector<StepSequence> last = {owned.step(59, 1, 1)};
  EXPECT_EQ(bench_->run(last), expected);
}

INSTANTIATE_TEST_SUITE_P(Models, Step,
                         ::testing::Combine(::testing::Values("falcon_40b", "falcon_rw_many_heads",
                                                              "llama_gqa", "gpt_neox_sequential"),
                                            ::testing::ValuesIn(testing::all_devices())),
                         [](const auto& info) {
                           return std::get<0>(info.param) + "_" + std::get<1>(info.param).name();
                         });

class StepLimitsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    PEREGRINE_REQUIRE_TEST_DATA("golden");
    bench_.emplace(golden_bench({"reference", ""}, "llama_gqa"));
    good_ = make(*bench_, tokens_of(20, 1));
  }

  void expect_refused(std::vector<StepSequence> sequences, const std::string& message) {
    const auto error = caught([&] { bench_->run(sequences); });
    EXPECT_EQ(error.kind, ErrorKind::kInternal) << message;
    EXPECT_THAT(error.message, HasSubstr(message));
  }

  std::optional<Bench> bench_;
  Owned good_;
};

TEST_F(StepLimitsTest, WhatExceedsThemIsRefused) {
  const StepSequence good = good_.step(0, 20, 1);
  expect_refused({}, "0 sequences");
  expect_refused(std::vector<StepSequence>(9, good), "9 sequences, limit 8");
  const Tokens many = tokens_of(257, 1);
  const Tokens blocks(32, 0);
  StepSequence bad = good;
  bad.tokens = many;
  bad.blocks = blocks;
  expect_refused({bad}, "257 tokens");
  bad.tokens = std::span(many).first(200);
  expect_refused({bad, bad}, "400 rows, limit 256");
  bad.tokens = std::span(many).first(100);
  bad.logit_rows = 100;
  expect_refused({bad, bad}, "200 rows of logits, limit 128");
  bad.start = 500;
  expect_refused({bad}, "limit 32");
  bad = good;
  bad.tokens = {};
  expect_refused({bad}, "0 tokens");
  bad = good;
  bad.start = -1;
  expect_refused({bad}, "position -1");
  bad = good;
  bad.logit_rows = 21;
  expect_refused({bad}, "21 rows of logits of 20 tokens");
  bad = good;
  bad.blocks = good.blocks.first(1);
  expect_refused({bad}, "1 blocks for 20 positions; 2 needed");
  bad = good;
  bad.rotary_frequencies = {};
  expect_refused({bad}, "0 rotary frequencies, expected 4");
  const Tokens stray = {0, Bench::kBlocks};
  bad = good;
  bad.blocks = stray;
  expect_refused({bad}, "KV block 256 of 256");
  const Tokens slot = {token_of_slot(4)};
  bad = good;
  bad.tokens = slot;
  expect_refused({bad}, "token slot 4 of 4");
  // None of them has done any harm.
  const std::vector<StepSequence> one = {good};
  EXPECT_EQ(bench_->run(one), bench_->run_prompt(good_.tokens, 1));
}

TEST_F(StepLimitsTest, BuffersAndCacheMustFit) {
  const auto& decoder = bench_->decoder();
  StepLimits limits = Bench::kLimits;
  EXPECT_GT(decoder.create_buffers(limits, 1)->bytes(), 0u);
  EXPECT_GT(decoder.create_buffers(limits, 3)->bytes(), decoder.create_buffers(limits, 1)->bytes());
  limits.rows = 0;
  EXPECT_EQ(caught([&] { decoder.create_buffers(limits, 1); }).kind, ErrorKind::kInternal);
  const auto device = ops::create_device("reference", {});
  auto spec = decoder.kv_cache_spec();
  spec.blocks = 4;
  spec.layers += 1;
  const auto cache = device->create_kv_cache(spec);
  const std::vector<StepSequence> one = {good_.step(0, 20, 1)};
  const auto error = caught([&] { decoder.forward(bench_->stream(), bench_->buffers(), *cache, one); });
  EXPECT_EQ(error.kind, ErrorKind::kInternal);
  EXPECT_THAT(error.message, HasSubstr("KV cache is for 3 layers"));
}

}  // namespace
}  // namespace peregrine::model
