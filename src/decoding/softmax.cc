// SPDX-License-Identifier: Apache-2.0
#include "decoding/softmax.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "decoding/passes/passes.h"

namespace peregrine::decoding {
namespace {

constexpr float kLargest = std::numeric_limits<float>::max();

}  // namespace

float sanitize(std::span<float> logits, std::span<float> block_maxima) {
  bool ignored = false;
  return sanitize(logits, block_maxima, ignored);
}

float sanitize(std::span<float> logits, std::span<float> block_maxima, bool& nan) {
  return passes().sanitize(logits.data(), logits.size(), block_maxima.data(), &nan);
}

std::size_t first_index_of(std::span<const float> logits, std::span<const float> block_maxima,
                           float maximum) {
  const auto block = std::find(block_maxima.begin(), block_maxima.end(), maximum) - block_maxima.begin();
  const auto start = logits.begin() + block * static_cast<std::ptrdiff_t>(kBlockSize);
  return static_cast<std::size_t>(std::find(start, logits.end(), maximum) - logits.begin());
}

void exponentials(std::span<const float> values, float maximum, std::span<float> out) {
  passes().exponentials(values.data(), values.size(), maximum, out.data());
}

double log_sum_exp(std::span<const float> values, float maximum) {
  return maximum + std::log(passes().sum_of_exponentials(values.data(), values.size(), maximum));
}

float log_probability(float logit, double log_total) {
  constexpr double kLowest = -static_cast<double>(kLargest);
  const double exact = static_cast<double>(logit) - log_total;
  return static_cast<float>(exact > kLowest ? exact : kLowest);
}

void to_log_probabilities(std::span<float> logits, double log_total) {
  passes().subtract(logits.data(), logits.size(), log_total);
}

}  // namespace peregrine::decoding
