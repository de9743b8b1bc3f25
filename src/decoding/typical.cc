// SPDX-License-Identifier: Apache-2.0
#include <bit>
#include <cmath>

#include "decoding/candidates.h"

namespace peregrine::decoding {

void cut_typical(Candidates& candidates, float p) {
  const auto logits = candidates.logits();
  const auto weights = candidates.weights();
  const auto total = static_cast<double>(candidates.total());
  const double log_total = candidates.maximum() + std::log(total / static_cast<double>(kUnitWeight));
  double entropy = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    entropy += static_cast<double>(weights[i]) / total * (log_total - logits[i]);
  }
  const auto keys = candidates.keys();
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const auto distance = static_cast<float>(std::abs(log_total - logits[i] - entropy));
    keys[i] = ~std::bit_cast<std::uint32_t>(distance);  // Nearest first.
  }
  const auto boundary = candidates.weight_boundary(share_of(p, candidates.total()));
  candidates.filter(true, [&](std::size_t i) { return keys[i] >= boundary.key; });
}

}  // namespace peregrine::decoding
