// SPDX-License-Identifier: Apache-2.0
#include "decoding/top_tokens.h"

#include <algorithm>
#include <limits>

#include "decoding/softmax.h"

namespace peregrine::decoding {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

void find_top(std::span<const float> logits, std::span<const float> block_maxima, double log_total,
              std::size_t count, std::vector<generation::TokenLogProb>& top) {
  count = std::min(count, logits.size());
  top.resize(count);
  if (count == 0) return;
  std::size_t found = 0;
  for (std::size_t start = 0, block = 0; start < logits.size(); start += kBlockSize, ++block) {
    if (found == count && block_maxima[block] <= top.back().log_prob) continue;
    const std::size_t end = std::min(logits.size(), start + kBlockSize);
    for (std::size_t i = start; i < end; ++i) {
      const float logit = logits[i];
      if (found == count && logit <= top.back().log_prob) continue;
      // Insertion from the right; a token goes behind its equals, which have lower ids.
      std::size_t at = found < count ? found++ : count - 1;
      for (; at > 0 && top[at - 1].log_prob < logit; --at) top[at] = top[at - 1];
      top[at] = {static_cast<std::int32_t>(i), logit};
    }
  }
  for (auto& token : top) {
    if (token.log_prob > -kInfinity) token.log_prob = log_probability(token.log_prob, log_total);
  }
}

}  // namespace peregrine::decoding
