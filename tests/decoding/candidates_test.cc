// SPDX-License-Identifier: Apache-2.0
#include "decoding/candidates.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "decoding/random.h"
#include "decoding/softmax.h"

namespace peregrine::decoding {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

struct Cuts {
  float temperature = 1;
  std::size_t top_k = 0;
  float top_p = 1, min_p = 0, typical_p = 1;
};

/// The cuts as their definitions read: full sorts of the whole vocabulary, nothing skipped. Weight 0 of a
/// token says nothing about whether it is kept, so that is separate.
struct Naive {
  std::vector<bool> kept;
  std::vector<float> logits;
  std::vector<std::uint64_t> weights;

  Naive(std::vector<float> raw, const Cuts& cuts)
      : kept(raw.size()), logits(raw.size()), weights(raw.size()) {
    constexpr float kMax = std::numeric_limits<float>::max();
    for (std::size_t i = 0; i < raw.size(); ++i) {
      kept[i] = raw[i] > -kInf;
      logits[i] = kept[i] ? std::clamp(raw[i] / cuts.temperature, -kMax, kMax) : -kInf;
    }
    if (cuts.top_k > 0) top_k(cuts.top_k);
    weigh();
    if (cuts.top_p < 1) top_p(cuts.top_p);
    if (cuts.min_p > 0) min_p(cuts.min_p);
    if (cuts.typical_p < 1) typical(cuts.typical_p);
  }

  std::vector<std::size_t> left() const {
    std::vector<std::size_t> out;
    for (std::size_t i = 0; i < kept.size(); ++i) {
      if (kept[i]) out.push_back(i);
    }
    return out;
  }
  std::vector<std::size_t> best_first() const {
    auto order = left();
    std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) { return logits[a] > logits[b]; });
    return order;
  }
  std::uint64_t total() const {
    std::uint64_t sum = 0;
    for (const std::size_t i : left()) sum += weights[i];
    return sum;
  }
  float maximum() const { return *std::ranges::max_element(logits); }

  void top_k(std::size_t k) {
    const auto order = best_first();
    if (order.size() <= k) return;
    const float least = logits[order[k - 1]];
    for (const std::size_t i : order) kept[i] = logits[i] >= least;
  }
  void weigh() {
    const float best = maximum();
    for (const std::size_t i : left()) {
      float weight = 0;
      exponentials({&logits[i], 1}, best, {&weight, 1});
      weights[i] = static_cast<std::uint64_t>(std::nearbyint(static_cast<double>(weight) * 1099511627776.0));
    }
  }
  void top_p(float p) {
    const std::uint64_t target = share_of(p, total());
    std::uint64_t before = 0;
    for (const std::size_t i : best_first()) {
      kept[i] = before < target;
      before += weights[i];
    }
  }
  void min_p(float share) {
    const float best = maximum();
    for (const std::size_t i : left()) {
      float relative = 0;
      exponentials({&logits[i], 1}, best, {&relative, 1});
      kept[i] = relative >= share;
    }
  }
  void typical(float p) {
    auto order = left();
    const auto sum = static_cast<double>(total());
    const double log_total = maximum() + std::log(sum / 1099511627776.0);
    double entropy = 0;
    for (const std::size_t i : order)
      entropy += static_cast<double>(weights[i]) / sum * (log_total - logits[i]);
    std::vector<float> distance(logits.size());
    for (const std::size_t i : order)
      distance[i] = static_cast<float>(std::abs(log_total - logits[i] - entropy));
    std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) { return distance[a] < distance[b]; });
    const std::uint64_t target = share_of(p, total());
    std::uint64_t reached = 0;
    float last = 0;
    for (const std::size_t i : order) {
      last = distance[i];
      if ((reached += weights[i]) >= target) break;
    }
    for (const std::size_t i : order) kept[i] = distance[i] <= last;
  }
};

Candidates fast(std::vector<float> logits, const Cuts& cuts) {
  std::vector<float> maxima((logits.size() + kBlockSize - 1) / kBlockSize);
  sanitize(logits, maxima);
  Candidates candidates(logits.size());
  candidates.gather(logits, maxima, cuts.temperature, cuts.top_k);
  if (cuts.top_k > 0) cut_top_k(candidates, cuts.top_k);
  candidates.weigh();
  if (cuts.top_p < 1) cut_top_p(candidates, cuts.top_p);
  if (cuts.min_p > 0) cut_min_p(candidates, cuts.min_p);
  if (cuts.typical_p < 1) cut_typical(candidates, cuts.typical_p);
  return candidates;
}

/// The same by the ways that leave out, or never list, what is not wanted.
Candidates shorter(std::vector<float> logits, const Cuts& cuts) {
  std::vector<float> maxima((logits.size() + kBlockSize - 1) / kBlockSize);
  sanitize(logits, maxima);
  Candidates candidates(logits.size());
  if (cuts.top_k == 0 && cuts.top_p < 1) {
    candidates.gather_top_p(logits, maxima, cuts.temperature, cuts.top_p);
  } else {
    candidates.gather(logits, maxima, cuts.temperature, cuts.top_k, cuts.top_p < 1 ? 0 : cuts.min_p);
    if (cuts.top_k > 0) cut_top_k(candidates, cuts.top_k);
    candidates.weigh();
    if (cuts.top_p < 1) cut_top_p(candidates, cuts.top_p);
  }
  if (cuts.min_p > 0) cut_min_p(candidates, cuts.min_p);
  if (cuts.typical_p < 1) cut_typical(candidates, cuts.typical_p);
  return candidates;
}

void expect_equal(const Candidates& one, const Candidates& other) {
  ASSERT_EQ(one.size(), other.size());
  EXPECT_TRUE(std::ranges::equal(one.ids(), other.ids()));
  EXPECT_TRUE(std::ranges::equal(one.logits(), other.logits()));
  EXPECT_TRUE(std::ranges::equal(one.weights(), other.weights()));
  EXPECT_EQ(one.total(), other.total());
}

/// draw_from_all() of logits that are only divided by a temperature.
void expect_same_draws(std::vector<float> logits, float temperature, const Candidates& candidates) {
  std::vector<float> maxima((logits.size() + kBlockSize - 1) / kBlockSize);
  sanitize(logits, maxima);
  std::vector<std::uint64_t> sums(maxima.size());
  std::mt19937_64 random(6);
  for (int i = 0; i < 20; ++i) {
    const std::uint64_t bits = i < 2 ? std::uint64_t{0} - static_cast<std::uint64_t>(i) : random();
    ASSERT_EQ(draw_from_all(logits, maxima, temperature, bits, sums), draw(candidates, bits));
  }
}

/// draw_top_p() of logits that only top_p cuts.
void expect_same_top_p(std::vector<float> logits, const Cuts& cuts, const Candidates& expected) {
  std::vector<float> maxima((logits.size() + kBlockSize - 1) / kBlockSize);
  sanitize(logits, maxima);
  std::vector<std::uint64_t> sums(maxima.size());
  Candidates candidates(logits.size());
  std::mt19937_64 random(7);
  for (int i = 0; i < 20; ++i) {
    const std::uint64_t bits = i < 2 ? std::uint64_t{0} - static_cast<std::uint64_t>(i) : random();
    ASSERT_EQ(candidates.draw_top_p(logits, maxima, cuts.temperature, cuts.top_p, bits, sums),
              draw(expected, bits));
  }
}

/// Equal sets, logits and weights, bit for bit; then every draw is equal.
void expect_same(const std::vector<float>& logits, const Cuts& cuts) {
  SCOPED_TRACE(::testing::Message() << "size " << logits.size() << " temperature " << cuts.temperature
                                    << " top_k " << cuts.top_k << " top_p " << cuts.top_p << " min_p "
                                    << cuts.min_p << " typical_p " << cuts.typical_p);
  const Naive naive(logits, cuts);
  const Candidates candidates = fast(logits, cuts);
  const auto left = naive.left();
  ASSERT_EQ(candidates.size(), left.size());
  for (std::size_t i = 0; i < left.size(); ++i) {
    ASSERT_EQ(static_cast<std::size_t>(candidates.ids()[i]), left[i]);
    ASSERT_EQ(candidates.logits()[i], naive.logits[left[i]]);
    ASSERT_EQ(candidates.weights()[i], naive.weights[left[i]]);
  }
  expect_equal(shorter(logits, cuts), candidates);
  if (cuts.top_k == 0 && cuts.top_p == 1 && cuts.min_p == 0 && cuts.typical_p == 1) {
    expect_same_draws(logits, cuts.temperature, candidates);
  }
  if (cuts.top_k == 0 && cuts.top_p < 1 && cuts.min_p == 0 && cuts.typical_p == 1) {
    expect_same_top_p(logits, cuts, candidates);
  }
  ASSERT_EQ(candidates.total(), naive.total());
  ASSERT_GT(candidates.total(), 0u);
  std::mt19937_64 random(5);
  for (int i = 0; i < 20; ++i) {
    const std::uint64_t bits = random();
    const std::uint64_t point = scale_bits(bits, naive.total());
    std::uint64_t sum = 0;
    std::size_t expected = 0;
    for (const std::size_t id : left) {
      if ((sum += naive.weights[id]) > point) {
        expected = id;
        break;
      }
    }
    ASSERT_EQ(static_cast<std::size_t>(draw(candidates, bits)), expected);
  }
}

std::vector<Cuts> all_cuts() {
  std::vector<Cuts> out = {{}, {0.7f}, {1e-5f}, {1e6f}};
  for (const std::size_t k : {1, 2, 5, 50, 1000, 100000}) out.push_back({0.8f, k});
  for (const float p : {0.0f, 1e-6f, 0.1f, 0.5f, 0.9f, 0.999f, 0.9999999f}) {
    out.push_back({1, 0, p});
    out.push_back({0.6f, 0, 1, 0, p});
    out.push_back({1.3f, 40, p});
  }
  for (const float p : {1e-9f, 0.01f, 0.5f, 1.0f}) out.push_back({1, 0, 1, p});
  out.push_back({0.9f, 100, 0.95f, 0.02f, 0.9f});
  out.push_back({1, 0, 0.99f, 0.001f, 0.5f});
  return out;
}

TEST(Candidates, FastPathsEqualTheNaiveOnesBitForBit) {
  std::mt19937 random(11);
  for (const float spread : {0.01f, 1.0f, 3.0f, 12.0f}) {
    for (const std::size_t size : {1, 2, 3, 17, 64, 65, 500, 3001, 20000}) {
      std::normal_distribution<float> normal(1, spread);
      std::vector<float> logits(size);
      for (float& logit : logits) logit = normal(random);
      for (const Cuts& cuts : all_cuts()) expect_same(logits, cuts);
    }
  }
}

TEST(Candidates, FastPathsEqualTheNaiveOnesWithTiesAndRemovedTokens) {
  std::mt19937 random(12);
  for (const int levels : {1, 2, 5, 40}) {
    for (const std::size_t size : {2, 9, 130, 4000, 9001}) {
      std::vector<float> logits(size);
      for (float& logit : logits) {
        logit = static_cast<float>(static_cast<int>(random() % static_cast<unsigned>(levels)) - 2) * 0.5f;
        if (random() % 4 == 0) logit = -kInf;
        if (logit == 0 && random() % 2 == 0) logit = -0.0f;
      }
      logits[size / 2] = 0.25f;
      for (const Cuts& cuts : all_cuts()) expect_same(logits, cuts);
    }
  }
}

TEST(Candidates, FastPathsEqualTheNaiveOnesWhereAFewTokensAreLikely) {
  std::mt19937 random(13);
  for (const int likely : {1, 20, 200}) {
    for (const bool side_by_side : {false, true}) {
      std::normal_distribution<float> normal(0, 2);
      std::vector<float> logits(20000);
      for (float& logit : logits) logit = normal(random);
      for (int i = 0; i < likely; ++i) {
        const std::size_t at = side_by_side ? 700 + static_cast<std::size_t>(i) : random() % logits.size();
        logits[at] = 14 - 0.03f * static_cast<float>(i);
      }
      for (const Cuts& cuts : all_cuts()) expect_same(logits, cuts);
    }
  }
}

TEST(Candidates, ExtremeLogitsStayDefined) {
  constexpr float kMax = std::numeric_limits<float>::max();
  for (const Cuts& cuts : all_cuts()) {
    expect_same({kMax, -kMax, 0, 1}, cuts);
    expect_same({-kMax, -kMax, -kMax}, cuts);
    expect_same({1e30f, 1e30f, -kInf, 1e-30f, 1e-45f}, cuts);
  }
}

TEST(Candidates, OrderKeysOrderAsNumbersDo) {
  const std::vector<float> rising = {-kInf, -1e30f, -1, -1e-45f, 0, 1e-45f, 1e-10f, 1, 2, 1e30f, kInf};
  for (std::size_t i = 1; i < rising.size(); ++i) EXPECT_LT(order_key(rising[i - 1]), order_key(rising[i]));
  EXPECT_EQ(order_key(0.0f), order_key(-0.0f));
}

TEST(Candidates, TopKKeepsTiesOfTheLast) {
  const Candidates candidates = fast({1, 3, 2, 3, 2, 2, -1, 0.5f, 4}, {1, 2});
  EXPECT_EQ(std::vector<std::int32_t>(candidates.ids().begin(), candidates.ids().end()),
            (std::vector<std::int32_t>{1, 3, 8}));
}

TEST(Candidates, TopPPrefersLowerIdsAmongEquals) {
  const Candidates candidates = fast({0, 1, 1, 1, 1, 0}, {1, 0, 0.3f});
  EXPECT_EQ(std::vector<std::int32_t>(candidates.ids().begin(), candidates.ids().end()),
            (std::vector<std::int32_t>{1, 2}));
}

TEST(Candidates, TopPZeroKeepsOne) {
  const Candidates candidates = fast({0, 7, 7, 1}, {1, 0, 0.0f});
  ASSERT_EQ(candidates.size(), 1u);
  EXPECT_EQ(candidates.ids()[0], 1);
}

TEST(Candidates, DrawCoversExactlyTheWeights) {
  // Two tokens of equal weight split the range of random bits in the middle.
  const Candidates candidates = fast({2, -kInf, 2}, {});
  EXPECT_EQ(draw(candidates, 0), 0);
  EXPECT_EQ(draw(candidates, (std::uint64_t{1} << 63) - 1), 0);
  EXPECT_EQ(draw(candidates, std::uint64_t{1} << 63), 2);
  EXPECT_EQ(draw(candidates, ~std::uint64_t{0}), 2);
}

/// Pearson's statistic of 100,000 draws against exact probabilities, in standard deviations of its
/// distribution (Wilson and Hilferty 1931). Tokens expected less than five times are one cell.
double chi_square_deviation(const Candidates& candidates, const std::vector<double>& exact) {
  constexpr int kDraws = 100000;
  std::vector<int> counts(exact.size());
  for (int i = 0; i < kDraws; ++i) {
    ++counts[static_cast<std::size_t>(draw(candidates, random_bits(77, 3, static_cast<std::uint64_t>(i))))];
  }
  double statistic = 0, rare_expected = 0, rare_found = 0;
  int cells = 0;
  for (std::size_t i = 0; i < exact.size(); ++i) {
    const double expected = exact[i] * kDraws;
    if (expected == 0) {
      EXPECT_EQ(counts[i], 0) << i;
    } else if (expected < 5) {
      rare_expected += expected;
      rare_found += counts[i];
    } else {
      statistic += (counts[i] - expected) * (counts[i] - expected) / expected;
      ++cells;
    }
  }
  if (rare_expected > 0) {
    statistic += (rare_found - rare_expected) * (rare_found - rare_expected) / rare_expected;
    ++cells;
  }
  if (cells < 2) return 0;
  const double freedom = cells - 1;
  const double variance = 2 / (9 * freedom);
  return (std::cbrt(statistic / freedom) - (1 - variance)) / std::sqrt(variance);
}

TEST(Candidates, DrawsFollowTheExactDistribution) {
  std::mt19937 random(21);
  std::normal_distribution<float> normal(0, 1.5f);
  std::vector<float> logits(300);
  for (float& logit : logits) logit = normal(random);
  const std::vector<Cuts> kinds = {{0.7f},
                                   {1.8f},
                                   {1, 20},
                                   {1, 0, 0.8f},
                                   {1, 0, 1, 0.1f},
                                   {1, 0, 1, 0, 0.6f},
                                   {0.9f, 60, 0.9f, 0.01f, 0.95f}};
  for (const Cuts& cuts : kinds) {
    const Naive naive(logits, cuts);
    std::vector<double> exact(logits.size());
    double sum = 0;
    for (const std::size_t i : naive.left()) {
      sum += exact[i] = std::exp(static_cast<double>(logits[i]) / static_cast<double>(cuts.temperature));
    }
    for (double& probability : exact) probability /= sum;
    EXPECT_LT(std::abs(chi_square_deviation(fast(logits, cuts), exact)), 3.3)
        << cuts.temperature << " " << cuts.top_k << " " << cuts.top_p << " " << cuts.min_p << " "
        << cuts.typical_p;
  }
}

}  // namespace
}  // namespace peregrine::decoding
