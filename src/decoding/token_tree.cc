// SPDX-License-Identifier: Apache-2.0
#include "decoding/token_tree.h"

#include <algorithm>

namespace peregrine::decoding {

void TokenTree::reserve(std::size_t tokens) {
  nodes_.reserve(tokens);
  free_.reserve(tokens);
}

std::int32_t TokenTree::add(std::int32_t parent, generation::TokenLogProb token,
                            std::span<const generation::TokenLogProb> top) {
  if (free_.empty()) {
    free_.push_back(static_cast<std::int32_t>(nodes_.size()));
    nodes_.emplace_back();
  }
  const std::int32_t index = free_.back();
  free_.pop_back();
  Node& node = nodes_[static_cast<std::size_t>(index)];
  node.parent = parent;
  node.holders = 1;
  node.token.token = token;
  node.token.top.assign(top.begin(), top.end());
  if (parent != kRoot) ++nodes_[static_cast<std::size_t>(parent)].holders;
  return index;
}

void TokenTree::release(std::int32_t node) {
  while (node != kRoot) {
    Node& released = nodes_[static_cast<std::size_t>(node)];
    if (--released.holders > 0) return;
    free_.push_back(node);
    node = released.parent;
  }
}

std::vector<generation::SampledToken> TokenTree::path(std::int32_t node) const {
  std::vector<generation::SampledToken> tokens;
  for (; node != kRoot; node = nodes_[static_cast<std::size_t>(node)].parent) {
    tokens.push_back(nodes_[static_cast<std::size_t>(node)].token);
  }
  std::ranges::reverse(tokens);
  return tokens;
}

}  // namespace peregrine::decoding
