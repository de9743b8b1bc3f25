// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <type_traits>
#include <vector>

namespace peregrine::core {

/// Processors this process may use: its affinity mask, lowered to the cgroup's CPU quota where there is one.
/// At least 1.
int available_cpus();

/// A fixed set of threads that all run the same function. The calling thread is one of them, so a pool of n
/// starts n - 1 threads. One run at a time; nothing is allocated by a run. Idle workers spin for at most 50
/// us and then sleep.
class ThreadPool {
 public:
  /// `threads` >= 1.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return static_cast<int>(workers_.size()) + 1; }

  /// Calls function(i) for every i in [0, size()), each on its own thread, i = 0 on the caller's, and returns
  /// when all have returned. `function` must not throw and must not call run.
  template <typename Function>
  void run(Function&& function) {
    using Target = std::remove_reference_t<Function>;
    run_erased([](void* target, int index) { (*static_cast<Target*>(target))(index); },
               const_cast<void*>(static_cast<const void*>(&function)));
  }

 private:
  using Entry = void (*)(void*, int);

  void run_erased(Entry entry, void* target);
  void work(int index);

  Entry entry_ = nullptr;
  void* target_ = nullptr;
  // Each on its own cache line: workers poll one while others write the other.
  alignas(64) std::atomic<std::uint32_t> generation_{0};
  alignas(64) std::atomic<std::uint32_t> running_{0};
  alignas(64) std::atomic<bool> stopping_{false};
  std::vector<std::thread> workers_;
};

}  // namespace peregrine::core
