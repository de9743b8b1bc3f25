// SPDX-License-Identifier: Apache-2.0
#include "text/byte_trie.h"

namespace peregrine::text {

ByteTrie::ByteTrie(std::vector<Entry> entries) {
  std::stable_sort(entries.begin(), entries.end(),
                   [](const Entry& a, const Entry& b) { return a.key < b.key; });
  /// The entries that have a node's bytes as their first ones.
  struct Span {
    std::size_t begin;
    std::size_t end;
    std::size_t depth;
  };
  std::vector<Span> spans = {{0, entries.size(), 0}};
  labels_.push_back(0);
  values_.push_back(kNone);
  for (std::size_t node = 0; node < spans.size(); ++node) {
    first_child_.push_back(static_cast<std::uint32_t>(spans.size()));
    auto [at, end, depth] = spans[node];
    for (; at < end && entries[at].key.size() == depth; ++at) {
      if (depth > 0) values_[node] = entries[at].value;
    }
    while (at < end) {
      const char label = entries[at].key[depth];
      const std::size_t begin = at;
      while (at < end && entries[at].key[depth] == label) ++at;
      spans.push_back({begin, at, depth + 1});
      labels_.push_back(static_cast<unsigned char>(label));
      values_.push_back(kNone);
    }
  }
  first_child_.push_back(static_cast<std::uint32_t>(spans.size()));
}

}  // namespace peregrine::text
