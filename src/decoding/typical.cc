// SPDX-License-Identifier: Apache-2.0
#include <bit>

#include "decoding/candidates.h"

namespace peregrine::decoding {

void cut_typical(Candidates& candidates, float p) {
  const auto logits = candidates.logits();
  const auto [log_total, entropy] = spread_of(candidates);
  const auto distance = candidates.scratch();
  const float largest = passes().distances(logits.data(), logits.size(), log_total, entropy, distance.data());
  const auto boundary = candidates.distance_boundary(share_of(p, candidates.total()), largest);
  const auto farthest = std::bit_cast<float>(~boundary.key);
  candidates.filter(true, [&](std::size_t i) { return distance[i] <= farthest; });
}

}  // namespace peregrine::decoding
