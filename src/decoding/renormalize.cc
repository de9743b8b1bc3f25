// SPDX-License-Identifier: Apache-2.0
#include "decoding/renormalize.h"

#include <algorithm>
#include <limits>

#include "decoding/softmax.h"

namespace peregrine::decoding {

void Renormalize::apply(std::span<float> logits, std::span<const std::int32_t>) const {
  constexpr float kLargest = std::numeric_limits<float>::max();
  float maximum = -std::numeric_limits<float>::infinity();
  for (float& logit : logits) {  // Biases may have gone beyond the largest number.
    logit = std::min(logit, kLargest);
    maximum = std::max(maximum, logit);
  }
  if (maximum < -kLargest) return;  // Nothing is allowed.
  to_log_probabilities(logits, log_sum_exp(logits, maximum));
}

}  // namespace peregrine::decoding
