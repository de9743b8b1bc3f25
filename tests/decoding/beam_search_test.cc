// SPDX-License-Identifier: Apache-2.0
#include "decoding/beam_search.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <limits>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "core/error.h"
#include "decoding/beam_reference.h"
#include "decoding/softmax.h"

namespace peregrine::decoding {
namespace {

using generation::EarlyStopping;
using generation::FinishReason;
using generation::Parameters;
using testing::Model;
using testing::Reference;
using testing::reference_search;
using testing::Tokens;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

std::uint64_t hash_of(const Tokens& history) {
  std::uint64_t hash = 1469598103934665603u;
  for (const std::int32_t id : history) hash = (hash ^ static_cast<std::uint64_t>(id + 1)) * 1099511628211u;
  return hash;
}

/// Logits that are a function of the history; `step` > 0 rounds them to its multiples, so that there are
/// ties.
Model random_model(std::size_t vocab, std::uint64_t seed, float spread, float step) {
  return [=](const Tokens& history) {
    std::mt19937_64 random(hash_of(history) + seed);
    std::normal_distribution<float> normal(0, spread);
    std::vector<float> logits(vocab);
    for (float& logit : logits) {
      logit = normal(random);
      if (step > 0) logit = std::round(logit / step) * step;
    }
    return logits;
  };
}

struct Outcome {
  std::vector<BeamSearch::Hypothesis> results;
  bool failed = false;
  std::vector<std::int32_t> live;  ///< Before each step.
};

/// Plays the engine's part: keeps the history of each beam, and asks the model.
Outcome run(const Parameters& p, const Model& model, const Tokens& prompt, std::int32_t most_tokens,
            const TokenBytes* bytes = nullptr, const Tokens& encoder = {}) {
  const std::size_t vocab = model(prompt).size();
  BeamSearch search(p, static_cast<std::int64_t>(vocab), prompt, most_tokens, bytes, encoder);
  SamplerScratch scratch(static_cast<std::int64_t>(vocab));
  std::vector<Tokens> histories = {prompt};
  Outcome out;
  while (!search.done()) {
    out.live.push_back(search.live());
    EXPECT_EQ(histories.size(), static_cast<std::size_t>(search.live()));
    EXPECT_TRUE(search.results().empty());
    std::vector<float> logits;
    for (const Tokens& history : histories) {
      const auto row = model(history);
      logits.insert(logits.end(), row.begin(), row.end());
    }
    search.advance(logits, scratch);
    std::vector<Tokens> next;
    for (const auto& beam : search.beams()) {
      next.push_back(histories.at(static_cast<std::size_t>(beam.parent)));
      next.back().push_back(beam.token);
    }
    histories = std::move(next);
  }
  EXPECT_EQ(search.live(), 0);
  EXPECT_TRUE(search.beams().empty());
  out.results.assign(search.results().begin(), search.results().end());
  out.failed = search.failed();
  return out;
}

Tokens ids_of(const BeamSearch::Hypothesis& hypothesis) {
  Tokens ids;
  for (const auto& token : hypothesis.tokens) ids.push_back(token.token.id);
  return ids;
}

/// Each token has the model's own log-probability, and the most likely tokens where it was drawn.
void expect_models_own(const Parameters& p, const Model& model, Tokens history,
                       const BeamSearch::Hypothesis& hypothesis) {
  for (const auto& token : hypothesis.tokens) {
    const auto logits = model(history);
    double sum = 0;
    for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
    const auto own = [&](std::int32_t id) { return logits[static_cast<std::size_t>(id)] - std::log(sum); };
    ASSERT_NEAR(token.token.log_prob, own(token.token.id), 1e-5);
    ASSERT_EQ(token.top.size(), std::min(logits.size(), static_cast<std::size_t>(p.top_n_tokens)));
    for (std::size_t i = 0; i < token.top.size(); ++i) {
      ASSERT_NEAR(token.top[i].log_prob, own(token.top[i].id), 1e-5);
      const auto higher = std::ranges::count_if(
          logits, [&](float logit) { return logit > logits[static_cast<std::size_t>(token.top[i].id)]; });
      ASSERT_LE(static_cast<std::size_t>(higher), i);
    }
    history.push_back(token.token.id);
  }
}

void expect_same(const Outcome& found, const Reference& expected) {
  ASSERT_EQ(found.results.size(), expected.results.size());
  for (std::size_t i = 0; i < found.results.size(); ++i) {
    ASSERT_EQ(ids_of(found.results[i]), expected.results[i].tokens) << i;
    ASSERT_EQ(found.results[i].score, static_cast<float>(expected.results[i].score)) << i;
    ASSERT_EQ(found.results[i].finish, expected.results[i].finish) << i;
  }
}

class Draw {
 public:
  explicit Draw(std::uint64_t seed) : random_(seed) {}
  std::int32_t below(std::int32_t limit) {
    return static_cast<std::int32_t>(random_() % static_cast<std::uint64_t>(limit));
  }
  bool one_in(std::int32_t n) { return below(n) == 0; }
  template <typename Value, std::size_t kSize>
  Value of(const std::array<Value, kSize>& values) {
    return values[static_cast<std::size_t>(below(static_cast<std::int32_t>(kSize)))];
  }
  Tokens ids(std::int32_t least, std::int32_t most, std::int32_t vocab) {
    Tokens out(static_cast<std::size_t>(least + below(most - least + 1)));
    for (auto& id : out) id = below(vocab);
    return out;
  }

 private:
  std::mt19937_64 random_;
};

struct Setting {
  Parameters parameters;
  Model model;
  Tokens prompt, encoder;
  std::int32_t most_tokens = 0;
  TokenBytes bytes;
};

void draw_beams(Draw& draw, Parameters& p) {
  p.num_beams = 1 + draw.below(6);
  do {
    p.num_beam_groups = draw.one_in(2) ? 1 : 1 + draw.below(p.num_beams);
  } while (p.num_beams % p.num_beam_groups != 0);
  if (p.num_beam_groups > 1) p.diversity_penalty = draw.of(std::array{0.0f, 0.3f, 1.0f, 1.7f});
  p.length_penalty = draw.of(std::array{0.0f, 0.6f, 1.0f, 2.0f, -1.0f});
  p.early_stopping = draw.of(std::array{EarlyStopping::kFalse, EarlyStopping::kTrue, EarlyStopping::kNever});
  p.n = 1 + draw.below(p.num_beams);
  p.top_n_tokens = draw.one_in(4) ? 3 : 0;
}

void draw_processors(Draw& draw, std::int32_t vocab, Parameters& p) {
  p.eos_token_ids = draw.ids(0, 3, vocab);
  if (draw.one_in(4)) p.stop_token_ids = draw.ids(1, 2, vocab);
  if (draw.one_in(4)) p.min_new_tokens = draw.below(5);
  if (draw.one_in(5)) p.min_length = draw.below(9);
  if (draw.one_in(3)) p.repetition_penalty = draw.of(std::array{1.3f, 0.8f});
  if (draw.one_in(4)) p.presence_penalty = 0.4f;
  if (draw.one_in(4)) p.frequency_penalty = 0.2f;
  if (draw.one_in(3)) p.no_repeat_ngram_size = 1 + draw.below(3);
  for (int i = draw.one_in(3) ? 3 : 0; i > 0; --i) p.bad_words_ids.push_back(draw.ids(1, 3, vocab));
  if (draw.one_in(5)) p.suppress_tokens = draw.ids(1, 3, vocab);
}

void draw_rarer_processors(Draw& draw, std::int32_t vocab, Parameters& p) {
  if (draw.one_in(4)) {
    for (int i = 0; i < 4; ++i) {
      p.sequence_bias.push_back({draw.ids(1, 3, vocab), draw.of(std::array{-3.0f, -0.5f, 0.5f, 2.0f})});
    }
  }
  if (draw.one_in(5)) p.encoder_repetition_penalty = draw.of(std::array{1.5f, 0.7f});
  if (draw.one_in(5)) p.encoder_no_repeat_ngram_size = 1 + draw.below(3);
  if (draw.one_in(5)) p.begin_suppress_tokens = draw.ids(1, 3, vocab);
  if (draw.one_in(5)) p.forced_bos_token_id = draw.below(vocab);
  if (draw.one_in(6)) p.forced_eos_token_ids = draw.ids(1, 2, vocab);
  if (draw.one_in(5)) {
    p.exponential_decay_length_penalty = {draw.below(6), draw.of(std::array{1.2f, 0.8f})};
  }
  p.renormalize_logits = draw.one_in(5);
}

Setting draw_setting(std::uint64_t seed) {
  Draw draw(seed);
  Setting s;
  const std::int32_t vocab = draw.one_in(3) ? 5 + draw.below(5) : 5 + draw.below(46);
  draw_beams(draw, s.parameters);
  draw_processors(draw, vocab, s.parameters);
  if (draw.one_in(2)) draw_rarer_processors(draw, vocab, s.parameters);
  s.prompt = draw.one_in(4) ? Tokens{1} : draw.ids(1, 6, vocab);
  if (draw.one_in(2)) s.encoder = draw.ids(1, 9, vocab);
  s.most_tokens = 1 + draw.below(20);
  s.model = random_model(static_cast<std::size_t>(vocab), seed, draw.of(std::array{0.5f, 1.5f, 4.0f}),
                         draw.one_in(3) ? 0.5f : 0.0f);
  for (std::int32_t id = 0; id < vocab; ++id) {
    std::string text;
    for (int i = draw.below(4); i > 0; --i) text += draw.one_in(2) ? 'a' : draw.one_in(2) ? 'b' : 'c';
    s.bytes.push_back(text);
  }
  for (int i = draw.one_in(3) ? 1 + draw.below(3) : 0; i > 0; --i) {
    std::string stop;
    for (int j = 1 + draw.below(6); j > 0; --j) stop += draw.one_in(2) ? 'a' : 'b';
    s.parameters.stop_strings.push_back(stop);
  }
  return s;
}

TEST(BeamSearch, EqualsThePublishedAlgorithm) {
  int literal = 0, early = 0, stopped = 0, impossible = 0, diverse = 0;
  for (std::uint64_t seed = 0; seed < 3000; ++seed) {
    SCOPED_TRACE(seed);
    const Setting s = draw_setting(seed);
    const Parameters& p = s.parameters;
    const Outcome found = run(p, s.model, s.prompt, s.most_tokens, &s.bytes, s.encoder);
    const Tokens& encoder = s.encoder.empty() ? s.prompt : s.encoder;
    const Reference expected = reference_search(p, s.model, s.prompt, encoder, s.most_tokens, s.bytes, false);
    ASSERT_NO_FATAL_FAILURE(expect_same(found, expected));
    ASSERT_EQ(found.failed, expected.results.empty());
    for (const auto& hypothesis : found.results) {
      ASSERT_NO_FATAL_FAILURE(expect_models_own(p, s.model, s.prompt, hypothesis));
      stopped += hypothesis.finish == FinishReason::kStopSequence;
      early += hypothesis.finish != FinishReason::kLength;
    }
    ASSERT_EQ(found.live[0], 1);
    for (const std::int32_t live : found.live) ASSERT_LE(live, p.num_beams);
    diverse += p.diversity_penalty > 0;
    if (!p.stop_strings.empty()) continue;
    const Reference literally = reference_search(p, s.model, s.prompt, encoder, s.most_tokens, s.bytes, true);
    if (literally.impossible) {
      ++impossible;
    } else {
      ++literal;
      ASSERT_NO_FATAL_FAILURE(expect_same(found, literally));
    }
  }
  // That the settings reach what they are for.
  EXPECT_GT(literal, 700);
  EXPECT_GT(impossible, 150);
  EXPECT_GT(early, 1000);
  EXPECT_GT(stopped, 250);
  EXPECT_GT(diverse, 250);
}

TEST(BeamSearch, OneBeamIsGreedy) {
  Parameters p;
  const Model model = random_model(40, 3, 2, 0);
  Tokens history = {1, 2};
  for (int i = 0; i < 10; ++i) {
    const auto logits = model(history);
    history.push_back(static_cast<std::int32_t>(std::ranges::max_element(logits) - logits.begin()));
  }
  const Outcome found = run(p, model, {1, 2}, 10);
  ASSERT_EQ(found.results.size(), 1u);
  EXPECT_EQ(ids_of(found.results[0]), Tokens(history.begin() + 2, history.end()));
  EXPECT_EQ(found.results[0].finish, FinishReason::kLength);
}

TEST(BeamSearch, TiesGoToTheLowerBeamThenTheLowerToken) {
  Parameters p;
  p.num_beams = p.n = 4;
  const Outcome found = run(
      p, [](const Tokens&) { return std::vector<float>(3, 1.0f); }, {0}, 2);
  EXPECT_EQ(found.live, (std::vector<std::int32_t>{1, 3}));
  ASSERT_EQ(found.results.size(), 4u);
  // Beams 00 01 02 10, all equal: of hypotheses the later comes first.
  EXPECT_EQ(ids_of(found.results[0]), (Tokens{1, 0}));
  EXPECT_EQ(ids_of(found.results[1]), (Tokens{0, 2}));
  EXPECT_EQ(ids_of(found.results[3]), (Tokens{0, 0}));
}

TEST(BeamSearch, FewerBeamsWhereFewTokensAreAllowed) {
  Parameters p;
  p.num_beams = p.n = 5;
  const auto only = [](const Tokens& allowed) {
    return [allowed](const Tokens&) {
      std::vector<float> logits(8, -kInf);
      for (const auto id : allowed) logits[static_cast<std::size_t>(id)] = static_cast<float>(id);
      return logits;
    };
  };
  Outcome found = run(p, only({2, 3}), {0}, 4);
  EXPECT_EQ(found.live, (std::vector<std::int32_t>{1, 2, 4, 5}));
  EXPECT_EQ(found.results.size(), 5u);
  found = run(p, only({6}), {0}, 4);
  EXPECT_EQ(found.live, (std::vector<std::int32_t>{1, 1, 1, 1}));
  ASSERT_EQ(found.results.size(), 1u);
  EXPECT_EQ(ids_of(found.results[0]), (Tokens{6, 6, 6, 6}));
  EXPECT_EQ(found.results[0].score, 0.0f);
  // Only the end token is left: everything that is open has ended.
  p.eos_token_ids = {6};
  found = run(p, only({6}), {0}, 4);
  ASSERT_EQ(found.results.size(), 1u);
  EXPECT_EQ(found.results[0].finish, FinishReason::kEosToken);
  EXPECT_FALSE(found.failed);
}

TEST(BeamSearch, ASearchThatCannotGoOnEndsWithItsBeamsAsTheyAre) {
  Parameters p;
  p.num_beams = p.n = 3;
  p.no_repeat_ngram_size = 1;  // Of four tokens, three are left behind the prompt.
  const Outcome found = run(p, random_model(4, 1, 1, 0), {0}, 10);
  EXPECT_EQ(found.live.size(), 4u);
  ASSERT_EQ(found.results.size(), 3u);
  for (const auto& hypothesis : found.results) {
    EXPECT_EQ(hypothesis.tokens.size(), 3u);
    EXPECT_EQ(hypothesis.finish, FinishReason::kLength);
    EXPECT_TRUE(std::isfinite(hypothesis.score));
  }
}

TEST(BeamSearch, WithoutAnyFirstTokenItFails) {
  for (const std::int32_t groups : {1, 2}) {
    Parameters p;
    p.num_beams = 4;
    p.num_beam_groups = groups;
    Outcome found = run(
        p, [](const Tokens&) { return std::vector<float>(70, -kInf); }, {0}, 5);
    EXPECT_TRUE(found.failed);
    EXPECT_TRUE(found.results.empty());
    p.suppress_tokens = {0, 1, 2};
    found = run(p, random_model(3, 1, 1, 0), {0}, 5);
    EXPECT_TRUE(found.failed);
  }
}

TEST(BeamSearch, ANanFailsIt) {
  Parameters p;
  p.num_beams = 3;
  p.suppress_tokens = {5};
  for (const std::size_t length : {1u, 4u}) {
    const Model sound = random_model(100, 1, 1, 0);
    const auto sick = [&](const Tokens& history) {
      auto logits = sound(history);
      if (history.size() == length) logits[5] = kNaN;
      return logits;
    };
    const Outcome found = run(p, sick, {0}, 10);
    EXPECT_TRUE(found.failed);
    EXPECT_TRUE(found.results.empty());
    EXPECT_EQ(found.live.size(), length);
  }
}

TEST(BeamSearch, InfinitiesAndHugeLogitsStayDefined) {
  Parameters p;
  p.num_beams = p.n = 3;
  p.repetition_penalty = 1000;
  p.length_penalty = -10;
  const auto wild = [](const Tokens& history) {
    std::vector<float> logits(100, -3e38f);
    logits[history.size()] = kInf;
    logits[history.size() + 1] = 3e38f;
    logits[history.size() + 2] = -kInf;
    return logits;
  };
  const Outcome found = run(p, wild, {0}, 6);
  ASSERT_GE(found.results.size(), 1u);
  EXPECT_EQ(ids_of(found.results[0]), (Tokens{1, 2, 3, 4, 5, 6}));
  for (const auto& hypothesis : found.results) {
    EXPECT_TRUE(std::isfinite(hypothesis.score));
    for (const auto& token : hypothesis.tokens) EXPECT_TRUE(std::isfinite(token.token.log_prob));
  }
}

TEST(BeamSearch, StopStringsMayBeSplitOverTokensAndBytes) {
  Parameters p;
  p.num_beams = p.n = 2;
  p.early_stopping = EarlyStopping::kTrue;
  p.stop_strings = {"\xe2\x82\xac!", ""};  // Three bytes of a sign, then one more. Nothing is no stop string.
  const TokenBytes bytes = {"\xe2", "\x82\xac", "!", "x!", "\xe2\x82\xac!y"};
  // The way 0 1 2 is the likely one; "x!" completes nothing.
  const auto way = [](const Tokens& history) {
    std::vector<float> logits = {0, 0, 0, 1, -9};
    if (history.size() < 4) logits[history.size() - 1] = 5;
    return logits;
  };
  Outcome found = run(p, way, {2}, 8, &bytes);
  ASSERT_EQ(found.results.size(), 2u);
  EXPECT_EQ(ids_of(found.results[0]), (Tokens{0, 1, 2}));
  EXPECT_EQ(found.results[0].finish, FinishReason::kStopSequence);
  // Inside one token, too; and the prompt's bytes are no part of the output.
  found = run(
      p,
      [](const Tokens&) {
        return std::vector<float>{0, 0, 0, 0, 9};
      },
      {0, 1}, 8, &bytes);
  EXPECT_EQ(ids_of(found.results[0]), (Tokens{4}));
  found = run(
      p,
      [](const Tokens&) {
        return std::vector<float>{0, 0, 9, 0, -9};
      },
      {0, 1}, 8, &bytes);
  EXPECT_EQ(found.results[0].finish, FinishReason::kLength);
}

TEST(BeamSearch, WhereMostTokensEndThereAreBeamsAllTheSame) {
  // 900 of 1000 tokens complete a stop string, among them the most likely ones.
  Parameters p;
  p.num_beams = p.n = 4;
  p.length_penalty = 3;  // Longer is better, so the search goes on.
  p.early_stopping = EarlyStopping::kNever;
  p.stop_strings = {"."};
  TokenBytes bytes(1000, "a.");
  for (std::size_t i = 0; i < 100; ++i) bytes[i * 10] = "b";
  const Outcome found = run(
      p,
      [](const Tokens&) {
        std::vector<float> logits(1000);
        for (std::size_t i = 0; i < logits.size(); ++i) {
          logits[i] = static_cast<float>(i % 10 == 0 ? 0 : 2) + static_cast<float>(i) * 1e-3f;
        }
        return logits;
      },
      {0}, 5, &bytes);
  EXPECT_EQ(found.live, (std::vector<std::int32_t>{1, 4, 4, 4, 4}));
}

TEST(BeamSearch, RefusesWhatDoesNotFit) {
  const auto made = [](const Parameters& p, const Tokens& prompt) { BeamSearch(p, 10, prompt, 5, nullptr); };
  Parameters p;
  EXPECT_THROW(made(p, {10}), core::Error);
  EXPECT_THROW(made(p, {-1}), core::Error);
  p.num_beams = 0;
  EXPECT_THROW(made(p, {0}), core::Error);
  p.num_beams = 4;
  p.num_beam_groups = 3;
  EXPECT_THROW(made(p, {0}), core::Error);
  p.num_beam_groups = 0;
  EXPECT_THROW(made(p, {0}), core::Error);
  p.num_beam_groups = 2;
  BeamSearch search(p, 10, Tokens{0}, 1, nullptr);
  SamplerScratch scratch(10), other(11);
  std::vector<float> logits(10);
  EXPECT_THROW(search.advance(std::span(logits).first(9), scratch), core::Error);
  EXPECT_THROW(search.advance(logits, other), core::Error);
  search.advance(logits, scratch);
  EXPECT_TRUE(search.done());
  EXPECT_THROW(search.advance(logits, scratch), core::Error);
}

// Prints what a step costs, in processor time; a timing is never a test.
TEST(BeamSearch, CostOfAStep) {
  constexpr std::size_t kVocab = 65024;
  constexpr int kSteps = 10;
  std::mt19937 random(4);
  std::normal_distribution<float> normal(0, 3);
  std::vector<float> noise(kVocab * 16);
  for (float& value : noise) value = normal(random);
  Parameters plain, full;
  plain.num_beams = full.num_beams = 8;
  full.repetition_penalty = 1.1f;
  full.no_repeat_ngram_size = 3;
  full.eos_token_ids = {5};
  for (const std::size_t size : {10u, 2000u, 30000u}) {
    for (const auto& [name, p] : {std::pair("plain", plain), std::pair("processors", full)}) {
      Tokens prompt(size);
      for (auto& id : prompt) id = static_cast<std::int32_t>(random() % kVocab);
      BeamSearch search(p, kVocab, prompt, kSteps + 1, nullptr);
      SamplerScratch scratch(kVocab);
      std::vector<float> logits;
      double best = 1e9;
      for (int step = 0; step < kSteps; ++step) {
        const auto begin = noise.begin() + static_cast<std::ptrdiff_t>(random() % (kVocab * 8));
        logits.assign(begin, begin + static_cast<std::ptrdiff_t>(kVocab) * search.live());
        const std::clock_t start = std::clock();
        search.advance(logits, scratch);
        const auto took = static_cast<double>(std::clock() - start) * 1e6 / CLOCKS_PER_SEC;
        if (step > 0) best = std::min(best, took);
      }
      std::printf("8 beams after %zu tokens, %s: %.0f us a step\n", size, name, best);
    }
  }
}

}  // namespace
}  // namespace peregrine::decoding
