// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "generation/sampled_token.h"

namespace peregrine::decoding {

/// The outputs of beams and hypotheses, which have beginnings in common: each token names the one before.
/// Counts who holds a token, and uses its place again once nobody does.
class TokenTree {
 public:
  static constexpr std::int32_t kRoot = -1;  ///< Before the first token. Need not be held or released.

  /// Room for `tokens` of them; more only cost allocations.
  void reserve(std::size_t tokens);
  /// A token behind `parent`, held once by the caller.
  std::int32_t add(std::int32_t parent, generation::TokenLogProb token,
                   std::span<const generation::TokenLogProb> top);
  /// Lets go of what was held once.
  void release(std::int32_t node);

  /// The tokens from the first to `node`.
  std::vector<generation::SampledToken> path(std::int32_t node) const;
  /// Tokens that are held, by callers or by tokens behind them.
  std::size_t size() const { return nodes_.size() - free_.size(); }

 private:
  struct Node {
    std::int32_t parent = kRoot;
    std::int32_t holders = 0;
    generation::SampledToken token;
  };

  std::vector<Node> nodes_;
  std::vector<std::int32_t> free_;
};

}  // namespace peregrine::decoding
