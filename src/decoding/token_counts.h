// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace peregrine::decoding {

/// Spreads the bits of a word evenly (the finalizer of splitmix64; Steele, Lea and Flood, OOPSLA 2014).
std::uint64_t mix_bits(std::uint64_t word);

/// Finds indices by the hash of what they stand for: an open-addressing table with linear probing. It
/// allocates only when it grows past what was reserved.
class HashIndex {
 public:
  /// Room for `count` indices.
  void reserve(std::size_t count);

  /// Adds an index (>= 0). The same hash may be added more than once.
  void insert(std::uint64_t hash, std::int32_t index);

  /// The first index added with this hash for which `same(index)` holds, or -1.
  template <typename Same>
  std::int32_t find(std::uint64_t hash, Same same) const {
    if (slots_.empty()) return -1;
    const auto tag = static_cast<std::uint32_t>(hash);
    for (std::size_t at = tag & mask(); slots_[at].index >= 0; at = (at + 1) & mask()) {
      if (slots_[at].tag == tag && same(slots_[at].index)) return slots_[at].index;
    }
    return -1;
  }

 private:
  struct Slot {
    std::uint32_t tag = 0;  ///< The low bits of the hash: slots are copied with beams, so they are small.
    std::int32_t index = -1;
  };

  std::size_t mask() const { return slots_.size() - 1; }
  void rebuild(std::size_t slots);
  void place(Slot slot);

  std::vector<Slot> slots_;  ///< A power of two, at most half full.
  std::size_t used_ = 0;
};

/// How often each token has been seen.
class TokenCounts {
 public:
  struct Entry {
    std::int32_t id = 0;
    std::int32_t count = 0;
  };

  /// Room for `distinct` different tokens.
  void reserve(std::size_t distinct);
  void add(std::int32_t id);
  /// The tokens seen so far, each once, in the order of their first appearance.
  std::span<const Entry> entries() const { return entries_; }

 private:
  std::vector<Entry> entries_;
  HashIndex index_;
};

}  // namespace peregrine::decoding
