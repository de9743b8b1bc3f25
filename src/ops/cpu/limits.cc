// SPDX-License-Identifier: Apache-2.0
#include "ops/cpu/limits.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "core/error.h"
#include "core/processors.h"
#include "core/thread_pool.h"
#include "ops/cpu/isa.h"
#include "ops/cpu/memory.h"

namespace peregrine::ops::cpu {
namespace {

/// Well beyond any last-level cache.
constexpr std::size_t kBufferBytes = std::size_t{1} << 30;
constexpr int kPasses = 5;
/// No further pass after so long.
constexpr double kPatience = 0.4;
/// A few milliseconds, so that starting the threads counts for nothing.
constexpr std::int64_t kSpinIterations = 500'000;

/// Seconds of the fastest of several runs of `work` on all threads.
template <typename Work>
double fastest(core::ThreadPool& pool, Work work) {
  double best = 1e30, spent = 0;
  for (int pass = 0; pass < kPasses && spent < kPatience; ++pass) {
    const auto start = std::chrono::steady_clock::now();
    pool.run(work);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    best = std::min(best, seconds);
    spent += seconds;
  }
  return best;
}

}  // namespace

Limits measure_limits(int threads, const std::string& isa) {
  if (threads < 0 || threads > 1024) {
    core::fail(core::ErrorKind::kInvalidArgument, "threads must be 0 (one for each core) to 1024, not {}",
               threads);
  }
  const KernelTable& kernels = kernels_for(isa);
  core::ThreadPool pool(threads == 0 ? core::default_threads() : threads);
  Limits limits;
  limits.isa = kernels.name;
  limits.threads = pool.size();

  const Region buffer(kBufferBytes, Commit::kHugePages, "measuring memory bandwidth");
  const std::size_t share = kBufferBytes / static_cast<std::size_t>(pool.size()) / 4096 * 4096;
  pool.run([&](int i) { std::memset(buffer.data() + static_cast<std::size_t>(i) * share, 1, share); });
  const double read = fastest(pool, [&](int i) {
    static_cast<void>(kernels.read_memory(buffer.data() + static_cast<std::size_t>(i) * share, share));
  });
  limits.read_bandwidth = static_cast<double>(share) * pool.size() / read;

  double operations = 0;
  const double f32 = fastest(pool, [&](int i) {
    const double count = kernels.spin_f32(kSpinIterations);
    if (i == 0) operations = count;
  });
  limits.f32_rate = operations * pool.size() / f32;
  const double bf16 = fastest(pool, [&](int i) {
    const double count = kernels.spin_bf16(kSpinIterations);
    if (i == 0) operations = count;
  });
  limits.bf16_rate = operations * pool.size() / bf16;
  const double int8 = fastest(pool, [&](int i) {
    const double count = kernels.spin_int8(kSpinIterations);
    if (i == 0) operations = count;
  });
  limits.int8_rate = operations * pool.size() / int8;
  return limits;
}

}  // namespace peregrine::ops::cpu
