// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>

namespace peregrine::core {

/// Longest time a thread burns a processor while it waits. Steps of a small model follow each other within a
/// few microseconds; a futex wake-up costs about that much, so sleeping sooner would double a small step.
inline constexpr std::chrono::microseconds kLongestSpin{50};

/// Polls until `ready(value)` or kLongestSpin has passed; whether it is ready. What the writer did before a
/// release store is seen after a return of true.
template <typename T, typename Ready>
bool spin_for(const std::atomic<T>& value, Ready ready) {
  if (ready(value.load(std::memory_order_acquire))) return true;
  const auto limit = std::chrono::steady_clock::now() + kLongestSpin;
  do {
    // A pause takes 10 to 140 cycles, by processor: at most some 2 us between looks at the clock.
    for (int i = 0; i < 32; ++i) {
      if (ready(value.load(std::memory_order_acquire))) return true;
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    }
  } while (std::chrono::steady_clock::now() < limit);
  return ready(value.load(std::memory_order_acquire));
}

/// Waits until `ready(value)`: spins for at most kLongestSpin, then sleeps between changes of the value,
/// whose writer must call notify.
template <typename T, typename Ready>
void spin_wait(const std::atomic<T>& value, Ready ready) {
  if (spin_for(value, ready)) return;
  for (T seen = value.load(std::memory_order_acquire); !ready(seen);
       seen = value.load(std::memory_order_acquire)) {
    value.wait(seen, std::memory_order_acquire);
  }
}

}  // namespace peregrine::core
