// SPDX-License-Identifier: Apache-2.0
#include "api/stop_strings.h"

#include <algorithm>

namespace peregrine::api {

StopStrings::StopStrings(std::span<const std::string> strings) : nodes_(1) {
  for (const std::string& text : strings) {
    Node node = kStart;
    for (const char byte : text) {
      const Node existing = child(node, byte);
      node = existing != 0 ? existing : add_child(node, byte);
    }
    nodes_[node].matched = nodes_[node].depth;
  }
  link_failures();
}

StopStrings::Node StopStrings::child(Node node, char byte) const {
  Node found = nodes_[node].child;
  while (found != 0 && nodes_[found].byte != byte) found = nodes_[found].sibling;
  return found;
}

StopStrings::Node StopStrings::add_child(Node node, char byte) {
  const auto added = static_cast<Node>(nodes_.size());
  Entry entry;
  entry.sibling = nodes_[node].child;
  entry.depth = nodes_[node].depth + 1;
  entry.byte = byte;
  nodes_.push_back(entry);
  nodes_[node].child = added;
  return added;
}

/// Breadth first, so that a node's failure, which is shorter, is complete before the node.
void StopStrings::link_failures() {
  std::vector<Node> order{kStart};
  order.reserve(nodes_.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    const Node parent = order[i];
    for (Node node = nodes_[parent].child; node != 0; node = nodes_[node].sibling) {
      if (parent != kStart) nodes_[node].fail = next(nodes_[parent].fail, nodes_[node].byte);
      nodes_[node].matched = std::max(nodes_[node].matched, nodes_[nodes_[node].fail].matched);
      order.push_back(node);
    }
  }
}

StopStrings::Node StopStrings::next(Node node, char byte) const {
  while (true) {
    const Node found = child(node, byte);
    if (found != 0 || node == kStart) return found;
    node = nodes_[node].fail;
  }
}

}  // namespace peregrine::api
