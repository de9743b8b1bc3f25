// SPDX-License-Identifier: Apache-2.0
#include "core/progress.h"

#include <algorithm>

#include "core/spin_wait.h"

namespace peregrine::core {

void Progress::advance(std::uint64_t value) {
  // Both sides write, then read what the other writes: with sequential consistency at least one of them sees
  // the other.
  value_.store(value, std::memory_order_seq_cst);
  if (awaited_.load(std::memory_order_seq_cst) > value) return;
  {
    const std::scoped_lock lock(mutex_);
    // Whoever waits for more puts its target back.
    awaited_.store(kNobody, std::memory_order_seq_cst);
  }
  reached_.notify_all();
}

void Progress::wait(std::uint64_t target, bool spin) {
  const auto reached = [target](std::uint64_t value) { return value >= target; };
  if (spin ? spin_for(value_, reached) : reached(value())) return;
  std::unique_lock lock(mutex_);
  for (;;) {
    awaited_.store(std::min(awaited_.load(std::memory_order_relaxed), target), std::memory_order_seq_cst);
    if (reached(value_.load(std::memory_order_seq_cst))) return;
    reached_.wait(lock);
  }
}

}  // namespace peregrine::core
