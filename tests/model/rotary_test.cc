// SPDX-License-Identifier: Apache-2.0
#include "model/rotary.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

namespace peregrine::model {
namespace {

RotaryConfig config_of(RotaryScaling scaling, double factor, std::int32_t trained) {
  RotaryConfig config;
  config.dim = 8;
  config.scaling = scaling;
  config.factor = factor;
  config.original_max_positions = trained;
  return config;
}

TEST(Rotary, PlainFrequenciesAreAGeometricSequence) {
  const auto found = rotary_frequencies(config_of(RotaryScaling::kNone, 1, 0), 5);
  ASSERT_EQ(found.size(), 4u);
  EXPECT_FLOAT_EQ(found[0], 1.0f);
  EXPECT_FLOAT_EQ(found[1], 0.1f);
  EXPECT_FLOAT_EQ(found[2], 0.01f);
  EXPECT_FLOAT_EQ(found[3], 0.001f);
}

TEST(Rotary, LinearDividesByTheFactor) {
  const auto found = rotary_frequencies(config_of(RotaryScaling::kLinear, 4, 64), 500);
  EXPECT_FLOAT_EQ(found[0], 0.25f);
  EXPECT_FLOAT_EQ(found[3], 0.00025f);
}

TEST(Rotary, DynamicDependsOnThePromptBeyondTheTrainedLengthOnly) {
  const auto config = config_of(RotaryScaling::kDynamic, 2, 64);
  const auto plain = rotary_frequencies(config_of(RotaryScaling::kNone, 1, 0), 1);
  EXPECT_EQ(rotary_frequencies(config, 1), plain);
  EXPECT_EQ(rotary_frequencies(config, 64), plain);
  const auto longer = rotary_frequencies(config, 96);
  // theta * (2 * 96 / 64 - 1) ^ (8 / 6)
  const double theta = 10000.0 * std::pow(2.0, 8.0 / 6.0);
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_FLOAT_EQ(longer[i], static_cast<float>(std::pow(theta, -static_cast<double>(i) / 4)));
  }
  EXPECT_NE(rotary_frequencies(config, 97), longer);
}

TEST(Rotary, Llama3KeepsShortWavesDividesLongOnesAndBlendsBetween) {
  auto config = config_of(RotaryScaling::kLlama3, 8, 64);
  config.low_frequency_factor = 1.0;
  config.high_frequency_factor = 4.0;
  const auto plain = rotary_frequencies(config_of(RotaryScaling::kNone, 1, 0), 1);
  const auto found = rotary_frequencies(config, 1);
  // Turns within 64 positions: 10.2, 1.02, 0.1, 0.01.
  EXPECT_EQ(found[0], plain[0]);
  const double turns = 64 * 0.1 / (2 * std::numbers::pi);
  const double kept = (turns - 1) / 3;
  EXPECT_NEAR(found[1], (1 - kept) * 0.1 / 8 + kept * 0.1, 1e-8);
  EXPECT_FLOAT_EQ(found[2], plain[2] / 8);
  EXPECT_FLOAT_EQ(found[3], plain[3] / 8);
}

TEST(Rotary, YarnKeepsFastDimensionsAndInterpolatesSlowOnes) {
  auto config = config_of(RotaryScaling::kYarn, 4, 4096);
  config.dim = 64;
  auto plain_config = config_of(RotaryScaling::kNone, 1, 0);
  plain_config.dim = 64;
  const auto plain = rotary_frequencies(plain_config, 1);
  const auto found = rotary_frequencies(config, 1);
  EXPECT_EQ(found.front(), plain.front());
  EXPECT_FLOAT_EQ(found.back(), plain.back() / 4);
  for (std::size_t i = 0; i < found.size(); ++i) {
    EXPECT_LE(found[i], plain[i]);
    EXPECT_GE(found[i], plain[i] / 4 * 0.999999f);
  }
  EXPECT_FLOAT_EQ(rotary_attention_factor(config), static_cast<float>(0.1 * std::log(4.0) + 1.0));
  config.attention_factor = 0.5;
  EXPECT_EQ(rotary_attention_factor(config), 0.5f);
  EXPECT_EQ(rotary_attention_factor(plain_config), 1.0f);
}

TEST(Rotary, LongRopeChoosesItsDivisorsByThePromptsLength) {
  auto config = config_of(RotaryScaling::kLongRope, 4, 64);
  config.short_factors = {1.0, 1.0, 2.0, 2.0};
  config.long_factors = {1.0, 2.0, 4.0, 8.0};
  const auto plain = rotary_frequencies(config_of(RotaryScaling::kNone, 1, 0), 1);
  const auto inside = rotary_frequencies(config, 64);
  const auto beyond = rotary_frequencies(config, 65);
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_FLOAT_EQ(inside[i], static_cast<float>(plain[i] / config.short_factors[i]));
    EXPECT_FLOAT_EQ(beyond[i], static_cast<float>(plain[i] / config.long_factors[i]));
  }
  EXPECT_FLOAT_EQ(rotary_attention_factor(config),
                  static_cast<float>(std::sqrt(1.0 + std::log(4.0) / std::log(64.0))));
  config.factor = 1.0;
  EXPECT_EQ(rotary_attention_factor(config), 1.0f);
  config.attention_factor = 1.5;
  EXPECT_EQ(rotary_attention_factor(config), 1.5f);
}

}  // namespace
}  // namespace peregrine::model
