// SPDX-License-Identifier: Apache-2.0
#include "decoding/beam_hypotheses.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace peregrine::decoding {

using generation::EarlyStopping;

BeamHypotheses::BeamHypotheses(std::size_t most, const generation::Parameters& parameters,
                               std::int32_t most_tokens)
    : most_(most),
      length_penalty_(static_cast<double>(parameters.length_penalty)),
      early_stopping_(parameters.early_stopping),
      most_tokens_(most_tokens) {
  ended_.reserve(most + 1);
}

double BeamHypotheses::score(float sum, std::int32_t length) const {
  return static_cast<double>(sum) / std::pow(static_cast<double>(length), length_penalty_);
}

std::int32_t BeamHypotheses::add(float sum, std::int32_t length, std::int32_t node,
                                 generation::FinishReason finish) {
  const double value = score(sum, length);
  if (ended_.size() == most_ && !(value > worst_)) return node;
  ended_.push_back({value, node, finish});
  if (ended_.size() <= most_) {
    worst_ = std::min(worst_, value);
    return TokenTree::kRoot;
  }
  const auto worst = std::ranges::min_element(ended_, {}, &Ended::score);
  const std::int32_t dropped = worst->node;
  ended_.erase(worst);
  worst_ = std::ranges::min_element(ended_, {}, &Ended::score)->score;
  return dropped;
}

bool BeamHypotheses::is_done(float best_sum, std::int32_t length) const {
  if (ended_.size() < most_) return false;
  if (early_stopping_ == EarlyStopping::kTrue) return true;
  // A sum is negative: the length that makes its score best is the longest, or with a penalty on length the
  // shortest.
  const bool longest = early_stopping_ == EarlyStopping::kNever && length_penalty_ > 0;
  return worst_ >= score(best_sum, longest ? most_tokens_ : length);
}

}  // namespace peregrine::decoding
