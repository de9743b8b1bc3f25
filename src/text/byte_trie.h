// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <vector>

namespace peregrine::text {

/// A set of byte strings with values, for finding all that a text starts with. Nodes lie in breadth-first
/// order, so that the children of one node are neighbours: 9 bytes a node. Immutable.
class ByteTrie {
 public:
  struct Entry {
    std::string_view key;
    std::int32_t value;
  };

  /// Keys may repeat: the last one counts. Empty keys are never found. Keys are not referred to afterwards.
  explicit ByteTrie(std::vector<Entry> entries);

  /// Calls visit(bytes, value) for each key that `text` starts with, from the shortest to the longest.
  template <typename Visit>
  void for_each_prefix(std::string_view text, Visit visit) const {
    std::size_t node = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
      const auto byte = static_cast<unsigned char>(text[i]);
      const auto begin = labels_.begin() + first_child_[node];
      const auto end = labels_.begin() + first_child_[node + 1];
      const auto child = std::lower_bound(begin, end, byte);
      if (child == end || *child != byte) return;
      node = static_cast<std::size_t>(child - labels_.begin());
      if (values_[node] != kNone) visit(i + 1, values_[node]);
    }
  }

 private:
  static constexpr std::int32_t kNone = -1;

  // By node; node 0 is the root. The children of node n are [first_child_[n], first_child_[n + 1]).
  std::vector<std::uint32_t> first_child_;
  std::vector<unsigned char> labels_;
  std::vector<std::int32_t> values_;
};

}  // namespace peregrine::text
