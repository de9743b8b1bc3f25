// SPDX-License-Identifier: Apache-2.0
#include "ops/reference/cache_view.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace peregrine::ops::reference {

BlockTables::BlockTables(const AddressSpace& memory, const Batch& batch, const KvCacheSpec& spec)
    : blocks_(spec.blocks),
      stride_(batch.table_stride),
      tables_(view(memory, batch.block_tables, std::int64_t{batch.sequences} * batch.table_stride,
                   "batch.block_tables")) {}

std::int64_t BlockTables::row(std::int32_t sequence, std::int32_t position) const {
  const std::int32_t entry = position / kBlockTokens;
  expect(entry < stride_, "batch.block_tables: position {} is beyond a table of {} blocks", position,
         stride_);
  const std::int32_t block = tables_[static_cast<std::size_t>(sequence) * stride_ + entry];
  expect(block >= 0 && block < blocks_, "batch.block_tables: block {} of a cache of {}", block, blocks_);
  return std::int64_t{block} * kBlockTokens + position % kBlockTokens;
}

CachedPart::CachedPart(const AddressSpace& memory, const ReferenceKvCache& cache, std::int32_t layer,
                       ReferenceKvCache::Part part)
    : dtype_(cache.spec().dtype), heads_(cache.spec().kv_heads), width_(cache.spec().head_dim) {
  const auto rows = static_cast<std::size_t>(cache.spec().blocks) * kBlockTokens;
  const std::size_t vectors = rows * static_cast<std::size_t>(heads_);
  const std::size_t size = core::size_of(dtype_);
  elements_ = memory.host(cache.elements(layer, part), vectors * static_cast<std::size_t>(width_) * size,
                          size, "the KV cache");
  if (dtype_ != core::DType::kI8) return;
  scales_ = reinterpret_cast<float*>(
      memory.host(cache.scales(layer, part), vectors * sizeof(float), sizeof(float), "the KV cache"));
}

float CachedPart::element(std::int64_t row, std::int64_t head, std::int64_t dim) const {
  const std::int64_t index = at(row, head) + dim;
  if (scales_ == nullptr) return load(elements_, dtype_, index);
  return static_cast<float>(static_cast<std::int8_t>(elements_[index]));
}

float CachedPart::scale(std::int64_t row, std::int64_t head) const {
  return scales_ == nullptr ? 1.0f : scales_[row * heads_ + head];
}

void CachedPart::set(std::int64_t row, std::int64_t head, std::span<const float> values) const {
  const std::int64_t first = at(row, head);
  if (scales_ == nullptr) {
    for (std::int64_t i = 0; i < width_; ++i) store(elements_, dtype_, first + i, values[i]);
    return;
  }
  float largest = 0;
  bool finite = true;
  for (const float value : values) {
    largest = std::max(largest, std::abs(value));
    finite = finite && std::isfinite(value);
  }
  float scale = finite ? largest / 127.0f : std::numeric_limits<float>::quiet_NaN();
  if (scale < std::numeric_limits<float>::min()) scale = 0;
  scales_[row * heads_ + head] = scale;
  for (std::int64_t i = 0; i < width_; ++i) {
    // In the default rounding mode, to nearest even.
    const float rounded = scale > 0 ? std::nearbyint(values[i] / scale) : 0.0f;
    elements_[first + i] = static_cast<std::byte>(static_cast<std::int8_t>(rounded));
  }
}

void CachedPart::copy(std::int64_t to, std::int64_t from) const {
  const auto size = static_cast<std::int64_t>(core::size_of(dtype_));
  std::copy_n(elements_ + at(from, 0) * size, heads_ * width_ * size, elements_ + at(to, 0) * size);
  if (scales_ != nullptr) std::copy_n(scales_ + from * heads_, heads_, scales_ + to * heads_);
}

}  // namespace peregrine::ops::reference
