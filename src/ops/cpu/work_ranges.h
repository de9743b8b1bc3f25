// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace peregrine::ops::cpu {

/// Items [begin, end).
struct WorkRange {
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

/// Items in as many equal parts as there are threads. Each thread walks through its own part from the front,
/// some items at a time, and then helps where most is left, from the back: streams stay in one piece, the
/// same thread gets (but for the ends) the same items every time, and a thread that is slow, or never comes,
/// holds up nobody for longer than what it has in hand. Work stealing of ranges as in Tzannes et al., "Lazy
/// Binary-Splitting" (PPoPP 2010), without the splitting tree: parts are few.
class WorkRanges {
 public:
  explicit WorkRanges(int threads) : parts_(static_cast<std::size_t>(threads)) {}

  /// Deals items [0, count), `count` at most 2^32 - 1. While nobody takes.
  void deal(std::int64_t count) {
    const auto parts = static_cast<std::int64_t>(parts_.size());
    for (std::int64_t i = 0; i < parts; ++i) {
      parts_[static_cast<std::size_t>(i)].left.store(pack(count * i / parts, count * (i + 1) / parts),
                                                     std::memory_order_relaxed);
    }
  }

  /// Takes up to `grain` items for a thread; false where none are left anywhere. Thread-safe.
  bool take(int thread, std::int64_t grain, WorkRange& out) {
    if (take_front(parts_[static_cast<std::size_t>(thread)].left, grain, out)) return true;
    for (;;) {
      std::atomic<std::uint64_t>* fullest = nullptr;
      std::int64_t most = 0;
      for (Part& part : parts_) {
        const WorkRange left = unpack(part.left.load(std::memory_order_relaxed));
        if (left.end - left.begin <= most) continue;
        most = left.end - left.begin;
        fullest = &part.left;
      }
      if (fullest == nullptr) return false;
      if (take_back(*fullest, grain, out)) return true;
    }
  }

 private:
  /// On a cache line of its own: its owner writes it again and again.
  struct alignas(64) Part {
    std::atomic<std::uint64_t> left{0};  ///< Begin in the upper half, end in the lower.
  };

  static std::uint64_t pack(std::int64_t begin, std::int64_t end) {
    return static_cast<std::uint64_t>(begin) << 32 | static_cast<std::uint64_t>(end);
  }
  static WorkRange unpack(std::uint64_t packed) {
    return {static_cast<std::int64_t>(packed >> 32), static_cast<std::int64_t>(packed & 0xFFFFFFFFu)};
  }

  // Begins only grow and ends only fall until the next deal, so an unchanged word means an unchanged part.
  static bool take_front(std::atomic<std::uint64_t>& left, std::int64_t grain, WorkRange& out) {
    std::uint64_t seen = left.load(std::memory_order_relaxed);
    for (;;) {
      const WorkRange range = unpack(seen);
      if (range.begin >= range.end) return false;
      const std::int64_t middle = range.end - range.begin > grain ? range.begin + grain : range.end;
      if (left.compare_exchange_weak(seen, pack(middle, range.end), std::memory_order_relaxed)) {
        out = {range.begin, middle};
        return true;
      }
    }
  }

  static bool take_back(std::atomic<std::uint64_t>& left, std::int64_t grain, WorkRange& out) {
    std::uint64_t seen = left.load(std::memory_order_relaxed);
    for (;;) {
      const WorkRange range = unpack(seen);
      if (range.begin >= range.end) return false;
      const std::int64_t middle = range.end - range.begin > grain ? range.end - grain : range.begin;
      if (left.compare_exchange_weak(seen, pack(range.begin, middle), std::memory_order_relaxed)) {
        out = {middle, range.end};
        return true;
      }
    }
  }

  std::vector<Part> parts_;
};

}  // namespace peregrine::ops::cpu
