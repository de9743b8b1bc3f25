// SPDX-License-Identifier: Apache-2.0
#include "decoding/token_score.h"

#include <algorithm>
#include <limits>

#include "decoding/sampler_scratch.h"
#include "decoding/softmax.h"
#include "decoding/top_tokens.h"

namespace peregrine::decoding {

void score(std::span<float> logits, std::int32_t id, std::int32_t top, SamplerScratch& scratch,
           generation::SampledToken& out) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  auto& block_maxima = scratch.impl_->block_maxima;
  const float maximum = sanitize(logits, block_maxima);
  const double log_total = maximum > -kInfinity ? log_sum_exp(logits, maximum) : -kInfinity;
  find_top(logits, block_maxima, log_total, static_cast<std::size_t>(std::max(top, 0)), out.top);
  const float logit = logits[static_cast<std::size_t>(id)];
  out.token = {id, logit > -kInfinity ? log_probability(logit, log_total) : -kInfinity};
}

}  // namespace peregrine::decoding
