// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/checked.h"
#include "core/float16.h"
#include "ops/cpu/kv_cache.h"
#include "ops/cpu/operations.h"

namespace peregrine::ops::cpu {
namespace {

using core::DType;

const std::int32_t* ints(const Ints& array) { return reinterpret_cast<const std::int32_t*>(array.data); }

/// Checks a step against a cache, all that the kernels will index with included. `lengths`: how many
/// positions of each sequence are used; none: those up to its last row's.
void check_batch(const Batch& batch, const CpuKvCache& cache, const Ints& lengths = {}) {
  require(batch.rows >= 0 && batch.sequences >= 0 && batch.positions.size >= batch.rows &&
              batch.row_sequence.size >= batch.rows && batch.sequence_starts.size > batch.sequences &&
              batch.block_tables.size >= std::int64_t{batch.sequences} * batch.table_stride,
          "a step of {} rows and {} sequences with smaller tables", batch.rows, batch.sequences);
  const std::int32_t* starts = ints(batch.sequence_starts);
  for (std::int32_t s = 0; s < batch.sequences; ++s) {
    require(starts[s] >= 0 && starts[s] <= starts[s + 1] && starts[s + 1] <= batch.rows,
            "sequence {} has rows {} to {} of {}", s, starts[s], starts[s + 1], batch.rows);
    if (starts[s] == starts[s + 1]) continue;
    const std::int32_t first = ints(batch.positions)[starts[s]],
                       last = ints(batch.positions)[starts[s + 1] - 1];
    require(first >= 0 && last - first == starts[s + 1] - starts[s] - 1,
            "sequence {} has positions {} to {} in {} rows", s, first, last, starts[s + 1] - starts[s]);
    const std::int32_t used = lengths ? ints(lengths)[s] : last + 1;
    require(used >= 1 && (used - 1) / kBlockTokens < batch.table_stride,
            "sequence {} uses {} positions in {} blocks", s, used, batch.table_stride);
    const std::int32_t* table = ints(batch.block_tables) + std::int64_t{s} * batch.table_stride;
    for (std::int32_t i = 0; i <= (used - 1) / kBlockTokens; ++i) {
      require(table[i] >= 0 && table[i] < cache.spec().blocks, "block {} of a cache of {}", table[i],
              cache.spec().blocks);
    }
  }
}

float read(const std::byte* p, bool narrow) {
  if (!narrow) {
    float value;
    std::memcpy(&value, p, sizeof value);
    return value;
  }
  core::BFloat16 value;
  std::memcpy(&value, p, sizeof value);
  return core::to_float(value);
}

void write(std::byte* p, float value, bool narrow) {
  if (!narrow) {
    std::memcpy(p, &value, sizeof value);
    return;
  }
  const core::BFloat16 rounded = core::to_bfloat16(value);
  std::memcpy(p, &rounded, sizeof rounded);
}

/// What happens to one head's vector on its way, in float32.
class HeadVector {
 public:
  HeadVector(const RotateAndStoreArgs& args, std::int64_t row)
      : args_(args), pairs_(args.style == RotaryStyle::kPairs), half_(args.cosines ? args.cosines.cols : 0) {
    if (half_ == 0) return;
    cosines_ = reinterpret_cast<const float*>(args.cosines.data) + row * args.cosines.stride;
    sines_ = reinterpret_cast<const float*>(args.sines.data) + row * args.sines.stride;
  }

  /// Whether queries are changed at all.
  bool changes_queries() const { return half_ > 0 || args_.clip > 0 || args_.query_norm; }

  void clip(float* x, std::int64_t width) const {
    if (args_.clip <= 0) return;
    for (std::int64_t d = 0; d < width; ++d) {
      if (x[d] > args_.clip) x[d] = args_.clip;
      if (x[d] < -args_.clip) x[d] = -args_.clip;
    }
  }

  /// `weights` of all heads; x is that of `head`.
  void normalize(const Floats& weights, std::int64_t head, std::int64_t width, float* x) const {
    if (!weights) return;
    const float* weight = reinterpret_cast<const float*>(weights.data) + head * width;
    const auto count = static_cast<float>(width);
    float mean = 0, squares = 0;
    if (args_.head_norm == NormKind::kLayer) {
      for (std::int64_t d = 0; d < width; ++d) mean += x[d];
      mean /= count;
    }
    for (std::int64_t d = 0; d < width; ++d) {
      x[d] -= mean;
      squares += x[d] * x[d];
    }
    const float factor = 1.0f / std::sqrt(squares / count + args_.head_norm_epsilon);
    for (std::int64_t d = 0; d < width; ++d) x[d] = x[d] * factor * weight[d];
  }

  void rotate(float* x) const {
    for (std::int64_t i = 0; i < half_; ++i) {
      float& first = x[pairs_ ? 2 * i : i];
      float& second = x[pairs_ ? 2 * i + 1 : i + half_];
      const float a = first, b = second;
      first = a * cosines_[i] - b * sines_[i];
      second = b * cosines_[i] + a * sines_[i];
    }
  }

 private:
  const RotateAndStoreArgs& args_;
  bool pairs_;
  std::int64_t half_;
  const float* cosines_ = nullptr;
  const float* sines_ = nullptr;
};

/// One row of the batch: its queries changed in place, its keys and values stored. `x` holds one head.
void rotate_and_store_row(const RotateAndStoreArgs& args, const CpuKvCache& cache, std::int64_t row,
                          float* x) {
  const KvCacheSpec& spec = cache.spec();
  const KvLayout& layout = cache.layout();
  const bool narrow = args.qkv.dtype == DType::kBF16;
  const std::int64_t size = narrow ? 2 : 4, width = spec.head_dim, stored = layout.pairs ? 2 : 4;
  std::byte* qkv = args.qkv.data + row * args.qkv.stride * size;
  const HeadVector vector(args, row);
  const auto load = [&](std::int64_t head) {
    for (std::int64_t d = 0; d < width; ++d) x[d] = read(qkv + (head * width + d) * size, narrow);
  };
  if (vector.changes_queries()) {
    for (std::int64_t head = 0; head < args.heads; ++head) {
      load(head);
      vector.clip(x, width);
      vector.normalize(args.query_norm, head, width, x);
      vector.rotate(x);
      for (std::int64_t d = 0; d < width; ++d) write(qkv + (head * width + d) * size, x[d], narrow);
    }
  }
  const std::int64_t position = ints(args.batch.positions)[row];
  const std::int64_t sequence = ints(args.batch.row_sequence)[row];
  const std::int64_t block =
      ints(args.batch.block_tables)[sequence * args.batch.table_stride + position / kBlockTokens];
  const std::int64_t slot = position % kBlockTokens;
  for (std::int64_t kv = 0; kv < spec.kv_heads; ++kv) {
    std::byte* keys = cache.piece(args.layer, kv) + block * layout.block_bytes;
    std::byte* values = keys + layout.key_bytes;
    load(args.heads + kv);
    vector.clip(x, width);
    vector.normalize(args.key_norm, kv, width, x);
    vector.rotate(x);
    for (std::int64_t d = 0; d < width; ++d)
      write(keys + layout.key_index(slot, d) * stored, x[d], layout.pairs);
    load(args.heads + spec.kv_heads + kv);
    vector.clip(x, width);
    for (std::int64_t d = 0; d < width; ++d)
      write(values + layout.value_index(slot, d) * stored, x[d], layout.pairs);
  }
}

/// Query vectors per work item: enough items for the threads to share evenly, but long enough to reuse a
/// segment's keys and values from the cache. Changes no result.
std::int64_t item_length(const Compute& compute, const AttentionArgs& args) {
  const std::int64_t tile = compute.kernels().tile_tokens;
  const std::int64_t share = std::int64_t{args.batch.rows} * args.heads / (4 * compute.threads());
  return std::clamp<std::int64_t>(share / tile * tile, tile, kAttentionQueries);
}

}  // namespace

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
  number_of(args.qkv.dtype);
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
  compute.reserve_scratch(sizeof(float) * static_cast<std::size_t>(spec.head_dim));
  compute.for_each(
      args.batch.rows, args.batch.rows * args.qkv.cols > (1 << 14), [&](std::int64_t row, int thread) {
        rotate_and_store_row(args, *cache, row, reinterpret_cast<float*>(compute.scratch(thread)));
      });
}

void run(Compute& compute, Plans& plans, const AttentionArgs& args) {
  const auto* cache = dynamic_cast<const CpuKvCache*>(args.cache);
  require(cache != nullptr && args.layer >= 0 && args.layer < cache->spec().layers, "attention: no layer {}",
          args.layer);
  const KvCacheSpec& spec = cache->spec();
  const Batch& batch = args.batch;
  const std::int64_t width = std::int64_t{args.heads} * spec.head_dim;
  require(args.heads > 0 && args.heads % spec.kv_heads == 0 && args.queries.cols == width &&
              args.out.cols == width && args.queries.rows >= batch.rows && args.out.rows >= batch.rows,
          "attention: {} columns to {} for {} heads of {} and {} key-value heads", args.queries.cols,
          args.out.cols, args.heads, spec.head_dim, spec.kv_heads);
  require(args.queries.dtype == args.out.dtype && args.queries.dtype != DType::kF16,
          "attention: queries in {}, output in {}", core::to_string(args.queries.dtype),
          core::to_string(args.out.dtype));
  require(!args.alibi_slopes || args.alibi_slopes.size >= args.heads, "attention: {} slopes for {} heads",
          args.alibi_slopes.size, args.heads);
  require(!args.alibi_slopes || !args.distance_bias,
          "attention: alibi_slopes and distance_bias exclude each other");
  require(!args.distance_bias ||
              (args.distance_limit >= 0 &&
               args.distance_bias.size >= args.heads * (2 * std::int64_t{args.distance_limit} + 1)),
          "attention: {} distance biases for {} heads and distances up to {}", args.distance_bias.size,
          args.heads, args.distance_limit);
  require(!args.lengths || args.window <= 0, "attention: lengths exclude a window, here of {}", args.window);
  require(!args.lengths || args.lengths.size >= batch.sequences, "attention: {} lengths for {} sequences",
          args.lengths.size, batch.sequences);
  check_batch(batch, *cache, args.lengths);

  const KvLayout& layout = cache->layout();
  AttentionTask task;
  task.queries = args.queries.data;
  task.out = args.out.data;
  task.query_type = number_of(args.queries.dtype);
  task.query_stride = args.queries.stride;
  task.out_stride = args.out.stride;
  task.head_dim = spec.head_dim;
  task.group = args.heads / spec.kv_heads;
  task.cache = cache->piece(args.layer, 0);
  task.cache_type = number_of(spec.dtype);
  task.block_bytes = layout.block_bytes;
  task.head_bytes = layout.head_bytes;
  task.key_bytes = layout.key_bytes;
  task.positions = ints(batch.positions);
  task.window = args.window;
  task.scale = args.scale;
  task.soft_cap = args.soft_cap;
  task.slopes = reinterpret_cast<const float*>(args.alibi_slopes.data);
  task.slope_scale = args.alibi_scale;
  task.slopes_in_bfloat16 = args.alibi_in_bfloat16;
  task.distance_bias = reinterpret_cast<const float*>(args.distance_bias.data);
  task.distance_limit = args.distance_limit;

  const std::int64_t length = item_length(compute, args);
  const std::int32_t* starts = ints(batch.sequence_starts);
  plans.first_item.resize(static_cast<std::size_t>(batch.sequences) + 1);
  std::int64_t items = 0;
  for (std::int32_t s = 0; s < batch.sequences; ++s) {
    plans.first_item[static_cast<std::size_t>(s)] = items;
    items += core::ceil_div((starts[s + 1] - starts[s]) * task.group, length) * spec.kv_heads;
  }
  plans.first_item[static_cast<std::size_t>(batch.sequences)] = items;

  compute.reserve_scratch(compute.kernels().attention_scratch(spec.head_dim));
  compute.for_each(items, true, [&](std::int64_t index, int thread) {
    // From the last on: a sequence's later rows see more and take longer, and should not be left for the end.
    index = items - 1 - index;
    const auto after = std::upper_bound(plans.first_item.begin(), plans.first_item.end(), index);
    const std::int64_t s = after - plans.first_item.begin() - 1;
    const std::int64_t vectors = (starts[s + 1] - starts[s]) * task.group;
    const std::int64_t local = index - plans.first_item[static_cast<std::size_t>(s)];
    AttentionItem item;
    item.first_row = starts[s];
    item.kv_head = local % spec.kv_heads;
    item.begin = local / spec.kv_heads * length;
    item.count = static_cast<int>(std::min(length, vectors - item.begin));
    item.block_table = ints(batch.block_tables) + s * batch.table_stride;
    if (args.lengths) item.length = ints(args.lengths)[s];
    compute.kernels().attention(task, item, compute.scratch(thread));
  });
}

}  // namespace peregrine::ops::cpu
