// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace peregrine::decoding {

struct ScoredToken {
  float score = 0;
  std::int32_t token = 0;
};

/// Log-probabilities of all tokens: log_probability(logits[token], log_total).
struct LogProbabilities {
  std::span<const float> logits;
  std::span<const float> block_maxima;  ///< Of the logits, by sanitize().
  double log_total = 0;
};

/// Fills `best` with the `count` >= 1 tokens for which log-probability + offset (rounded to single precision)
/// is highest, best first, ties to the lower id; without those at minus infinity, so there may be fewer. One
/// pass that skips what cannot be among them, and O(count) memory.
void best_tokens(const LogProbabilities& from, float offset, std::size_t count,
                 std::vector<ScoredToken>& best);

}  // namespace peregrine::decoding
