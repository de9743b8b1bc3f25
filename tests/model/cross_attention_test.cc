// SPDX-License-Identifier: Apache-2.0
// Cross-attention in steps: texts stored together or alone, decoders of different texts in one batch, chunks,
// and the checks of what a step and a text may hold.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "model/seq2seq_bench.h"
#include "model/support.h"
#include "support/devices.h"
#include "support/test_data.h"

namespace peregrine::model {
namespace {

using core::ErrorKind;
using testing::DeviceCase;
using ::testing::HasSubstr;
using Tokens = std::vector<std::int32_t>;

/// A golden fixture with the types that its files ask for: those in bfloat16 compute in it where they can.
Seq2SeqBench bench_of(const DeviceCase& device, const std::string& fixture) {
  return Seq2SeqBench(device.create(), [&](ops::Device& target) {
    return load_model(testing::test_data() / "golden" / fixture, target, {});
  });
}

class CrossAttention : public ::testing::TestWithParam<std::tuple<std::string, DeviceCase>> {
 protected:
  void SetUp() override {
    PEREGRINE_REQUIRE_TEST_DATA("golden");
    const auto& [fixture, device] = GetParam();
    bench_.emplace(bench_of(device, fixture));
  }

  /// What each answer gets alone, with its text stored alone: logits of all positions.
  std::vector<std::vector<float>> alone(const std::vector<Tokens>& texts,
                                        const std::vector<Tokens>& answers) {
    std::vector<std::vector<float>> out;
    for (std::size_t i = 0; i < texts.size(); ++i) {
      const StoredText text = bench_->store({texts[i]}).at(0);
      out.push_back(bench_->decode(answers[i], text));
    }
    return out;
  }

  std::vector<float> rows(const std::vector<float>& logits, std::size_t first, std::size_t count) const {
    const auto begin = logits.begin() + static_cast<std::ptrdiff_t>(first * bench_->vocab());
    return {begin, begin + static_cast<std::ptrdiff_t>(count * bench_->vocab())};
  }

  /// A text of one token, one that fills its blocks, and one beyond a segment of attention.
  const std::vector<Tokens> texts_ = {some_tokens(1, 1), some_tokens(32, 2), some_tokens(17, 3),
                                      some_tokens(150, 4)};
  const std::vector<Tokens> answers_ = {some_tokens(3, 5), some_tokens(9, 6), some_tokens(1, 7),
                                        some_tokens(20, 8)};
  std::optional<Seq2SeqBench> bench_;
};

TEST_P(CrossAttention, TextsStoredTogetherAreAsTheyAreAlone) {
  const auto expected = alone(texts_, answers_);
  const auto stored = bench_->store(texts_);
  for (std::size_t i = 0; i < texts_.size(); ++i) {
    EXPECT_EQ(bench_->decode(answers_[i], stored[i]), expected[i]) << "text " << i;
  }
}

TEST_P(CrossAttention, AnswersToDifferentTextsInOneStepAreAsTheyAreAlone) {
  const auto expected = alone(texts_, answers_);
  const auto stored = bench_->store(texts_);
  std::vector<AnswerText> own;
  for (const auto& answer : answers_) own.push_back(bench_->answer(answer));
  // The second is a decode: its first tokens came before, next to others.
  const std::vector<StepSequence> before = {bench_->piece(own[0], stored[0], 0, 1),
                                            bench_->piece(own[1], stored[1], 0, 8)};
  auto logits = rows(expected[0], 0, 1);
  const auto second = rows(expected[1], 0, 8);
  logits.insert(logits.end(), second.begin(), second.end());
  EXPECT_EQ(bench_->run(before), logits);
  const std::vector<StepSequence> together = {
      bench_->piece(own[3], stored[3], 0, 20), bench_->piece(own[1], stored[1], 8, 1),
      bench_->piece(own[2], stored[2], 0, 1), bench_->piece(own[0], stored[0], 1, 2)};
  logits = expected[3];
  for (const auto& part : {rows(expected[1], 8, 1), expected[2], rows(expected[0], 1, 2)})
    logits.insert(logits.end(), part.begin(), part.end());
  EXPECT_EQ(bench_->run(together), logits);
}

TEST_P(CrossAttention, ChunksOfAnySizeGiveTheSameBits) {
  const StoredText text = bench_->store({texts_[3]}).at(0);
  const Tokens answer = some_tokens(40, 9);
  const auto whole = bench_->decode(answer, text);
  for (const std::size_t chunk : {1u, 7u, 16u}) {
    EXPECT_EQ(bench_->decode(answer, text, chunk), whole) << "chunks of " << chunk;
  }
}

TEST_P(CrossAttention, WhatATextSaysMatters) {
  const auto stored = bench_->store({some_tokens(17, 3), some_tokens(17, 4)});
  EXPECT_NE(bench_->decode(answers_[0], stored[0]), bench_->decode(answers_[0], stored[1]));
}

/// A text that is not wanted any more is not written anywhere, and changes nothing for those around it.
TEST_P(CrossAttention, TextsWithoutBlocksAreLeftOut) {
  // Tables are filled up with block 0, which belongs to this text.
  const StoredText first = bench_->store({texts_[3]}).at(0);
  ASSERT_EQ(first.blocks[0], 0);
  const auto kept = bench_->decode(answers_[3], first);
  const auto expected = alone(texts_, answers_);
  using Wanted = std::vector<bool>;
  for (const Wanted& wanted : {Wanted{false, true, false, true}, Wanted{true, false, false, true},
                               Wanted{true, true, true, false}, Wanted{false, false, false, false}}) {
    const auto stored = bench_->store(texts_, wanted);
    for (std::size_t i = 0; i < texts_.size(); ++i) {
      if (!wanted[i]) continue;
      EXPECT_EQ(bench_->decode(answers_[i], stored[i]), expected[i]) << "text " << i;
    }
    EXPECT_EQ(bench_->decode(answers_[3], first), kept);
  }
}

INSTANTIATE_TEST_SUITE_P(T5, CrossAttention,
                         ::testing::Combine(::testing::Values("t5_v1_0", "t5_v1_1_bf16"),
                                            ::testing::ValuesIn(testing::all_devices())),
                         [](const auto& info) {
                           return std::get<0>(info.param) + "_" + std::get<1>(info.param).name();
                         });

class CrossChecks : public ::testing::Test {
 protected:
  void SetUp() override {
    PEREGRINE_REQUIRE_TEST_DATA("golden");
    bench_.emplace(bench_of({"reference", ""}, "t5_v1_0"));
    text_ = bench_->store({some_tokens(20, 1)}).at(0);
    answer_ = bench_->answer(some_tokens(3, 2));
  }

  void expect_refused(const StoredText& text, const std::string& message) {
    const StepSequence sequence = bench_->piece(answer_, text, 0, 3);
    const auto error = caught([&] { bench_->run({&sequence, 1}); });
    EXPECT_EQ(error.kind, ErrorKind::kInternal);
    EXPECT_THAT(error.message, HasSubstr(message));
  }

  void expect_not_stored(std::size_t tokens, const Tokens& blocks, const std::string& message) {
    const auto error = caught([&] { bench_->store_at(some_tokens(tokens, 1), blocks); });
    EXPECT_EQ(error.kind, ErrorKind::kInternal);
    EXPECT_THAT(error.message, HasSubstr(message));
  }

  std::optional<Seq2SeqBench> bench_;
  StoredText text_;
  AnswerText answer_;
};

TEST_F(CrossChecks, StepsNeedATextThatTheirBlocksHold) {
  expect_refused({text_.blocks, 0}, "a text of 0 tokens");
  expect_refused({text_.blocks, -1}, "a text of -1 tokens");
  expect_refused({text_.blocks, 33}, "2 blocks for a text of 33 tokens; 3 needed");
  expect_refused({Tokens(21, 1), 16 * 20 + 1}, "limit 20");
  expect_refused({{0, Seq2SeqBench::kBlocks}, 20}, "KV block 512 of 512");
  expect_refused({{0, -1}, 20}, "KV block -1 of 512");
  expect_refused({{}, 20}, "0 blocks");
}

TEST_F(CrossChecks, TextsNeedBlocksThatHoldThem) {
  expect_not_stored(33, {1, 2}, "2 blocks for a text of 33 tokens; 3 needed");
  expect_not_stored(16 * 20 + 1, Tokens(21, 1), "limit 20");
  expect_not_stored(20, {1, Seq2SeqBench::kBlocks}, "KV block 512 of 512");
  expect_not_stored(20, {-1, 1}, "KV block -1 of 512");
}

TEST(CrossChecksOfOthers, DecoderOnlyModelsHaveNoTexts) {
  PEREGRINE_REQUIRE_TEST_DATA("golden");
  Bench bench = golden_bench({"reference", ""}, "gpt2");
  const Tokens tokens = {1, 2, 3}, blocks = bench.take_blocks(3);
  StepSequence sequence{.tokens = tokens, .blocks = blocks, .rotary_frequencies = {}, .logit_rows = 1};
  sequence.cross_blocks = blocks;
  sequence.cross_length = 3;
  const auto error = caught([&] { bench.run({&sequence, 1}); });
  EXPECT_EQ(error.kind, ErrorKind::kInternal);
  EXPECT_THAT(error.message, HasSubstr("without cross-attention"));
  const auto stored = caught([&] {
    bench.decoder().store_cross(bench.stream(), bench.buffers(), bench.cache(), EncodedBatch{}, {});
  });
  EXPECT_THAT(stored.message, HasSubstr("no cross-attention"));
}

}  // namespace
}  // namespace peregrine::model
