// SPDX-License-Identifier: Apache-2.0
// The same products as linear_bench, by oneDNN: the yardstick. Its weights are packed once, into the layout
// that it asks for. Threads: OMP_NUM_THREADS. Reduced to what both compute, the product: oneDNN's int8 result
// stays int32, and its activations come quantized.
//
//   OMP_NUM_THREADS=2 onednn_bench --benchmark_filter=int8

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <cstring>
#include <dnnl.hpp>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "bench/falcon_shapes.h"

namespace {

using namespace peregrine::bench;
using dnnl::memory;
using DataType = memory::data_type;

struct Types {
  const char* name;  ///< As in linear_bench: weights, then activations.
  DataType weight, in, out;
  std::int64_t weight_size;
};
constexpr Types kTypes[] = {{"f32*f32", DataType::f32, DataType::f32, DataType::f32, 4},
                            {"bf16*bf16", DataType::bf16, DataType::bf16, DataType::bf16, 2},
                            {"int8*bf16", DataType::s8, DataType::u8, DataType::s32, 1}};

dnnl::engine& engine() {
  static dnnl::engine instance(dnnl::engine::kind::cpu, 0);
  return instance;
}

memory filled(const memory::desc& description, int byte) {
  memory out(description, engine());
  std::memset(out.get_data_handle(), byte, description.get_size());
  return out;
}

dnnl::matmul::primitive_desc describe(const Shape& shape, const Types& types, std::int64_t rows) {
  const memory::desc in({rows, shape.k}, types.in, memory::format_tag::ab);
  const memory::desc weight({shape.k, shape.n}, types.weight, memory::format_tag::any);
  const memory::desc out({rows, shape.n}, types.out, memory::format_tag::ab);
  return {dnnl::matmul::desc(in, weight, out), engine()};
}

/// Copies of a weight in `wanted` layout. Those of the last call are kept: neighbouring results often share
/// them, and Google Benchmark calls a benchmark several times.
const std::vector<memory>& packed_weights(const Shape& shape, const Types& types, const memory::desc& wanted,
                                          std::int64_t copies) {
  static std::vector<memory> kept;
  if (!kept.empty() && kept.front().get_desc() == wanted && std::ssize(kept) >= copies) return kept;
  kept.clear();
  memory plain = filled(memory::desc({shape.k, shape.n}, types.weight, memory::format_tag::ba), 0x3c);
  dnnl::stream stream(engine());
  for (std::int64_t i = 0; i < copies; ++i) {
    memory packed(wanted, engine());
    dnnl::reorder(plain, packed).execute(stream, plain, packed);
    kept.push_back(std::move(packed));
  }
  stream.wait();
  return kept;
}

void product(benchmark::State& state, const Shape& shape, const Types& types, std::int64_t rows) {
  const auto description = describe(shape, types, rows);
  const auto& weights = packed_weights(shape, types, description.weights_desc(),
                                       copies_beyond_caches(shape, types.weight_size, rows));
  const dnnl::matmul matmul(description);
  const memory in = filled(description.src_desc(), 0x3c);
  const memory out = filled(description.dst_desc(), 0);
  dnnl::stream stream(engine());
  std::size_t turn = 0;
  for (auto _ : state) {
    const memory& weight = weights[turn++ % weights.size()];
    matmul.execute(stream, {{DNNL_ARG_SRC, in}, {DNNL_ARG_WEIGHTS, weight}, {DNNL_ARG_DST, out}});
    stream.wait();
  }
  state.SetLabel(description.impl_info_str());
  const double passes = static_cast<double>(state.iterations());
  const double elements = static_cast<double>(shape.n * shape.k);
  const auto rate = benchmark::Counter::kIsRate;
  state.counters["GB/s"] =
      benchmark::Counter(passes * elements * static_cast<double>(types.weight_size) / 1e9, rate);
  state.counters["Gflop/s"] =
      benchmark::Counter(passes * 2.0 * elements * static_cast<double>(rows) / 1e9, rate);
}

}  // namespace

int main(int argc, char** argv) {
  for (const Types& types : kTypes) {
    for (const Shape& shape : kFalconShapes) {
      for (const std::int64_t rows : kRows) {
        const auto name = fmt::format("{}/{}/M{}", types.name, shape.name, rows);
        benchmark::RegisterBenchmark(name.c_str(),
                                     [=](benchmark::State& state) { product(state, shape, types, rows); })
            ->Unit(benchmark::kMillisecond)
            ->UseRealTime();
      }
    }
  }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
