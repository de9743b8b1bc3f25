// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fmt/format.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "core/dtype.h"
#include "core/error.h"
#include "core/thread_pool.h"
#include "ops/cpu/kernels/kernel_table.h"
#include "ops/cpu/memory.h"

namespace peregrine::ops::cpu {

/// The threads, kernels and working memory of a device. All its streams share them: whoever runs an operation
/// holds `mutex` meanwhile (the pool runs one thing at a time anyway, and each operation uses all of it).
class Compute {
 public:
  Compute(int threads, const KernelTable& kernels);

  int threads() const { return pool_.size(); }
  const KernelTable& kernels() const { return kernels_; }
  std::mutex& mutex() { return mutex_; }

  /// Makes sure that each thread has `bytes` of scratch memory. Allocates only where it grows.
  void reserve_scratch(std::size_t bytes);
  /// The calling thread's scratch memory, 64-byte aligned.
  std::byte* scratch(int thread) const { return scratch_[static_cast<std::size_t>(thread)].data(); }

  /// Memory for packed activations; what was in it may be lost. Allocates only where it grows.
  std::byte* activations(std::size_t bytes);

  /// Calls function(item, thread) for each item in [0, count). Where `threaded`, items are dealt to the
  /// threads as they become free (neighbours on the machine slow down one core or the other), otherwise all
  /// run on the caller.
  template <typename Function>
  void for_each(std::int64_t count, bool threaded, Function&& function) {
    if (!threaded || threads() == 1 || count < 2) {
      for (std::int64_t item = 0; item < count; ++item) function(item, 0);
      return;
    }
    std::atomic<std::int64_t> next{0};
    pool_.run([&](int thread) {
      for (std::int64_t item = next.fetch_add(1, std::memory_order_relaxed); item < count;
           item = next.fetch_add(1, std::memory_order_relaxed)) {
        function(item, thread);
      }
    });
  }

 private:
  core::ThreadPool pool_;
  const KernelTable& kernels_;
  std::mutex mutex_;
  std::vector<Region> scratch_;
  Region activations_;
};

/// The kernels' name of a data type. Throws Error(kInternal) for one that is no weight float.
Number number_of(core::DType type);

/// Throws Error(kInternal): the arguments of an operation do not fit together, a defect of the caller.
template <typename... Args>
void require(bool condition, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) core::fail(core::ErrorKind::kInternal, format, std::forward<Args>(args)...);
}

}  // namespace peregrine::ops::cpu
