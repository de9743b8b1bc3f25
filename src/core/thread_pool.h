// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <type_traits>
#include <vector>

#include "core/processors.h"
#include "core/spin_wait.h"

namespace peregrine::core {

/// A fixed set of threads that all run the same function. The calling thread is one of them, so a pool of n
/// starts n - 1 threads. One run at a time; nothing is allocated by a run. Idle workers spin for at most 50
/// us and then sleep.
class ThreadPool {
 public:
  /// `threads` >= 1. `seats` says where each thread runs (Seats, by thread); worker i sits on seat i, and the
  /// caller, which is thread 0, chooses its own. Empty: wherever the system puts them.
  explicit ThreadPool(int threads, Seats seats = {});
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return static_cast<int>(workers_.size()) + 1; }
  const Seats& seats() const { return seats_; }

  /// Calls function(i) for every i in [0, size()), each on its own thread, i = 0 on the caller's, and returns
  /// when all have returned. `function` must not throw and must not call run or share.
  template <typename Function>
  void run(Function&& function) {
    if (workers_.empty()) {
      function(0);
      return;
    }
    std::atomic<std::uint32_t> left{static_cast<std::uint32_t>(workers_.size())};
    share([&](int index) {
      function(index);
      if (index == 0) {
        for (std::uint32_t now = left.load(std::memory_order_acquire); now != 0;
             now = left.load(std::memory_order_acquire)) {
          spin_wait(left, [now](std::uint32_t value) { return value != now; });
        }
      } else if (left.fetch_sub(1, std::memory_order_acq_rel) == 1) {
        left.notify_all();
      }
    });
  }

  /// Calls function(0) on the calling thread and, for as long as that has not returned, function(i) on each
  /// worker i that comes; returns when all calls have. A worker that comes too late (it was asleep, or
  /// another program has its processor) is not waited for: `function` must take its work from what is left,
  /// so that function(0) leaves none. It must not throw and must not call run or share.
  template <typename Function>
  void share(Function&& function) {
    using Target = std::remove_reference_t<Function>;
    share_erased([](void* target, int index) { (*static_cast<Target*>(target))(index); },
                 const_cast<void*>(static_cast<const void*>(&function)));
  }

 private:
  using Entry = void (*)(void*, int);

  void share_erased(Entry entry, void* target);
  void work(int index);
  bool join(std::uint32_t generation);

  const Seats seats_;
  Entry entry_ = nullptr;
  void* target_ = nullptr;
  // Each on its own cache line: workers poll one while others write the other.
  alignas(64) std::atomic<std::uint32_t> generation_{0};  ///< Of the last run that has begun.
  /// The door of that run: its generation in the upper half, whether it is closed, and in the lower bits the
  /// workers inside.
  alignas(64) std::atomic<std::uint64_t> door_{0};
  alignas(64) std::atomic<bool> stopping_{false};
  std::vector<std::thread> workers_;
};

}  // namespace peregrine::core
