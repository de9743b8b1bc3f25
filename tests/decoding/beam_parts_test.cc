// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "decoding/beam_hypotheses.h"
#include "decoding/best_tokens.h"
#include "decoding/processors.h"
#include "decoding/softmax.h"
#include "decoding/stop_strings.h"
#include "decoding/token_tree.h"

namespace peregrine::decoding {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
using Tokens = std::vector<std::int32_t>;

TEST(BestTokens, EqualAFullSort) {
  std::mt19937 random(7);
  for (int round = 0; round < 400; ++round) {
    std::vector<float> logits(1 + random() % (round % 4 == 0 ? 5000 : 300));
    const unsigned levels = round % 3 == 0 ? 5 : 1u << 20;
    for (float& logit : logits) {
      logit = static_cast<float>(random() % levels) / static_cast<float>(levels) * 20 - 5;
      if (random() % 9 == 0) logit = -kInf;
    }
    std::vector<float> maxima((logits.size() + kBlockSize - 1) / kBlockSize);
    sanitize(logits, maxima);
    const double log_total = round % 2 == 0 ? 0.0 : 3.25;
    // An offset large enough that different numbers become equal.
    const float offset = round % 5 == 0 ? -1e6f : -1.5f;
    std::vector<ScoredToken> expected;
    for (std::size_t i = 0; i < logits.size(); ++i) {
      if (logits[i] == -kInf) continue;
      expected.push_back({log_probability(logits[i], log_total) + offset, static_cast<std::int32_t>(i)});
    }
    std::ranges::stable_sort(expected, std::ranges::greater(), &ScoredToken::score);
    for (const std::size_t count : {std::size_t{1}, std::size_t{2}, std::size_t{17}, logits.size()}) {
      std::vector<ScoredToken> found;
      best_tokens({logits, maxima, log_total}, offset, count, found);
      ASSERT_EQ(found.size(), std::min(count, expected.size()));
      for (std::size_t i = 0; i < found.size(); ++i) {
        ASSERT_EQ(found[i].token, expected[i].token) << round << " " << i;
        ASSERT_EQ(found[i].score, expected[i].score);
      }
    }
  }
}

TEST(StopStrings, EqualASearchOfTheWholeOutput) {
  std::mt19937 random(8);
  const auto text = [&](std::size_t most) {
    std::string out(random() % (most + 1), 'a');
    for (char& c : out) c = static_cast<char>('a' + random() % 2);
    return out;
  };
  int found = 0;
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::string> stops(random() % 4);
    for (auto& stop : stops) stop = text(7);
    TokenBytes bytes(6);
    for (auto& token : bytes) token = text(round % 3 == 0 ? 9 : 3);
    const StopStrings strings(stops, &bytes);
    std::erase(stops, "");
    ASSERT_EQ(strings.empty(), stops.empty());
    if (stops.empty()) continue;
    std::string output, tail;
    for (int step = 0; step < 20; ++step) {
      const auto token = static_cast<std::int32_t>(random() % 7);  // The last has no bytes.
      if (token < 6) output += bytes[static_cast<std::size_t>(token)];
      const bool expected = std::ranges::any_of(
          stops, [&](const std::string& stop) { return output.find(stop) != std::string::npos; });
      ASSERT_EQ(strings.completes(tail, token), expected) << output;
      if (expected) {
        ++found;
        break;
      }
      strings.append(tail, token);
      ASSERT_TRUE(output.ends_with(tail));
      ASSERT_LT(tail.size(), 7u);
    }
  }
  EXPECT_GT(found, 500);
  EXPECT_TRUE(StopStrings({"a"}, nullptr).empty());
}

TEST(TokenTree, FreesWhatNobodyHolds) {
  TokenTree tree;
  const auto a = tree.add(TokenTree::kRoot, {1, -1.0f}, {});
  const auto b = tree.add(a, {2, -2.0f}, std::vector<generation::TokenLogProb>{{7, -0.5f}});
  const auto c = tree.add(a, {3, -3.0f}, {});
  tree.release(a);  // Held by b and c.
  EXPECT_EQ(tree.size(), 3u);
  const auto path = tree.path(b);
  ASSERT_EQ(path.size(), 2u);
  EXPECT_EQ(path[0].token.id, 1);
  EXPECT_EQ(path[1].token.id, 2);
  ASSERT_EQ(path[1].top.size(), 1u);
  EXPECT_EQ(path[1].top[0].id, 7);
  tree.release(b);
  EXPECT_EQ(tree.size(), 2u);
  const auto d = tree.add(c, {4, -4.0f}, {});
  EXPECT_EQ(d, b);  // Its place, without its alternatives.
  EXPECT_TRUE(tree.path(d)[2].top.empty());
  tree.release(c);
  tree.release(d);
  EXPECT_EQ(tree.size(), 0u);
  tree.release(TokenTree::kRoot);
}

TEST(BeamHypotheses, KeepsTheBestAndGivesBackTheOthers) {
  generation::Parameters p;
  p.length_penalty = 2;
  BeamHypotheses two(2, p, 10);
  const auto kEnd = generation::FinishReason::kEosToken;
  EXPECT_EQ(two.add(-4, 2, 11, kEnd), TokenTree::kRoot);  // -1
  EXPECT_FALSE(two.is_done(-100, 2));
  EXPECT_EQ(two.add(-18, 3, 12, kEnd), TokenTree::kRoot);  // -2
  EXPECT_TRUE(two.is_done(-32, 4));                        // -2: no better than the worst.
  EXPECT_FALSE(two.is_done(-31, 4));
  EXPECT_EQ(two.add(-2, 1, 13, kEnd), 13);  // -2: a tie is not taken.
  EXPECT_EQ(two.add(-8, 4, 14, kEnd), 12);  // -0.5
  ASSERT_EQ(two.ended().size(), 2u);
  EXPECT_EQ(two.ended()[0].node, 11);
  EXPECT_EQ(two.ended()[1].node, 14);
  EXPECT_EQ(two.add(-32, 8, 15, kEnd), 11);  // -0.5, and now both are.
  EXPECT_EQ(two.add(-1, 4, 16, kEnd), 14);   // Of equals the first to come goes.
}

TEST(BeamHypotheses, NeverLooksAtTheLengthThatCouldBeBest) {
  for (const float penalty : {1.0f, -1.0f}) {
    generation::Parameters p;
    p.early_stopping = generation::EarlyStopping::kNever;
    p.length_penalty = penalty;
    BeamHypotheses one(1, p, 10);
    one.add(-4, 1, 0, generation::FinishReason::kEosToken);
    // At the longest, -8 / 10; with a penalty on length as it is now, -8 * 2.
    EXPECT_EQ(one.is_done(-8, 2), penalty < 0);
    p.early_stopping = generation::EarlyStopping::kFalse;
    BeamHypotheses other(1, p, 10);
    other.add(-4, 1, 0, generation::FinishReason::kEosToken);
    EXPECT_TRUE(other.is_done(-8, 2));
  }
}

/// Every processor that keeps state, and some that do not.
generation::Parameters all_processors() {
  generation::Parameters p;
  p.repetition_penalty = 1.5f;
  p.presence_penalty = 0.5f;
  p.frequency_penalty = 0.25f;
  p.no_repeat_ngram_size = 2;
  p.encoder_no_repeat_ngram_size = 2;
  p.bad_words_ids = {{1, 2}};
  p.sequence_bias = {{{3, 4}, 2.0f}};
  return p;
}

TEST(ProcessorChain, ACopyGoesOnByItself) {
  std::mt19937 random(9);
  constexpr std::int64_t kVocab = 9;
  const Tokens encoder = {0, 3, 5, 3};
  const auto fresh = [&](const Tokens& tokens) {
    ProcessorChain chain(all_processors(), kVocab, 0, 4, encoder);
    for (std::size_t i = 1; i <= tokens.size(); ++i) chain.append(std::span(tokens).first(i), true);
    return chain;
  };
  const auto applied = [&](const ProcessorChain& chain, const Tokens& tokens) {
    std::vector<float> logits(kVocab, 1.0f);
    logits[2] = -1.0f;
    chain.apply(logits, tokens);
    return logits;
  };
  // Four sequences; now and then one goes on as another's copy, made or assigned.
  struct Sequence {
    Tokens tokens;
    ProcessorChain chain;
  };
  std::vector<Sequence> sequences;
  for (int i = 0; i < 4; ++i) sequences.push_back({{}, fresh({})});
  for (int step = 0; step < 500; ++step) {
    Sequence& to = sequences[random() % 4];
    const Sequence& from = sequences[random() % 4];
    if (step % 3 == 0) to = from;
    if (step % 7 == 0) to = Sequence(from);
    to.tokens.push_back(static_cast<std::int32_t>(random() % kVocab));
    to.chain.append(to.tokens, true);
    for (const Sequence& sequence : sequences) {
      ASSERT_EQ(applied(sequence.chain, sequence.tokens), applied(fresh(sequence.tokens), sequence.tokens));
    }
    if (to.tokens.size() > 40) to = {{}, fresh({})};
  }
  // One that was moved from takes a copy, too.
  Sequence moved = std::move(sequences[0]);
  sequences[0] = sequences[1];
  EXPECT_EQ(applied(sequences[0].chain, sequences[0].tokens),
            applied(sequences[1].chain, sequences[1].tokens));
  EXPECT_FALSE(moved.chain.empty());
}

TEST(ProcessorChain, DiversityComesBetweenBiasesAndPenalties) {
  generation::Parameters p;
  p.sequence_bias = {{{0}, 1.0f}};
  p.repetition_penalty = 2;
  ProcessorChain chain(p, 2, 1, 1);
  const Tokens tokens = {0};
  chain.append(tokens, false);
  std::vector<float> logits = {2, 2};
  const std::vector<TokenPenalty> diversity = {{0, 4.0f}, {1, 0.5f}};
  chain.apply(logits, tokens, diversity);
  EXPECT_EQ(logits, (std::vector<float>{-2, 1.5f}));  // (2 + 1 - 4) * 2: the repeated one is below 0 by then.
}

TEST(ProcessorChain, ForcedTokensAndDecay) {
  generation::Parameters p;
  p.max_new_tokens = 3;
  p.eos_token_ids = {2};
  p.forced_bos_token_id = 1;
  p.forced_eos_token_ids = {2, 3};
  p.exponential_decay_length_penalty = {0, 2.0f};
  p.begin_suppress_tokens = {0};
  const auto at = [&](std::size_t prompt, const Tokens& tokens) {
    const ProcessorChain chain(p, 4, static_cast<std::int64_t>(prompt), 1);
    std::vector<float> logits = {1, 1, -1, 1};
    chain.apply(logits, tokens);
    return logits;
  };
  EXPECT_EQ(at(1, {0}), (std::vector<float>{-kInf, 0, -kInf, -kInf}));
  EXPECT_EQ(at(1, {0, 1}), (std::vector<float>{-kInf, 1, 0, 1}));  // The first one that is not forced.
  EXPECT_EQ(at(1, {0, 1, 1}), (std::vector<float>{-kInf, -kInf, 0, 0}));
  EXPECT_EQ(at(2, {0, 1}),
            (std::vector<float>{-kInf, 1, -1, 1}));  // Nothing is forced behind a longer prompt.
  EXPECT_EQ(at(2, {0, 1, 1}), (std::vector<float>{1, 1, 0, 1}));
}

TEST(ProcessorChain, HugeDecaysStayDefined) {
  generation::Parameters p;
  p.eos_token_ids = {0, 1, 2};
  p.exponential_decay_length_penalty = {0, 1000.0f};
  p.renormalize_logits = true;
  const ProcessorChain chain(p, 4, 0, 1);
  std::vector<float> logits = {0, -kInf, -5, 1};
  chain.apply(logits, Tokens(500, 1));
  for (const std::size_t i : {0, 2, 3}) EXPECT_TRUE(std::isfinite(logits[i])) << i;
  EXPECT_EQ(logits[1], -kInf);
  EXPECT_EQ(std::ranges::max_element(logits) - logits.begin(), 2);
}

}  // namespace
}  // namespace peregrine::decoding
