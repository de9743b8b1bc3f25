// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "decoding/token_tree.h"
#include "generation/parameters.h"

namespace peregrine::decoding {

/// The best hypotheses of one group of beams that have ended (transformers' BeamHypotheses). Scores are
/// computed in double precision from sums in single precision, as there.
class BeamHypotheses {
 public:
  struct Ended {
    double score = 0;                      ///< Sum of log-probabilities / length^length_penalty.
    std::int32_t node = TokenTree::kRoot;  ///< Held.
    generation::FinishReason finish = generation::FinishReason::kLength;
  };

  /// Keeps `most` >= 1. `most_tokens` is the longest that a hypothesis can get.
  BeamHypotheses(std::size_t most, const generation::Parameters& parameters, std::int32_t most_tokens);

  /// Takes a hypothesis of `length` tokens whose last is `node`, held by the caller until now, if it is among
  /// the best; ties with the worst are not taken. Returns the node that is to be released: its own, or that
  /// of the one that made room (of equals, the first to come), or kRoot.
  std::int32_t add(float sum, std::int32_t length, std::int32_t node, generation::FinishReason finish);

  /// Whether nothing better is to be expected of open beams, the best of which has `best_sum` after `length`
  /// tokens (early_stopping says what is expected).
  bool is_done(float best_sum, std::int32_t length) const;

  /// In the order in which they came.
  std::span<const Ended> ended() const { return ended_; }

 private:
  double score(float sum, std::int32_t length) const;

  std::size_t most_;
  double length_penalty_;
  generation::EarlyStopping early_stopping_;
  std::int32_t most_tokens_;
  double worst_ = 1e9;  ///< The lowest score kept; above every score at first.
  std::vector<Ended> ended_;
};

}  // namespace peregrine::decoding
