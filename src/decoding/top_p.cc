// SPDX-License-Identifier: Apache-2.0
#include "decoding/candidates.h"

namespace peregrine::decoding {
void cut_top_p(Candidates& candidates, float p) {
  const std::uint64_t target = share_of(p, candidates.total());
  candidates.key_by_logit();
  const auto boundary = candidates.weight_boundary(target);
  // A token is kept while those before it, the more likely ones and its equals of lower id, fall short.
  candidates.filter(true, [keys = candidates.keys().data(), weights = candidates.weights().data(),
                           key = boundary.key, target, before = boundary.above](std::size_t i) mutable {
    if (keys[i] != key) return keys[i] > key;
    const bool keep = before < target;
    before += weights[i];
    return keep;
  });
}

}  // namespace peregrine::decoding
