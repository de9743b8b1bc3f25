// SPDX-License-Identifier: Apache-2.0
#include "decoding/softmax.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

namespace peregrine::decoding {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kLargest = std::numeric_limits<float>::max();

/// exp(x) for x <= 0, without branches so that loops over it become vector code.
inline float exp_of(float x) {
  // Below -87 the result would leave the normal range; nothing that small is ever seen in a sum with exp(0).
  x = x > -87.0f ? x : -87.0f;
  // Adding 1.5 * 2^23 rounds to the nearest integer and leaves it in the low bits of the mantissa.
  constexpr float kRound = 12582912.0f;
  const float rounded = x * 1.44269504088896341f + kRound;
  const float power = rounded - kRound;
  // log(2) in two parts: the first has few enough bits that the product with `power` is exact.
  const float rest = (x - power * 0.693359375f) + power * 2.12194440e-4f;
  float sum = 1.9875691500e-4f;
  sum = sum * rest + 1.3981999507e-3f;
  sum = sum * rest + 8.3334519073e-3f;
  sum = sum * rest + 4.1665795894e-2f;
  sum = sum * rest + 1.6666665459e-1f;
  sum = sum * rest + 5.0000001201e-1f;
  sum = sum * rest * rest + rest + 1.0f;
  const std::int32_t exponent = std::bit_cast<std::int32_t>(rounded) - std::bit_cast<std::int32_t>(kRound);
  return sum * std::bit_cast<float>((exponent + 127) << 23);
}

inline float sanitized(float logit) {
  const float value = logit >= -kInfinity ? logit : -kInfinity;  // A comparison with NaN is false.
  return value < kLargest ? value : kLargest;
}

inline float difference(float logit, double log_total) {
  constexpr double kLowest = -static_cast<double>(kLargest);
  const double exact = static_cast<double>(logit) - log_total;
  return static_cast<float>(exact > kLowest ? exact : kLowest);
}

/// Sanitizes one whole block and returns its maximum. Where kLooks, `nans` is not 0 any more after a NaN.
template <bool kLooks>
float sanitize_block(float* logits, std::array<std::uint32_t, 16>& nans) {
  std::array<float, 16> lanes;
  lanes.fill(-kInfinity);
  for (std::size_t i = 0; i < kBlockSize; i += lanes.size()) {
    for (std::size_t lane = 0; lane < lanes.size(); ++lane) {
      if (kLooks) nans[lane] |= logits[i + lane] != logits[i + lane] ? 1 : 0;
      const float value = sanitized(logits[i + lane]);
      logits[i + lane] = value;
      lanes[lane] = value > lanes[lane] ? value : lanes[lane];
    }
  }
  return *std::ranges::max_element(lanes);
}

template <bool kLooks>
float sanitize_all(std::span<float> logits, std::span<float> block_maxima, bool& nan) {
  const std::size_t whole = logits.size() / kBlockSize;
  std::array<std::uint32_t, 16> nans{};
  float maximum = -kInfinity;
  for (std::size_t block = 0; block < whole; ++block) {
    block_maxima[block] = sanitize_block<kLooks>(logits.data() + block * kBlockSize, nans);
    maximum = std::max(maximum, block_maxima[block]);
  }
  const std::span<float> rest = logits.subspan(whole * kBlockSize);
  if (!rest.empty()) {
    nan = kLooks && (nan || std::ranges::any_of(rest, [](float logit) { return std::isnan(logit); }));
    std::ranges::transform(rest, rest.begin(), sanitized);
    block_maxima[whole] = *std::ranges::max_element(rest);
    maximum = std::max(maximum, block_maxima[whole]);
  }
  if (kLooks) nan = nan || std::ranges::any_of(nans, [](std::uint32_t found) { return found != 0; });
  return maximum;
}

}  // namespace

float sanitize(std::span<float> logits, std::span<float> block_maxima) {
  bool ignored = false;
  return sanitize_all<false>(logits, block_maxima, ignored);
}

float sanitize(std::span<float> logits, std::span<float> block_maxima, bool& nan) {
  return sanitize_all<true>(logits, block_maxima, nan);
}

std::size_t first_index_of(std::span<const float> logits, std::span<const float> block_maxima,
                           float maximum) {
  const auto block = std::find(block_maxima.begin(), block_maxima.end(), maximum) - block_maxima.begin();
  const auto start = logits.begin() + block * static_cast<std::ptrdiff_t>(kBlockSize);
  return static_cast<std::size_t>(std::find(start, logits.end(), maximum) - logits.begin());
}

void exponentials(std::span<const float> values, float maximum, std::span<float> out) {
  const float* __restrict from = values.data();
  float* __restrict to = out.data();
  const std::size_t count = values.size();
  for (std::size_t i = 0; i < count; ++i) to[i] = exp_of(from[i] - maximum);
}

double log_sum_exp(std::span<const float> values, float maximum) {
  // Sixteen float lanes over 256 values, then a double: at most 16 roundings of 6e-8 for each value.
  constexpr std::size_t kLanes = 16;
  constexpr std::size_t kChunk = 256;
  double total = 0;
  for (std::size_t start = 0; start < values.size(); start += kChunk) {
    const std::size_t end = std::min(values.size(), start + kChunk);
    std::array<float, kLanes> lanes{};
    std::size_t i = start;
    for (; i + kLanes <= end; i += kLanes) {
      for (std::size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += exp_of(values[i + lane] - maximum);
    }
    for (std::size_t lane = 0; i < end; ++i, ++lane) lanes[lane] += exp_of(values[i] - maximum);
    double chunk = 0;
    for (const float lane : lanes) chunk += lane;
    total += chunk;
  }
  return maximum + std::log(total);
}

float log_probability(float logit, double log_total) { return difference(logit, log_total); }

void to_log_probabilities(std::span<float> logits, double log_total) {
  float* __restrict value = logits.data();
  const std::size_t count = logits.size();
  for (std::size_t i = 0; i < count; ++i) {
    const float log_prob = difference(value[i], log_total);
    value[i] = value[i] > -kInfinity ? log_prob : -kInfinity;
  }
}

}  // namespace peregrine::decoding
