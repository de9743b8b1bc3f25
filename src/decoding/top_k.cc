// SPDX-License-Identifier: Apache-2.0
#include "decoding/candidates.h"

namespace peregrine::decoding {

void cut_top_k(Candidates& candidates, std::size_t k) {
  if (k >= candidates.size()) return;
  const auto keys = candidates.keys();
  candidates.key_by_logit();
  const auto boundary = candidates.count_boundary(k);
  candidates.filter(false, [&](std::size_t i) { return keys[i] >= boundary.key; });
}

}  // namespace peregrine::decoding
