// SPDX-License-Identifier: Apache-2.0
#include "ops/cpu/kv_cache.h"

#include "core/checked.h"
#include "core/error.h"

namespace peregrine::ops::cpu {
namespace {

/// Above any model; keeps all products below far from overflow.
constexpr std::int32_t kMostLayers = 1 << 16, kMostHeads = 1 << 16, kMostWidth = 1 << 16;

const KvCacheSpec& checked(const KvCacheSpec& spec) {
  if (spec.dtype != core::DType::kF32 && spec.dtype != core::DType::kBF16) {
    core::fail(core::ErrorKind::kInvalidArgument, "a KV cache can be float32 or bfloat16, not {}",
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
  pairs = spec.dtype == core::DType::kBF16;
  key_bytes = core::round_up<std::int64_t>(spec.head_dim, 2) * kCacheBlock * size;
  const std::int64_t value_bytes =
      core::round_up<std::int64_t>(spec.head_dim, kPanelRows) * kCacheBlock * size;
  head_bytes = core::round_up<std::int64_t>(key_bytes + value_bytes, 64);
  layer_bytes = head_bytes * spec.kv_heads;
  block_bytes = layer_bytes * spec.layers;
}

CpuKvCache::CpuKvCache(const KvCacheSpec& spec)
    : KvCache(spec), layout_(spec), memory_(total_bytes(spec, layout_), Commit::kLazily, "a KV cache") {}

}  // namespace peregrine::ops::cpu
