// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "decoding/candidates.h"

namespace peregrine::decoding {
namespace {

/// Keeps what has a probability of at least `least`, and the highest logit with its equals.
void keep_likely(Candidates& candidates, double least) {
  const auto logits = candidates.logits();
  const auto weights = candidates.weights();
  const double bound = least * static_cast<double>(candidates.total());
  const float highest = *std::ranges::max_element(logits);
  candidates.filter(
      true, [&](std::size_t i) { return static_cast<double>(weights[i]) >= bound || logits[i] >= highest; });
}

}  // namespace

void cut_epsilon(Candidates& candidates, float least) { keep_likely(candidates, static_cast<double>(least)); }

void cut_eta(Candidates& candidates, float epsilon) {
  const auto wide = static_cast<double>(epsilon);
  keep_likely(candidates, std::min(wide, std::sqrt(wide) * std::exp(-spread_of(candidates).entropy)));
}

}  // namespace peregrine::decoding
