// SPDX-License-Identifier: Apache-2.0
#include "ops/cpu/kv_cache.h"

#include "core/checked.h"
#include "core/error.h"
#include "ops/cpu/operations.h"

namespace peregrine::ops::cpu {
namespace {

const std::int32_t* ints(const Ints& array) { return reinterpret_cast<const std::int32_t*>(array.data); }

/// Above any model; keeps all products below far from overflow.
constexpr std::int32_t kMostLayers = 1 << 16, kMostHeads = 1 << 16, kMostWidth = 1 << 16;

const KvCacheSpec& checked(const KvCacheSpec& spec) {
  if (!is_cache_type(spec.dtype)) {
    core::fail(core::ErrorKind::kInvalidArgument, "a KV cache can be float32, bfloat16 or int8, not {}",
               core::to_string(spec.dtype));
  }
  if (spec.layers < 1 || spec.layers > kMostLayers || spec.kv_heads < 1 || spec.kv_heads > kMostHeads ||
      spec.head_dim < 1 || spec.head_dim > kMostWidth || spec.blocks < 0) {
    core::fail(
        core::ErrorKind::kInvalidArgument,
        "a KV cache of {} layers, {} heads of {} and {} blocks: each must be at least 1 and at most {}",
        spec.layers, spec.kv_heads, spec.head_dim, spec.blocks, kMostLayers);
  }
  return spec;
}

std::size_t total_bytes(const KvCacheSpec& spec, const KvLayout& layout) {
  const auto bytes = core::checked_mul(static_cast<std::uint64_t>(layout.block_bytes),
                                       static_cast<std::uint64_t>(spec.blocks));
  if (!bytes) core::fail(core::ErrorKind::kOverloaded, "a KV cache of {} blocks fits no memory", spec.blocks);
  return *bytes;
}

}  // namespace

KvLayout::KvLayout(const KvCacheSpec& spec) {
  checked(spec);
  const auto size = static_cast<std::int64_t>(core::size_of(spec.dtype));
  const bool scaled = spec.dtype == core::DType::kI8;
  type = scaled ? CacheType::kInt8 : size == 2 ? CacheType::kBF16 : CacheType::kF32;
  key_bytes = core::round_up<std::int64_t>(spec.head_dim, 2) * kCacheBlock * size;
  const std::int64_t value_bytes =
      core::round_up<std::int64_t>(spec.head_dim, kPanelRows) * kCacheBlock * size;
  // Scales are read as whole vectors: aligned to one, they touch a line each.
  scale_bytes = core::round_up<std::int64_t>(key_bytes + value_bytes, 64);
  head_bytes = scale_bytes + (scaled ? 2 * kCacheBlock * std::int64_t{sizeof(float)} : 0);
  layer_bytes = head_bytes * spec.kv_heads;
  block_bytes = layer_bytes * spec.layers;
}

CpuKvCache::CpuKvCache(const KvCacheSpec& spec)
    : KvCache(spec), layout_(spec), memory_(total_bytes(spec, layout_), Commit::kLazily, "a KV cache") {}

CacheView CpuKvCache::view(std::int64_t layer) const {
  CacheView made;
  made.cache = piece(layer, 0);
  made.cache_type = layout_.type;
  made.block_bytes = layout_.block_bytes;
  made.head_bytes = layout_.head_bytes;
  made.key_bytes = layout_.key_bytes;
  made.scale_bytes = layout_.scale_bytes;
  return made;
}

void check_batch(const Batch& batch, const CpuKvCache& cache, const Ints& lengths) {
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

}  // namespace peregrine::ops::cpu
