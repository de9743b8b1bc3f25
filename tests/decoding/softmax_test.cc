// SPDX-License-Identifier: Apache-2.0
#include "decoding/softmax.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace peregrine::decoding {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kMax = std::numeric_limits<float>::max();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

TEST(Softmax, ExponentialsAreNearExact) {
  std::vector<float> values;
  for (float x = 0; x > -87; x -= 0.001f) values.push_back(x);
  std::vector<float> out(values.size());
  exponentials(values, 0.0f, out);
  EXPECT_EQ(out[0], 1.0f);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double exact = std::exp(static_cast<double>(values[i]));
    ASSERT_NEAR(out[i] / exact, 1.0, 2 * 1.2e-7) << values[i];
  }
}

TEST(Softmax, ExponentialsDoNotDependOnPlaceOrLength) {
  std::mt19937 random(1);
  std::uniform_real_distribution<float> uniform(-50, 0);
  std::vector<float> values(1000);
  for (float& value : values) value = uniform(random);
  std::vector<float> all(values.size());
  exponentials(values, 0.0f, all);
  for (std::size_t i = 0; i < values.size(); ++i) {
    float one = 0;
    exponentials({&values[i], 1}, 0.0f, {&one, 1});
    ASSERT_EQ(one, all[i]);
  }
}

TEST(Softmax, ExponentialsOfTheFarAreTiny) {
  const std::vector<float> values = {-88, -1000, -kMax, -kInf};
  std::vector<float> out(values.size());
  exponentials(values, 0.0f, out);
  for (const float value : out) {
    EXPECT_GE(value, 0.0f);
    EXPECT_LT(value, 2e-38f);
  }
}

TEST(Softmax, SanitizeAndBlockMaxima) {
  std::mt19937 random(2);
  std::normal_distribution<float> normal(0, 4);
  for (const std::size_t size : {1, 2, 63, 64, 65, 128, 1000, 5003}) {
    std::vector<float> logits(size), maxima((size + kBlockSize - 1) / kBlockSize);
    for (float& logit : logits) logit = normal(random);
    if (size > 40) {
      logits[3] = kNaN;
      logits[size - 1] = -kNaN;
      logits[17] = -kInf;
    }
    const float maximum = sanitize(logits, maxima);
    float expected = -kInf;
    for (std::size_t i = 0; i < size; ++i) {
      ASSERT_FALSE(std::isnan(logits[i]));
      expected = std::max(expected, logits[i]);
      if (i % kBlockSize == kBlockSize - 1 || i == size - 1) {
        const auto block = logits.begin() + static_cast<std::ptrdiff_t>(i / kBlockSize * kBlockSize);
        ASSERT_EQ(maxima[i / kBlockSize],
                  *std::max_element(block, logits.begin() + static_cast<std::ptrdiff_t>(i + 1)));
      }
    }
    EXPECT_EQ(maximum, expected);
    EXPECT_EQ(first_index_of(logits, maxima, maximum),
              static_cast<std::size_t>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
    if (size > 40) {
      EXPECT_EQ(logits[3], -kInf);
      EXPECT_EQ(logits[size - 1], -kInf);
      EXPECT_EQ(logits[17], -kInf);
    }
  }
  std::vector<float> endless = {1, kInf, 2}, maxima(1);
  EXPECT_EQ(sanitize(endless, maxima), kMax);
  EXPECT_EQ(endless[1], kMax);
  std::vector<float> none = {kNaN, -kInf};
  EXPECT_EQ(sanitize(none, maxima), -kInf);
}

TEST(Softmax, LogSumExpIsNearExact) {
  std::mt19937 random(3);
  for (const float spread : {0.0f, 1.0f, 10.0f, 40.0f}) {
    for (const std::size_t size : {1, 15, 16, 17, 255, 256, 257, 1000, 65024, 100003}) {
      std::normal_distribution<float> normal(5, spread + 1e-9f);
      std::vector<float> logits(size);
      for (float& logit : logits) logit = normal(random);
      const float maximum = *std::max_element(logits.begin(), logits.end());
      double sum = 0;
      for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - maximum);
      ASSERT_NEAR(log_sum_exp(logits, maximum), maximum + std::log(sum), 1e-6) << spread << " " << size;
    }
  }
}

}  // namespace
}  // namespace peregrine::decoding
