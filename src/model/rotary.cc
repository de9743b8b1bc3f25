// SPDX-License-Identifier: Apache-2.0
#include "model/rotary.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numbers>

namespace peregrine::model {
namespace {

std::vector<float> plain_frequencies(double theta, std::int32_t dim) {
  std::vector<float> out(static_cast<std::size_t>(dim / 2));
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = static_cast<float>(1.0 / std::pow(theta, 2.0 * static_cast<double>(i) / dim));
  }
  return out;
}

/// The base that NTK-aware scaling uses for a sequence of this length (bloc97 and emozilla 2023).
double dynamic_theta(const RotaryConfig& config, std::int64_t tokens) {
  const double trained = config.original_max_positions;
  const double length = std::max(static_cast<double>(tokens), trained);
  const double growth = config.factor * length / trained - (config.factor - 1.0);
  const double dim = config.dim;
  return config.theta * std::pow(growth, dim / (dim - 2.0));
}

/// Peng et al. 2023, section 3.2: dimensions that turn often within the trained length keep their frequency,
/// those that turn less than once are interpolated, with a linear ramp between.
void scale_yarn(const RotaryConfig& config, std::vector<float>& frequencies) {
  const double dim = config.dim;
  // The dimension whose wave turns `rotations` times within the trained length.
  const auto dimension_of = [&](double rotations) {
    return dim * std::log(config.original_max_positions / (rotations * 2.0 * std::numbers::pi)) /
           (2.0 * std::log(config.theta));
  };
  const double low = std::max(std::floor(dimension_of(config.beta_fast)), 0.0);
  double high = std::min(std::ceil(dimension_of(config.beta_slow)), dim - 1.0);
  if (low == high) high += 0.001;  // the ramp is a step; any width below one dimension does
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    const double interpolated = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    const double frequency = frequencies[i];
    frequencies[i] =
        static_cast<float>(frequency / config.factor * interpolated + frequency * (1.0 - interpolated));
  }
}

/// Llama 3.1's variant: as yarn's, but with the borders given as wavelengths and the ramp over frequencies.
void scale_llama3(const RotaryConfig& config, std::vector<float>& frequencies) {
  const double trained = config.original_max_positions;
  for (float& stored : frequencies) {
    const double frequency = stored;
    const double turns = trained * frequency / (2.0 * std::numbers::pi);  // within the trained length
    const double kept = std::clamp(
        (turns - config.low_frequency_factor) / (config.high_frequency_factor - config.low_frequency_factor),
        0.0, 1.0);
    stored = static_cast<float>((1.0 - kept) * frequency / config.factor + kept * frequency);
  }
}

/// Ding et al. 2024, as in Phi-3.
void scale_longrope(const RotaryConfig& config, std::int64_t tokens, std::vector<float>& frequencies) {
  const auto& divisors = tokens > config.original_max_positions ? config.long_factors : config.short_factors;
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    frequencies[i] = static_cast<float>(frequencies[i] / divisors[i]);
  }
}

/// What makes up for the lower entropy of attention over more positions.
double longrope_attention_factor(const RotaryConfig& config) {
  if (config.factor <= 1.0) return 1.0;
  return std::sqrt(1.0 + std::log(config.factor) / std::log(config.original_max_positions));
}

}  // namespace

std::vector<float> rotary_frequencies(const RotaryConfig& config, std::int64_t prompt_tokens) {
  const double theta =
      config.scaling == RotaryScaling::kDynamic ? dynamic_theta(config, prompt_tokens) : config.theta;
  std::vector<float> out = plain_frequencies(theta, config.dim);
  switch (config.scaling) {
    case RotaryScaling::kNone:
    case RotaryScaling::kDynamic:
      break;
    case RotaryScaling::kLinear:
      for (float& frequency : out) frequency = static_cast<float>(frequency / config.factor);
      break;
    case RotaryScaling::kYarn:
      scale_yarn(config, out);
      break;
    case RotaryScaling::kLlama3:
      scale_llama3(config, out);
      break;
    case RotaryScaling::kLongRope:
      scale_longrope(config, prompt_tokens, out);
      break;
  }
  return out;
}

float rotary_attention_factor(const RotaryConfig& config) {
  const bool longrope = config.scaling == RotaryScaling::kLongRope;
  if (config.scaling != RotaryScaling::kYarn && !longrope) return 1.0f;
  if (config.attention_factor > 0.0) return static_cast<float>(config.attention_factor);
  if (longrope) return static_cast<float>(longrope_attention_factor(config));
  return static_cast<float>(0.1 * std::log(config.factor) + 1.0);
}

}  // namespace peregrine::model
