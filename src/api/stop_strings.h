// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace peregrine::api {

/// A set of strings to be found in a text that comes byte by byte: the automaton of Aho and Corasick 1975.
/// Immutable. Building it takes time and memory in proportion to the strings, a text time in proportion to
/// its length (times the number of strings where many begin alike).
class StopStrings {
 public:
  /// Where a search stands: the longest end of the text that a string begins with.
  using Node = std::uint32_t;
  static constexpr Node kStart = 0;

  /// `strings`: none empty.
  explicit StopStrings(std::span<const std::string> strings);

  /// The node after one more byte.
  Node next(Node node, char byte) const;
  /// Bytes of the text's end that a string begins with: a match can begin there at the earliest.
  std::size_t held(Node node) const { return nodes_[node].depth; }
  /// Bytes of the longest string that the text ends with; 0 where there is none.
  std::size_t matched(Node node) const { return nodes_[node].matched; }
  bool empty() const { return nodes_.size() == 1; }

 private:
  struct Entry {
    Node child = 0;  ///< The first; 0: none. A node's children form a list through `sibling`.
    Node sibling = 0;
    Node fail = 0;  ///< Of the longest proper end of this node's string that is in the trie.
    std::uint32_t depth = 0;
    std::uint32_t matched = 0;
    char byte = 0;  ///< On the edge that leads here.
  };

  Node child(Node node, char byte) const;
  Node add_child(Node node, char byte);
  void link_failures();

  std::vector<Entry> nodes_;
};

}  // namespace peregrine::api
