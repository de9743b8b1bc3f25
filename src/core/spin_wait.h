// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>

namespace peregrine::core {

/// Longest time a thread burns a processor while it waits. Steps of a small model follow each other within a
/// few microseconds; a futex wake-up costs about that much, so sleeping sooner would double a small step.
inline constexpr std::chrono::microseconds kLongestSpin{50};

/// Waits until `ready(value)`: spins for at most kLongestSpin, then sleeps between changes of the value,
/// whose writer must call notify. What the writer did before a release store is seen after the return.
template <typename T, typename Ready>
void spin_wait(const std::atomic<T>& value, Ready ready) {
  const auto limit = std::chrono::steady_clock::now() + kLongestSpin;
  do {
    for (int i = 0; i < 64; ++i) {
      if (ready(value.load(std::memory_order_acquire))) return;
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    }
  } while (std::chrono::steady_clock::now() < limit);
  for (T seen = value.load(std::memory_order_acquire); !ready(seen);
       seen = value.load(std::memory_order_acquire)) {
    value.wait(seen, std::memory_order_acquire);
  }
}

}  // namespace peregrine::core
