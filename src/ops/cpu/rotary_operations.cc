// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "core/checked.h"
#include "ops/cpu/kv_cache.h"
#include "ops/cpu/operations.h"

namespace peregrine::ops::cpu {
namespace {

using core::DType;

/// Elements of work from which on waking the other threads pays.
constexpr std::int64_t kWorthThreads = 1 << 14;
/// Elements of a row that an item takes: some microseconds of work.
constexpr std::int64_t kItemElements = 1 << 12;

const std::int32_t* ints(const Ints& array) { return reinterpret_cast<const std::int32_t*>(array.data); }
const float* floats(const Floats& array) { return reinterpret_cast<const float*>(array.data); }

float* float_row(const Matrix& matrix, std::int64_t row) {
  return reinterpret_cast<float*>(matrix.data) + row * matrix.stride;
}

RotateTask rotate_task(const RotateAndStoreArgs& args, const CpuKvCache& cache) {
  RotateTask task;
  static_cast<CacheView&>(task) = cache.view(args.layer);
  task.qkv = args.qkv.data;
  task.type = number_of(args.qkv.dtype);
  task.stride = args.qkv.stride;
  task.head_dim = cache.spec().head_dim;
  task.heads = args.heads;
  task.kv_heads = cache.spec().kv_heads;
  if (args.cosines) {
    task.cosines = reinterpret_cast<const float*>(args.cosines.data);
    task.sines = reinterpret_cast<const float*>(args.sines.data);
    task.cosine_stride = args.cosines.stride;
    task.sine_stride = args.sines.stride;
    task.half = args.cosines.cols;
  }
  task.pairs = args.style == RotaryStyle::kPairs;
  task.clip = args.clip;
  task.query_norm = floats(args.query_norm);
  task.key_norm = floats(args.key_norm);
  task.centered = args.head_norm == NormKind::kLayer;
  task.epsilon = args.head_norm_epsilon;
  return task;
}

}  // namespace

void run(Compute& compute, const RotaryAnglesArgs& args) {
  const Batch& batch = args.batch;
  require(args.cosines.dtype == DType::kF32 && args.sines.dtype == DType::kF32 &&
              args.cosines.cols == args.half && args.sines.cols == args.half &&
              args.cosines.rows >= batch.rows && args.sines.rows >= batch.rows,
          "rotary angles: {} x {} and {} x {} for {} rows of {}", args.cosines.rows, args.cosines.cols,
          args.sines.rows, args.sines.cols, batch.rows, args.half);
  require(args.inverse_frequencies.size >= std::int64_t{batch.sequences} * args.half,
          "rotary angles: {} frequencies for {} sequences of {}", args.inverse_frequencies.size,
          batch.sequences, args.half);
  // A cosine and a sine take about as long as 32 ordinary elements.
  compute.for_each(
      batch.rows, std::int64_t{batch.rows} * args.half * 32 > kWorthThreads, [&](std::int64_t row, int) {
        const auto position = static_cast<float>(ints(batch.positions)[row]);
        const float* frequencies =
            floats(args.inverse_frequencies) + std::int64_t{ints(batch.row_sequence)[row]} * args.half;
        float* cosines = float_row(args.cosines, row);
        float* sines = float_row(args.sines, row);
        for (std::int32_t i = 0; i < args.half; ++i) {
          const float angle = position * frequencies[i];
          // In float64: float32 libraries differ by an ulp between versions.
          cosines[i] = static_cast<float>(std::cos(static_cast<double>(angle))) * args.scale;
          sines[i] = static_cast<float>(std::sin(static_cast<double>(angle))) * args.scale;
        }
      });
}

void run(Compute& compute, const RotateAndStoreArgs& args) {
  const auto* cache = dynamic_cast<const CpuKvCache*>(args.cache);
  require(cache != nullptr && args.layer >= 0 && args.layer < cache->spec().layers,
          "rotate and store: no layer {}", args.layer);
  const KvCacheSpec& spec = cache->spec();
  require(args.heads >= 0 &&
              args.qkv.cols == std::int64_t{spec.head_dim} * (args.heads + 2 * spec.kv_heads) &&
              args.qkv.rows >= args.batch.rows && args.qkv.dtype != DType::kF16,
          "rotate and store: {} columns for {} and {} heads of {}", args.qkv.cols, args.heads, spec.kv_heads,
          spec.head_dim);
  require(!args.cosines || (2 * args.cosines.cols <= spec.head_dim && args.sines.cols == args.cosines.cols &&
                            args.cosines.rows >= args.batch.rows && args.sines.rows >= args.batch.rows),
          "rotate and store: {} angles for a head of {}", args.cosines.cols, spec.head_dim);
  require(bool(args.query_norm) == bool(args.key_norm) &&
              (!args.query_norm || (args.head_norm != NormKind::kNone &&
                                    args.query_norm.size >= std::int64_t{args.heads} * spec.head_dim &&
                                    args.key_norm.size >= std::int64_t{spec.kv_heads} * spec.head_dim)),
          "rotate and store: {} and {} norm weights for {} and {} heads of {}", args.query_norm.size,
          args.key_norm.size, args.heads, spec.kv_heads, spec.head_dim);
  check_batch(args.batch, *cache);
  for (std::int64_t row = 0; row < args.batch.rows; ++row) {
    const std::int32_t sequence = ints(args.batch.row_sequence)[row];
    require(sequence >= 0 && sequence < args.batch.sequences &&
                row >= ints(args.batch.sequence_starts)[sequence] &&
                row < ints(args.batch.sequence_starts)[sequence + 1],
            "row {} belongs to sequence {}?", row, sequence);
  }
  const RotateTask task = rotate_task(args, *cache);
  const std::int64_t all = task.heads + 2 * task.kv_heads;
  // A part of a row's heads to an item, so that one long row keeps all threads busy too.
  const std::int64_t part = core::ceil_div<std::int64_t>(kItemElements, spec.head_dim);
  const std::int64_t parts = core::ceil_div(all, part);
  compute.reserve_scratch(compute.kernels().rotate_scratch(spec.head_dim));
  const auto run_item = [&](std::int64_t index, int thread) {
    RotateItem item;
    item.row = index / parts;
    const std::int64_t position = ints(args.batch.positions)[item.row];
    const std::int64_t sequence = ints(args.batch.row_sequence)[item.row];
    item.block = ints(args.batch.block_tables)[sequence * args.batch.table_stride + position / kBlockTokens];
    item.slot = position % kBlockTokens;
    item.begin = index % parts * part;
    item.end = std::min(item.begin + part, all);
    compute.kernels().rotate(task, item, compute.scratch(thread));
  };
  // Positions of a block lie in the same cache lines: threads that took them by turns would take these from
  // each other at every store.
  const std::int64_t items = args.batch.rows * parts;
  const bool threaded = args.batch.rows * args.qkv.cols > kWorthThreads;
  const std::int64_t together = args.batch.rows >= 2 * kBlockTokens ? kBlockTokens * parts : 1;
  compute.for_each_range(items, threaded ? together : items,
                         [&](std::int64_t begin, std::int64_t end, int thread) {
                           for (; begin < end; ++begin) run_item(begin, thread);
                         });
}

}  // namespace peregrine::ops::cpu
