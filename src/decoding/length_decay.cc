// SPDX-License-Identifier: Apache-2.0
#include "decoding/length_decay.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace peregrine::decoding {

LengthDecay::LengthDecay(std::size_t start, float factor, std::vector<std::int32_t> end_ids)
    : start_(start), factor_(factor), end_ids_(std::move(end_ids)) {
  std::ranges::sort(end_ids_);
  const auto repeated = std::ranges::unique(end_ids_);
  end_ids_.erase(repeated.begin(), repeated.end());
}

void LengthDecay::apply(std::span<float> logits, std::span<const std::int32_t> tokens) const {
  if (tokens.size() <= start_) return;
  constexpr double kLargest = std::numeric_limits<float>::max();
  // Bounded, so that it stays a number where the logit is 0; a forbidden token (minus infinity) stays
  // forbidden.
  const double power = std::pow(static_cast<double>(factor_), static_cast<double>(tokens.size() - start_));
  const auto growth = static_cast<float>(std::min(power - 1, kLargest));
  for (const std::int32_t id : end_ids_) {
    float& logit = logits[static_cast<std::size_t>(id)];
    if (std::isfinite(logit)) logit += std::abs(logit) * growth;
  }
}

}  // namespace peregrine::decoding
