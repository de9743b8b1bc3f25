// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <limits>
#include <mutex>

namespace peregrine::core {

/// A count that one thread raises and others wait for. Raising it costs a system call only where it reaches
/// what somebody who sleeps waits for: with a wake-up at every step of the count, a thread that waits for the
/// thousandth would take a processor from those that compute a thousand times.
class Progress {
 public:
  std::uint64_t value() const { return value_.load(std::memory_order_acquire); }

  /// Sets the count, which never falls. By one thread at a time. What it did before is seen by whoever saw or
  /// waited for this count.
  void advance(std::uint64_t value);

  /// Waits until the count is at least `target`. Where `spin`, it is polled for kLongestSpin before the
  /// thread sleeps.
  void wait(std::uint64_t target, bool spin = true);

 private:
  static constexpr std::uint64_t kNobody = std::numeric_limits<std::uint64_t>::max();

  // On a cache line of its own: it is polled while other things are written.
  alignas(64) std::atomic<std::uint64_t> value_{0};
  alignas(64) std::atomic<std::uint64_t> awaited_{kNobody};  ///< The least target of those who sleep.
  std::mutex mutex_;
  std::condition_variable reached_;
};

}  // namespace peregrine::core
