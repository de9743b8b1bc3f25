// SPDX-License-Identifier: Apache-2.0
#include "decoding/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <limits>
#include <numeric>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"

namespace peregrine::decoding {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
using Tokens = std::vector<std::int32_t>;

std::vector<float> random_logits(std::size_t size, unsigned seed, float spread = 2) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> logits(size);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

SampledToken sample_once(const generation::Parameters& parameters, std::vector<float> logits,
                         const Tokens& prompt = {0}, std::uint64_t seed = 1, std::int32_t sequence = 0) {
  const auto vocab = static_cast<std::int64_t>(logits.size());
  SequenceSampler sampler(parameters, seed, sequence, vocab, prompt, {});
  SamplerScratch scratch(vocab);
  SampledToken out;
  sampler.sample(logits, scratch, out);
  EXPECT_EQ(sampler.tokens().back(), out.token.id);
  return out;
}

generation::Parameters sampling() {
  generation::Parameters parameters;
  parameters.do_sample = true;
  return parameters;
}

/// Every processor and cut at once.
generation::Parameters everything() {
  generation::Parameters parameters = sampling();
  parameters.temperature = 0.9f;
  parameters.top_k = 40;
  parameters.top_p = 0.97f;
  parameters.min_p = 0.001f;
  parameters.typical_p = 0.98f;
  parameters.repetition_penalty = 1.1f;
  parameters.presence_penalty = 0.3f;
  parameters.frequency_penalty = 0.1f;
  parameters.no_repeat_ngram_size = 3;
  parameters.bad_words_ids = {{5}, {3, 4}, {1, 2, 3}};
  parameters.suppress_tokens = {7, 9};
  parameters.eos_token_ids = {11};
  parameters.min_new_tokens = 30;
  parameters.top_n_tokens = 5;
  return parameters;
}

TEST(Sampler, GreedyTakesTheLowestIdAmongEquals) {
  for (const std::size_t size : {3, 64, 200, 1000}) {
    std::vector<float> logits(size, 1.0f);
    logits[size - 1] = logits[size / 2] = 3.0f;
    EXPECT_EQ(sample_once({}, logits).token.id, static_cast<std::int32_t>(size / 2));
    EXPECT_EQ(sample_once({}, std::vector<float>(size, -2.0f)).token.id, 0);
  }
  EXPECT_EQ(sample_once({}, {-0.0f, 0.0f}).token.id, 0);
}

TEST(Sampler, TemperatureNearZeroIsGreedy) {
  auto parameters = sampling();
  const auto logits = random_logits(500, 3);
  for (const float temperature : {0.0f, 1e-30f, 9e-6f}) {
    parameters.temperature = temperature;
    EXPECT_EQ(sample_once(parameters, logits).token.id,
              std::max_element(logits.begin(), logits.end()) - logits.begin());
  }
}

TEST(Sampler, LogProbabilitiesAreTheModelsOwn) {
  auto parameters = everything();
  parameters.top_n_tokens = 20;
  const auto logits = random_logits(777, 4, 4);
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
  const SampledToken out = sample_once(parameters, logits, {1, 2, 3, 1, 2});
  EXPECT_NEAR(out.token.log_prob, logits[static_cast<std::size_t>(out.token.id)] - std::log(sum), 2e-6);
  ASSERT_EQ(out.top.size(), 20u);
  for (const TokenLogProb& token : out.top) {
    EXPECT_NEAR(token.log_prob, logits[static_cast<std::size_t>(token.id)] - std::log(sum), 2e-6);
  }
}

TEST(Sampler, TopTokensAreBestFirstWithTiesToTheLowerId) {
  std::mt19937 random(5);
  for (const std::size_t size : {1, 5, 64, 300, 5000}) {
    std::vector<float> logits(size);
    for (float& logit : logits) logit = static_cast<float>(random() % 50);
    if (size > 64) logits[60] = kNaN;
    std::vector<std::int32_t> order(size);
    std::iota(order.begin(), order.end(), 0);
    const auto value = [&](std::int32_t id) {
      const float logit = logits[static_cast<std::size_t>(id)];
      return std::isnan(logit) ? -kInf : logit;
    };
    std::ranges::stable_sort(order, [&](auto a, auto b) { return value(a) > value(b); });
    for (const std::int32_t count : {0, 1, 7, 100}) {
      generation::Parameters parameters;
      parameters.top_n_tokens = count;
      const SampledToken out = sample_once(parameters, logits);
      ASSERT_EQ(out.top.size(), std::min<std::size_t>(size, static_cast<std::size_t>(count)));
      for (std::size_t i = 0; i < out.top.size(); ++i) ASSERT_EQ(out.top[i].id, order[i]);
      if (count > 0) {
        EXPECT_EQ(out.token.log_prob, out.top[0].log_prob);
      }
    }
  }
}

TEST(Sampler, ReplayDrawsWhatTheUndisturbedSequenceDraws) {
  const auto parameters = everything();
  constexpr std::int64_t kVocab = 60;
  const Tokens prompt = {1, 2, 3, 4, 1, 2, 3, 4};
  SamplerScratch scratch(kVocab), other(kVocab);
  SequenceSampler whole(parameters, 99, 2, kVocab, prompt, {});
  Tokens generated;
  std::set<std::int32_t> distinct;
  for (unsigned step = 0; step < 60; ++step) {
    // A fresh sampler at each step, given the tokens so far.
    SequenceSampler replayed(parameters, 99, 2, kVocab, prompt, generated);
    auto logits = random_logits(kVocab, step), copy = logits;
    SampledToken expected, found;
    whole.sample(logits, scratch, expected);
    // What the scratch was used for before makes no difference.
    auto unrelated = random_logits(kVocab, step + 1000);
    SampledToken ignored;
    SequenceSampler(sampling(), 5, 0, kVocab, prompt, {}).sample(unrelated, other, ignored);
    replayed.sample(copy, other, found);
    ASSERT_EQ(found.token.id, expected.token.id) << step;
    ASSERT_EQ(found.token.log_prob, expected.token.log_prob);
    ASSERT_EQ(found.top.size(), expected.top.size());
    for (std::size_t i = 0; i < found.top.size(); ++i) {
      ASSERT_EQ(found.top[i].id, expected.top[i].id);
      ASSERT_EQ(found.top[i].log_prob, expected.top[i].log_prob);
    }
    generated.push_back(found.token.id);
    distinct.insert(found.token.id);
    ASSERT_TRUE(std::ranges::equal(replayed.tokens(), whole.tokens()));
    ASSERT_EQ(replayed.prompt_size(), 8);
  }
  EXPECT_GT(distinct.size(), 15u);
  for (const std::int32_t never : {5, 7, 9}) EXPECT_FALSE(distinct.contains(never));
}

TEST(Sampler, SeedSequenceAndPositionEachChangeTheDraw) {
  const std::vector<float> flat(1000, 0.0f);
  const auto parameters = sampling();
  const auto draw = [&](std::uint64_t seed, std::int32_t sequence, std::size_t position) {
    return sample_once(parameters, flat, Tokens(position, 0), seed, sequence).token.id;
  };
  EXPECT_EQ(draw(1, 0, 5), draw(1, 0, 5));
  int differing = 0;
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    differing += draw(seed, 0, 5) != draw(seed + 1, 0, 5);
    differing += draw(seed, 0, 5) != draw(seed, 1, 5);
    differing += draw(seed, 0, 5) != draw(seed, 0, 6);
  }
  EXPECT_GT(differing, 140);
}

TEST(Sampler, ADrawIsDefinedWhateverTheLogits) {
  for (const bool sample : {false, true}) {
    auto parameters = everything();
    parameters.do_sample = sample;
    for (const float bad : {kNaN, -kInf}) {
      // Nothing above minus infinity: the lowest id that nothing forbids. 0 is suppressed here.
      parameters.suppress_tokens = {0};
      const SampledToken out = sample_once(parameters, std::vector<float>(100, bad));
      EXPECT_EQ(out.token.id, 1);
      EXPECT_EQ(out.token.log_prob, -kInf);
      EXPECT_EQ(out.top[0].id, 0);
      EXPECT_EQ(out.top[0].log_prob, -kInf);
    }
    // One good logit.
    std::vector<float> logits(100, kNaN);
    logits[42] = -3;
    EXPECT_EQ(sample_once(parameters, logits).token.id, 42);
    EXPECT_NEAR(sample_once(parameters, logits).token.log_prob, 0, 1e-6);
    // Infinities.
    logits.assign(100, 1);
    logits[33] = kInf;
    EXPECT_EQ(sample_once(parameters, logits).token.id, 33);
    EXPECT_NEAR(sample_once(parameters, logits).token.log_prob, 0, 1e-6);
    // The best is forbidden; the rest is lost in its shadow, but finite.
    parameters.suppress_tokens = {33};
    EXPECT_NE(sample_once(parameters, logits).token.id, 33);
    EXPECT_TRUE(std::isfinite(sample_once(parameters, logits).token.log_prob));
    // Everything forbidden.
    parameters.suppress_tokens.resize(100);
    std::iota(parameters.suppress_tokens.begin(), parameters.suppress_tokens.end(), 0);
    EXPECT_EQ(sample_once(parameters, logits).token.id, 0);
    EXPECT_EQ(sample_once(parameters, logits).token.log_prob, -kInf);
  }
}

TEST(Sampler, RefusesWhatDoesNotFit) {
  SamplerScratch scratch(10);
  SampledToken out;
  std::vector<float> logits(9);
  SequenceSampler sampler({}, 0, 0, 10, Tokens{1}, {});
  EXPECT_THROW(sampler.sample(logits, scratch, out), core::Error);
  EXPECT_THROW(SequenceSampler({}, 0, 0, 10, Tokens{10}, {}), core::Error);
  EXPECT_THROW(SequenceSampler({}, 0, 0, 10, Tokens{1}, Tokens{-1}), core::Error);
}

TEST(Sampler, NgramsNeverRepeatInALongOutput) {
  auto parameters = sampling();
  parameters.no_repeat_ngram_size = 2;
  constexpr std::int64_t kVocab = 12;
  SamplerScratch scratch(kVocab);
  SequenceSampler sampler(parameters, 3, 0, kVocab, Tokens{0}, {});
  SampledToken out;
  for (unsigned step = 0; step < 100; ++step) {
    auto logits = random_logits(kVocab, step, 0.5f);
    sampler.sample(logits, scratch, out);
  }
  std::set<std::pair<std::int32_t, std::int32_t>> pairs;
  for (std::size_t i = 1; i < sampler.tokens().size(); ++i) {
    EXPECT_TRUE(pairs.emplace(sampler.tokens()[i - 1], sampler.tokens()[i]).second) << i;
  }
}

// Prints what a draw costs; a timing is never a test.
TEST(Sampler, CostOfADraw) {
  using Clock = std::chrono::steady_clock;
  auto top_k = sampling(), top_p = sampling(), wide = sampling(), typical = sampling();
  top_k.top_k = 50;
  top_p.top_p = 0.95f;
  wide.top_p = 0.99999f;
  typical.typical_p = 0.9f;
  const std::vector<std::pair<const char*, generation::Parameters>> kinds = {{"greedy", {}},
                                                                             {"temperature", sampling()},
                                                                             {"top_k 50", top_k},
                                                                             {"top_p 0.95", top_p},
                                                                             {"top_p 0.99999", wide},
                                                                             {"typical_p", typical},
                                                                             {"everything", everything()}};
  for (const std::size_t vocab : {std::size_t{65024}, std::size_t{256000}}) {
    SamplerScratch scratch(static_cast<std::int64_t>(vocab));
    for (const float spread : {0.1f, 2.0f, 4.0f}) {
      const auto logits = random_logits(vocab, 9, spread);
      std::string line;
      for (const auto& [name, parameters] : kinds) {
        SequenceSampler sampler(parameters, 1, 0, static_cast<std::int64_t>(vocab), Tokens(100, 1), {});
        SampledToken out;
        double best = 1e9;
        for (int i = 0; i < 6; ++i) {
          auto copy = logits;
          const auto start = Clock::now();
          sampler.sample(copy, scratch, out);
          best = std::min(best, std::chrono::duration<double, std::micro>(Clock::now() - start).count());
        }
        line += std::string(name) + " " + std::to_string(static_cast<int>(best)) + " us  ";
      }
      std::printf("vocabulary %zu, spread %.1f: %s\n", vocab, static_cast<double>(spread), line.c_str());
    }
  }
}

}  // namespace
}  // namespace peregrine::decoding
