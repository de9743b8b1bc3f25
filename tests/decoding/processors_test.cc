// SPDX-License-Identifier: Apache-2.0
#include "decoding/processors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "core/error.h"
#include "decoding/bad_words.h"
#include "decoding/no_repeat_ngram.h"
#include "decoding/token_counts.h"

namespace peregrine::decoding {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
using Tokens = std::vector<std::int32_t>;

void append_all(LogitsProcessor& processor, const Tokens& tokens) {
  for (std::size_t i = 0; i < tokens.size(); ++i) processor.append(std::span(tokens).first(i + 1), true);
}

std::set<std::int32_t> forbidden(const LogitsProcessor& processor, const Tokens& tokens, std::size_t vocab) {
  std::vector<float> logits(vocab, 1.0f);
  processor.apply(logits, tokens);
  std::set<std::int32_t> out;
  for (std::size_t i = 0; i < vocab; ++i) {
    if (logits[i] == -kInf) out.insert(static_cast<std::int32_t>(i));
  }
  return out;
}

std::set<std::int32_t> brute_force_ngrams(const Tokens& tokens, std::size_t n) {
  std::set<std::int32_t> out;
  if (tokens.size() + 1 < n) return out;
  const auto suffix = tokens.end() - static_cast<std::ptrdiff_t>(n - 1);
  for (std::size_t i = 0; i + n <= tokens.size(); ++i) {
    if (std::equal(suffix, tokens.end(), tokens.begin() + static_cast<std::ptrdiff_t>(i)))
      out.insert(tokens[i + n - 1]);
  }
  return out;
}

TEST(NoRepeatNgram, EqualsBruteForceAtEveryStep) {
  std::mt19937 random(1);
  std::size_t found = 0;
  for (const unsigned vocab : {1u, 2u, 3u, 20u}) {
    for (std::int32_t n = 1; n <= 7; ++n) {
      NoRepeatNgram processor(n, 4);
      Tokens tokens;
      for (int step = 0; step < 300; ++step) {
        const auto expected = brute_force_ngrams(tokens, static_cast<std::size_t>(n));
        ASSERT_EQ(forbidden(processor, tokens, vocab), expected) << "n " << n << " step " << step;
        found += expected.size();
        tokens.push_back(static_cast<std::int32_t>(random() % vocab));
        processor.append(tokens, step % 2 == 0);
      }
      NoRepeatNgram rebuilt(n, 1000);
      append_all(rebuilt, tokens);
      ASSERT_EQ(forbidden(rebuilt, tokens, vocab), forbidden(processor, tokens, vocab));
    }
  }
  EXPECT_GT(found, 1000u);
}

TEST(NoRepeatNgram, LongPromptsOfOneTokenStayCheap) {
  // Quadratic work over 200,000 equal tokens would take minutes.
  const Tokens tokens(200000, 3);
  for (const std::int32_t n : {1, 2, 64, 1024}) {
    NoRepeatNgram processor(n, tokens.size());
    append_all(processor, tokens);
    EXPECT_EQ(forbidden(processor, tokens, 5), (std::set<std::int32_t>{3}));
  }
}

TEST(BadWords, EqualsBruteForce) {
  std::mt19937 random(2);
  for (int round = 0; round < 300; ++round) {
    const unsigned vocab = 2 + random() % 6;
    std::vector<Tokens> words(random() % 12);
    for (Tokens& word : words) {
      word.resize(1 + random() % 4);
      for (auto& id : word) id = static_cast<std::int32_t>(random() % vocab);
    }
    const Tokens eos = {0};
    Tokens tokens(random() % 10);
    for (auto& id : tokens) id = static_cast<std::int32_t>(random() % vocab);
    std::set<std::int32_t> expected;
    for (const Tokens& word : words) {
      if (word == eos || (word.size() > 1 && word.size() > tokens.size())) continue;
      if (std::equal(word.begin(), word.end() - 1,
                     tokens.end() - static_cast<std::ptrdiff_t>(word.size() - 1))) {
        expected.insert(word.back());
      }
    }
    ASSERT_EQ(forbidden(BadWords(words, eos), tokens, vocab), expected);
  }
}

TEST(TokenCounts, EqualsAMap) {
  std::mt19937 random(3);
  TokenCounts counts;
  std::map<std::int32_t, std::int32_t> expected;
  for (int i = 0; i < 20000; ++i) {
    const auto id = static_cast<std::int32_t>(random() % (i < 10000 ? 100u : 2000000000u));
    counts.add(id);
    ++expected[id];
  }
  std::map<std::int32_t, std::int32_t> found;
  for (const auto& entry : counts.entries()) EXPECT_TRUE(found.emplace(entry.id, entry.count).second);
  EXPECT_EQ(found, expected);
}

std::vector<float> process(const generation::Parameters& parameters, std::vector<float> logits,
                           const Tokens& prompt, const Tokens& generated) {
  ProcessorChain chain(parameters, static_cast<std::int64_t>(logits.size()),
                       static_cast<std::int64_t>(prompt.size()), 8);
  Tokens tokens;
  for (const auto id : prompt) chain.append((tokens.push_back(id), tokens), false);
  for (const auto id : generated) chain.append((tokens.push_back(id), tokens), true);
  chain.apply(logits, tokens);
  return logits;
}

TEST(ProcessorChain, NothingAskedNothingDone) {
  EXPECT_TRUE(ProcessorChain({}, 10, 3, 3).empty());
  generation::Parameters parameters;
  parameters.min_length = 3;  // The prompt is that long already.
  parameters.eos_token_ids = {1};
  EXPECT_TRUE(ProcessorChain(parameters, 10, 3, 3).empty());
}

TEST(ProcessorChain, RepetitionCountsPromptAndOutputOnce) {
  generation::Parameters parameters;
  parameters.repetition_penalty = 2;
  EXPECT_EQ(process(parameters, {4, -4, 4, -4, 0}, {0, 0, 1}, {0, 4}), (std::vector<float>{2, -8, 4, -4, 0}));
}

TEST(ProcessorChain, PresenceAndFrequencyCountOutputOnly) {
  generation::Parameters parameters;
  parameters.presence_penalty = 0.5f;
  parameters.frequency_penalty = 0.25f;
  EXPECT_EQ(process(parameters, {1, 1, 1, -1}, {0, 0, 0}, {1, 3, 3, 3}),
            (std::vector<float>{1, 0.25f, 1, -2.25f}));
  parameters.presence_penalty = 0;
  EXPECT_EQ(process(parameters, {1, 1}, {}, {1, 1}), (std::vector<float>{1, 0.5f}));
}

TEST(ProcessorChain, RepetitionComesBeforePresence) {
  generation::Parameters parameters;
  parameters.repetition_penalty = 2;
  parameters.presence_penalty = 2;
  EXPECT_EQ(process(parameters, {3}, {}, {0}), (std::vector<float>{-0.5f}));  // 3 / 2 - 2, not (3 - 2) / 2
}

TEST(ProcessorChain, MinimumLengthsForbidEndAndStopTokens) {
  generation::Parameters parameters;
  parameters.eos_token_ids = {1, 900};
  parameters.stop_token_ids = {2};
  parameters.min_new_tokens = 2;
  const std::vector<float> plain = {0, 0, 0, 0}, cut = {0, -kInf, -kInf, 0};
  EXPECT_EQ(process(parameters, plain, {0, 0, 0}, {0}), cut);
  EXPECT_EQ(process(parameters, plain, {0, 0, 0}, {0, 0}), plain);
  parameters.min_new_tokens = 0;
  parameters.min_length = 5;
  EXPECT_EQ(process(parameters, plain, {0, 0, 0}, {0}), cut);
  EXPECT_EQ(process(parameters, plain, {0, 0, 0}, {0, 0}), plain);
}

TEST(ProcessorChain, RefusesIdsOutsideTheVocabulary) {
  generation::Parameters parameters;
  parameters.suppress_tokens = {10};
  EXPECT_THROW(ProcessorChain(parameters, 10, 0, 0), core::Error);
  parameters.suppress_tokens = {};
  parameters.bad_words_ids = {{1, -1}};
  EXPECT_THROW(ProcessorChain(parameters, 10, 0, 0), core::Error);
}

}  // namespace
}  // namespace peregrine::decoding
