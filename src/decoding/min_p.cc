// SPDX-License-Identifier: Apache-2.0
#include "decoding/candidates.h"
#include "decoding/softmax.h"

namespace peregrine::decoding {

void cut_min_p(Candidates& candidates, float share) {
  // The normalizer of the probabilities cancels out.
  const auto relative = candidates.scratch();
  exponentials(candidates.logits(), candidates.maximum(), relative);
  candidates.filter(true, [&](std::size_t i) { return relative[i] >= share; });
}

}  // namespace peregrine::decoding
