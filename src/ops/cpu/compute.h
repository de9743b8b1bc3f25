// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fmt/format.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "core/dtype.h"
#include "core/error.h"
#include "core/processors.h"
#include "core/thread_pool.h"
#include "ops/cpu/kernels/kernel_table.h"
#include "ops/cpu/memory.h"
#include "ops/cpu/work_ranges.h"

namespace peregrine::ops::cpu {

/// The threads, kernels and working memory of a device. All its streams share them: whoever runs an operation
/// holds `mutex` meanwhile (the pool runs one thing at a time anyway, and each operation uses all of it).
class Compute {
 public:
  /// Throws what a Region does.
  Compute(int threads, const KernelTable& kernels);

  int threads() const { return pool_.size(); }
  /// Whether some processor has none of the threads. Where not, a thread that waits for them must not spin.
  bool has_spare_processor() const { return has_spare_processor_; }
  /// Where the caller of for_each sits, which is thread 0: for core::Seated or core::sit_on.
  std::span<const int> seat() const {
    return pool_.seats().empty() ? std::span<const int>() : std::span<const int>(pool_.seats().front());
  }
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
  /// run on the caller. For items of different size; a thread that has not begun is not waited for.
  template <typename Function>
  void for_each(std::int64_t count, bool threaded, Function&& function) {
    if (!threaded || threads() == 1 || count < 2) {
      for (std::int64_t item = 0; item < count; ++item) function(item, 0);
      return;
    }
    std::atomic<std::int64_t> next{0};
    pool_.share([&](int thread) {
      for (std::int64_t item = next.fetch_add(1, std::memory_order_relaxed); item < count;
           item = next.fetch_add(1, std::memory_order_relaxed)) {
        function(item, thread);
      }
    });
  }

  /// Calls function(begin, end, thread) for ranges that together are [0, count), each of at most `grain`
  /// items (1 or more; all at once where one thread does it). For items of equal bytes: each thread has an
  /// equal part of them, which it walks through in order, and in the end helps the others (WorkRanges). With
  /// the same count a thread has the same part every time: what it packs it reads again, from the memory of
  /// its own node. `grain` is best some 20 us of work: so long all wait where its thread loses its processor
  /// to another program.
  template <typename Function>
  void for_each_range(std::int64_t count, std::int64_t grain, Function&& function) {
    if (count <= 0) return;
    if (threads() == 1 || count <= grain) {
      function(std::int64_t{0}, count, 0);
      return;
    }
    check_range(count, grain);
    ranges_.deal(count);
    pool_.share([&](int thread) {
      for (WorkRange range; ranges_.take(thread, grain, range);) function(range.begin, range.end, thread);
    });
  }

 private:
  Compute(int threads, const KernelTable& kernels, const std::vector<core::Core>& cores);

  /// Throws Error(kInternal) for what a part cannot hold.
  static void check_range(std::int64_t count, std::int64_t grain);

  core::ThreadPool pool_;
  WorkRanges ranges_;
  const bool has_spare_processor_;
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
