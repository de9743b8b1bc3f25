// SPDX-License-Identifier: Apache-2.0
#include "decoding/token_counts.h"

#include <algorithm>
#include <bit>
#include <utility>

namespace peregrine::decoding {

std::uint64_t mix_bits(std::uint64_t word) {
  word += 0x9E3779B97F4A7C15;
  word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9;
  word = (word ^ (word >> 27)) * 0x94D049BB133111EB;
  return word ^ (word >> 31);
}

void HashIndex::reserve(std::size_t count) {
  const std::size_t slots = std::bit_ceil(std::max<std::size_t>(16, 2 * count));
  if (slots > slots_.size()) rebuild(slots);
}

void HashIndex::insert(std::uint64_t hash, std::int32_t index) {
  reserve(used_ + 1);
  place({static_cast<std::uint32_t>(hash), index});
  ++used_;
}

void HashIndex::rebuild(std::size_t slots) {
  const std::vector<Slot> old = std::exchange(slots_, std::vector<Slot>(slots));
  for (const Slot& slot : old) {
    if (slot.index >= 0) place(slot);
  }
}

void HashIndex::place(Slot slot) {
  std::size_t at = slot.tag & mask();
  while (slots_[at].index >= 0) at = (at + 1) & mask();
  slots_[at] = slot;
}

void TokenCounts::reserve(std::size_t distinct) {
  entries_.reserve(distinct);
  index_.reserve(distinct);
}

void TokenCounts::add(std::int32_t id) {
  const std::uint64_t hash = mix_bits(static_cast<std::uint64_t>(id));
  std::int32_t at =
      index_.find(hash, [&](std::int32_t i) { return entries_[static_cast<std::size_t>(i)].id == id; });
  if (at < 0) {
    at = static_cast<std::int32_t>(entries_.size());
    entries_.push_back({id, 0});
    index_.insert(hash, at);
  }
  ++entries_[static_cast<std::size_t>(at)].count;
}

}  // namespace peregrine::decoding
