// SPDX-License-Identifier: Apache-2.0
#include "decoding/best_tokens.h"

#include <algorithm>
#include <limits>

#include "decoding/softmax.h"

namespace peregrine::decoding {
namespace {

bool before(const ScoredToken& a, const ScoredToken& b) {
  return a.score != b.score ? a.score > b.score : a.token < b.token;
}

/// Leaves the `count` best, in any order, with the last of them at the end.
void cut(std::vector<ScoredToken>& tokens, std::size_t count) {
  std::ranges::nth_element(tokens, tokens.begin() + static_cast<std::ptrdiff_t>(count - 1), before);
  tokens.resize(count);
}

}  // namespace

void best_tokens(const LogProbabilities& from, float offset, std::size_t count,
                 std::vector<ScoredToken>& best) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  best.clear();
  // What is not above it is not among the best: ids rise, so an equal comes after all that are kept. Rounding
  // keeps the order of the logits, so that the maximum of a block stands for all of it.
  float bound = -kInfinity;
  const auto score_of = [&](float logit) {
    return logit > -kInfinity ? log_probability(logit, from.log_total) + offset : -kInfinity;
  };
  const std::span<const float> logits = from.logits;
  for (std::size_t start = 0, block = 0; start < logits.size(); start += kBlockSize, ++block) {
    if (!(score_of(from.block_maxima[block]) > bound)) continue;
    const std::size_t end = std::min(logits.size(), start + kBlockSize);
    for (std::size_t i = start; i < end; ++i) {
      const float score = score_of(logits[i]);
      if (!(score > bound)) continue;
      best.push_back({score, static_cast<std::int32_t>(i)});
      // Twice as many as wanted before each cut, so that cutting costs O(1) for each token let in.
      if (best.size() == 2 * count) {
        cut(best, count);
        bound = best.back().score;
      }
    }
  }
  if (best.size() > count) cut(best, count);
  std::ranges::sort(best, before);
}

}  // namespace peregrine::decoding
