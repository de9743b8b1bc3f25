// SPDX-License-Identifier: Apache-2.0
// Matrix products on the cpu device in Falcon-7B's shapes, as fractions of what the machine can do.
// Environment: PEREGRINE_ISA forces an instruction set, PEREGRINE_THREADS the number of threads.
//
//   linear_bench --benchmark_filter=bf16

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bench/falcon_shapes.h"
#include "bench/machine.h"

namespace {

using namespace peregrine;
using bench::Shape;
using core::DType;

const bench::Machine& machine() {
  static const bench::Machine instance = [] {
    bench::Machine m = bench::measure_machine();
    fmt::print("{}: {:.1f} GB/s, {:.0f} Gflop/s float32, {:.0f} Gflop/s bfloat16, {:.0f} Gop/s int8\n",
               m.device->description(), m.limits.read_bandwidth / 1e9, m.limits.f32_rate / 1e9,
               m.limits.bf16_rate / 1e9, m.limits.int8_rate / 1e9);
    return m;
  }();
  return instance;
}

using Weights = std::vector<std::unique_ptr<ops::Weight>>;

/// Copies of a weight. Those of the last call are kept: neighbouring results share them, and Google Benchmark
/// calls a benchmark several times.
const Weights& weights_of(const Shape& shape, DType type, std::int64_t rows) {
  static std::pair<std::string, DType> kept_as;
  static Weights kept;
  const std::int64_t size = static_cast<std::int64_t>(core::size_of(type));
  const std::int64_t copies = bench::copies_beyond_caches(shape, size, rows);
  if (kept_as == std::pair{std::string(shape.name), type} && std::ssize(kept) >= copies) return kept;
  kept.clear();
  kept_as = {shape.name, type};
  const DType source = type == DType::kI8 ? DType::kBF16 : type;
  const auto bytes = shape.n * shape.k * static_cast<std::int64_t>(core::size_of(source));
  const std::vector<std::byte> values(static_cast<std::size_t>(bytes), std::byte{0x3c});
  const ops::HostMatrix host{values.data(), source, shape.n, shape.k, shape.k};
  for (std::int64_t i = 0; i < copies; ++i) {
    kept.push_back(machine().device->pack({&host, 1}, type, ops::WeightUse::kLinear));
  }
  return kept;
}

void linear(benchmark::State& state, const Shape& shape, DType weight_type, DType type, std::int64_t rows) {
  ops::Device& device = *machine().device;
  const Weights& weights = weights_of(shape, weight_type, rows);
  const auto size = static_cast<std::int64_t>(core::size_of(type));
  const ops::Buffer in = device.allocate(static_cast<std::size_t>(rows * shape.k * size));
  const ops::Buffer out = device.allocate(static_cast<std::size_t>(rows * shape.n * size));
  const auto stream = device.create_stream();
  ops::LinearArgs args;
  args.in = {in.address(), type, rows, shape.k, shape.k};
  args.out = {out.address(), type, rows, shape.n, shape.n};
  std::size_t turn = 0;
  for (auto _ : state) {
    args.weight = weights[turn++ % weights.size()].get();
    stream->linear(args);
    stream->wait(stream->record());
  }
  const double passes = static_cast<double>(state.iterations());
  const double bytes =
      static_cast<double>(shape.n * shape.k) * static_cast<double>(core::size_of(weight_type));
  const double operations = 2.0 * static_cast<double>(shape.n * shape.k * rows);
  const auto rate = benchmark::Counter::kIsRate;
  const double peak = weight_type == DType::kI8 ? machine().limits.int8_rate
                      : type == DType::kBF16    ? machine().limits.bf16_rate
                                                : machine().limits.f32_rate;
  state.counters["GB/s"] = benchmark::Counter(passes * bytes / 1e9, rate);
  state.counters["of_bandwidth"] = benchmark::Counter(passes * bytes / machine().limits.read_bandwidth, rate);
  state.counters["Gflop/s"] = benchmark::Counter(passes * operations / 1e9, rate);
  state.counters["of_peak"] = benchmark::Counter(passes * operations / peak, rate);
}

}  // namespace

int main(int argc, char** argv) {
  struct Types {
    const char* name;
    DType weight, activation;
  };
  constexpr Types kTypes[] = {
      {"bf16*bf16", DType::kBF16, DType::kBF16}, {"bf16*f32", DType::kBF16, DType::kF32},
      {"f16*f32", DType::kF16, DType::kF32},     {"f32*f32", DType::kF32, DType::kF32},
      {"int8*bf16", DType::kI8, DType::kBF16},   {"int8*f32", DType::kI8, DType::kF32}};
  for (const Types& types : kTypes) {
    for (const Shape& shape : bench::kFalconShapes) {
      for (const std::int64_t rows : bench::kRows) {
        const auto name = fmt::format("{}/{}/M{}", types.name, shape.name, rows);
        benchmark::RegisterBenchmark(
            name.c_str(),
            [=](benchmark::State& state) { linear(state, shape, types.weight, types.activation, rows); })
            ->Unit(benchmark::kMillisecond)
            ->UseRealTime();
      }
    }
  }
  benchmark::Initialize(&argc, argv);
  machine();
  benchmark::RunSpecifiedBenchmarks();
}
