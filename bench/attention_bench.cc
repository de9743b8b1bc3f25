// SPDX-License-Identifier: Apache-2.0
// Attention and what writes its cache on the cpu device, alone, in the shapes of Falcon-7B and Llama-3-8B:
// decoding one token after a long context (bytes of keys and values a second, of what the machine reads from
// memory), whole prompts (floating-point operations a second), and rotation with the writing of keys and
// values. Environment: PEREGRINE_ISA forces an instruction set, PEREGRINE_THREADS the number of threads.
//
//   attention_bench --benchmark_filter=decode/falcon

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "bench/machine.h"
#include "ops/stream.h"

namespace {

using namespace peregrine;
using core::DType;

struct Shape {
  const char* name;
  std::int32_t heads, kv_heads, head_dim;
};
constexpr Shape kShapes[] = {{"falcon-7b", 71, 1, 64}, {"llama-3-8b", 32, 8, 128}};

/// Layers are visited in turn, together beyond a core's and, one hopes, one guest's share of the caches.
constexpr std::int64_t kWorkingSet = std::int64_t{512} << 20;

const bench::Machine& machine() {
  static const bench::Machine instance = [] {
    bench::Machine m = bench::measure_machine();
    fmt::print("{}: {:.1f} GB/s, {:.0f} Gflop/s float32\n", m.device->description(),
               m.limits.read_bandwidth / 1e9, m.limits.f32_rate / 1e9);
    return m;
  }();
  return instance;
}

/// One sequence whose last `rows` positions of `length` are the step's, and its cache.
class Sequence {
 public:
  Sequence(const Shape& shape, DType compute, DType cache, std::int32_t length, std::int32_t rows)
      : device_(*machine().device), stream(device_.create_stream()) {
    ops::KvCacheSpec spec{1, shape.kv_heads, shape.head_dim, cache, 0};
    const std::int32_t blocks = (length + ops::kBlockTokens - 1) / ops::kBlockTokens;
    bytes = static_cast<std::int64_t>(device_.kv_block_bytes(spec)) * blocks;
    layers = spec.layers = rows == length ? 1 : static_cast<std::int32_t>(kWorkingSet / bytes + 1);
    spec.blocks = blocks + 1;
    this->cache = device_.create_kv_cache(spec);
    std::vector<std::int32_t> positions(static_cast<std::size_t>(rows)), table, pairs;
    std::iota(positions.begin(), positions.end(), length - rows);
    for (std::int32_t i = 0; i < blocks; ++i) {
      // Neighbours in a sequence are seldom neighbours in the cache.
      table.push_back(static_cast<std::int32_t>((std::int64_t{i} * 7919 + 13) % blocks));
      // Written to, blocks get memory of their own.
      pairs.insert(pairs.end(), {blocks, i});
    }
    batch.rows = rows;
    batch.sequences = 1;
    batch.positions = put(positions);
    batch.row_sequence = put(std::vector<std::int32_t>(static_cast<std::size_t>(rows), 0));
    batch.sequence_starts = put(std::vector<std::int32_t>{0, rows});
    if (std::gcd(7919, blocks) != 1) std::iota(table.begin(), table.end(), 0);
    batch.block_tables = put(table);
    batch.table_stride = blocks;
    qkv = matrix(rows, std::int64_t{shape.heads + 2 * shape.kv_heads} * shape.head_dim, compute);
    out = matrix(rows, std::int64_t{shape.heads} * shape.head_dim, compute);
    cosines = matrix(rows, shape.head_dim / 2, DType::kF32);
    sines = matrix(rows, shape.head_dim / 2, DType::kF32);
    stream->copy_blocks({this->cache.get(), put(pairs), blocks});
    finish();
  }

  void finish() { stream->wait(stream->record()); }

 private:
  ops::DeviceAddress allocate(std::size_t size) {
    buffers_.push_back(device_.allocate(size));
    return buffers_.back().address();
  }
  ops::Ints put(const std::vector<std::int32_t>& values) {
    const ops::DeviceAddress address = allocate(values.size() * sizeof(std::int32_t));
    stream->upload(address, values.data(), values.size() * sizeof(std::int32_t));
    finish();
    return {address, static_cast<std::int64_t>(values.size())};
  }
  ops::Matrix matrix(std::int64_t rows, std::int64_t cols, DType type) {
    return {allocate(static_cast<std::size_t>(rows * cols) * core::size_of(type)), type, rows, cols, cols};
  }

  ops::Device& device_;
  std::vector<ops::Buffer> buffers_;

 public:
  std::unique_ptr<ops::Stream> stream;
  std::unique_ptr<ops::KvCache> cache;
  ops::Batch batch;
  ops::Matrix qkv, out, cosines, sines;
  std::int64_t bytes = 0;  ///< Keys and values of one layer.
  std::int32_t layers = 0;
};

void attention(benchmark::State& state, const Shape& shape, DType cache, std::int32_t length,
               std::int32_t rows) {
  const DType compute = cache == DType::kF32 ? DType::kF32 : DType::kBF16;
  Sequence sequence(shape, compute, cache, length, rows);
  ops::AttentionArgs args;
  args.batch = sequence.batch;
  args.heads = shape.heads;
  args.queries = sequence.qkv.columns(0, sequence.out.cols);
  args.cache = sequence.cache.get();
  args.scale = 0.125f;
  args.out = sequence.out;
  // Layers one after the other, as in a model, so that what it takes to start counts little.
  const int turns = rows == 1 ? 16 : 1;
  for (auto _ : state) {
    for (int i = 0; i < turns; ++i) {
      sequence.stream->attention(args);
      args.layer = (args.layer + 1) % sequence.layers;
    }
    sequence.finish();
  }
  const double passes = static_cast<double>(state.iterations()) * turns;
  const double keys = 0.5 * (2.0 * length - rows + 1) * rows;  // summed over the rows
  const double operations = 4.0 * static_cast<double>(shape.heads * shape.head_dim) * keys;
  const auto rate = benchmark::Counter::kIsRate;
  if (rows == 1) {
    const double bytes = passes * static_cast<double>(sequence.bytes);
    state.counters["GB/s"] = benchmark::Counter(bytes / 1e9, rate);
    state.counters["of_bandwidth"] = benchmark::Counter(bytes / machine().limits.read_bandwidth, rate);
  }
  state.counters["Gflop/s"] = benchmark::Counter(passes * operations / 1e9, rate);
  state.counters["of_peak"] = benchmark::Counter(passes * operations / machine().limits.f32_rate, rate);
}

void rotate(benchmark::State& state, const Shape& shape, DType cache, ops::RotaryStyle style,
            std::int32_t rows) {
  Sequence sequence(shape, cache == DType::kF32 ? DType::kF32 : DType::kBF16, cache, rows, rows);
  ops::RotateAndStoreArgs args;
  args.batch = sequence.batch;
  args.qkv = sequence.qkv;
  args.heads = shape.heads;
  args.cosines = sequence.cosines;
  args.sines = sequence.sines;
  args.style = style;
  args.cache = sequence.cache.get();
  for (auto _ : state) {
    sequence.stream->rotate_and_store(args);
    sequence.finish();
  }
  state.counters["elements/s"] = benchmark::Counter(
      static_cast<double>(state.iterations()) * static_cast<double>(sequence.qkv.cols * rows),
      benchmark::Counter::kIsRate);
}

template <typename Function>
void add(const std::string& name, Function function) {
  benchmark::RegisterBenchmark(name.c_str(), function)->Unit(benchmark::kMicrosecond)->UseRealTime();
}

}  // namespace

int main(int argc, char** argv) {
  struct Type {
    const char* name;
    DType type;
  };
  constexpr Type kTypes[] = {{"bf16", DType::kBF16}, {"f32", DType::kF32}, {"int8", DType::kI8}};
  for (const Shape& shape : kShapes) {
    for (const Type& type : kTypes) {
      const auto named = [&](const char* what, const char* unit, std::int32_t n) {
        return fmt::format("{}/{}/{}/{}{}", what, shape.name, type.name, unit, n);
      };
      for (const std::int32_t length : {1024, 8192, 32768}) {
        add(named("decode", "", length),
            [=](benchmark::State& state) { attention(state, shape, type.type, length, 1); });
      }
      for (const std::int32_t length : {512, 2048}) {
        add(named("prompt", "", length),
            [=](benchmark::State& state) { attention(state, shape, type.type, length, length); });
      }
      for (const std::int32_t rows : {1, 512}) {
        add(named("rotate_halves", "M", rows), [=](benchmark::State& state) {
          rotate(state, shape, type.type, ops::RotaryStyle::kHalves, rows);
        });
        add(named("rotate_pairs", "M", rows), [=](benchmark::State& state) {
          rotate(state, shape, type.type, ops::RotaryStyle::kPairs, rows);
        });
      }
    }
  }
  benchmark::Initialize(&argc, argv);
  machine();
  benchmark::RunSpecifiedBenchmarks();
}
