// SPDX-License-Identifier: Apache-2.0
#include <bit>
#include <cmath>

#include "decoding/candidates.h"

namespace peregrine::decoding {

void cut_typical(Candidates& candidates, float p) {
  const auto logits = candidates.logits();
  const auto [log_total, entropy] = spread_of(candidates);
  const auto keys = candidates.keys();
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const auto distance = static_cast<float>(std::abs(log_total - logits[i] - entropy));
    keys[i] = ~std::bit_cast<std::uint32_t>(distance);  // Nearest first.
  }
  const auto boundary = candidates.weight_boundary(share_of(p, candidates.total()));
  candidates.filter(true, [&](std::size_t i) { return keys[i] >= boundary.key; });
}

}  // namespace peregrine::decoding
