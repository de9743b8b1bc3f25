// SPDX-License-Identifier: Apache-2.0
// What it costs to have threads meet: empty runs of the pool and of the device's loops.
#include <benchmark/benchmark.h>

#include "core/processors.h"
#include "core/thread_pool.h"
#include "ops/cpu/compute.h"
#include "ops/cpu/isa.h"

namespace peregrine {
namespace {

/// Each thread runs, and all have returned.
void pool_run(benchmark::State& state) {
  core::ThreadPool pool(static_cast<int>(state.range(0)));
  for (auto _ : state) pool.run([](int thread) { benchmark::DoNotOptimize(thread); });
}

/// Those that come in time run.
void pool_share(benchmark::State& state) {
  core::ThreadPool pool(static_cast<int>(state.range(0)));
  for (auto _ : state) pool.share([](int thread) { benchmark::DoNotOptimize(thread); });
}

/// One item for each thread.
void ranges(benchmark::State& state) {
  const int threads = static_cast<int>(state.range(0));
  ops::cpu::Compute compute(threads, ops::cpu::kernels_for(""));
  const core::Seated seated(compute.seat());
  for (auto _ : state) {
    compute.for_each_range(threads, 1,
                           [](std::int64_t begin, std::int64_t, int) { benchmark::DoNotOptimize(begin); });
  }
}

void with_threads(benchmark::internal::Benchmark* run) {
  const int most = core::default_threads();
  run->Arg(1);
  for (int threads = 2; threads <= most; threads *= 2) run->Arg(threads);
  run->UseRealTime();
}

BENCHMARK(pool_run)->Apply(with_threads);
BENCHMARK(pool_share)->Apply(with_threads);
BENCHMARK(ranges)->Apply(with_threads);

}  // namespace
}  // namespace peregrine

BENCHMARK_MAIN();
