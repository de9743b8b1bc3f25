// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "ops/reference/storage.h"
#include "ops/reference/views.h"

// A layer of the KV cache as operations see it.

namespace peregrine::ops::reference {

/// Where a step's sequences have their keys and values.
class BlockTables {
 public:
  BlockTables(const AddressSpace& memory, const Batch& batch, const KvCacheSpec& spec);

  /// The position in the whole cache (block * kBlockTokens + position in block) of a sequence's `position`.
  std::int64_t row(std::int32_t sequence, std::int32_t position) const;

 private:
  std::int32_t blocks_;
  std::int32_t stride_;
  std::span<const std::int32_t> tables_;
};

/// The keys or the values of one layer. Rows are positions in the whole cache.
class CachedPart {
 public:
  CachedPart(const AddressSpace& memory, const ReferenceKvCache& cache, std::int32_t layer,
             ReferenceKvCache::Part part);

  /// What is stored of a head, and what all of it is to be multiplied by: with floats always 1.
  float element(std::int64_t row, std::int64_t head, std::int64_t dim) const;
  float scale(std::int64_t row, std::int64_t head) const;

  /// Stores a head, rounded as KvCacheSpec says.
  void set(std::int64_t row, std::int64_t head, std::span<const float> values) const;
  /// Copies all heads.
  void copy(std::int64_t to, std::int64_t from) const;

 private:
  std::int64_t at(std::int64_t row, std::int64_t head) const { return (row * heads_ + head) * width_; }

  core::DType dtype_;
  std::int64_t heads_;
  std::int64_t width_;
  std::byte* elements_;
  float* scales_ = nullptr;  ///< [rows][heads], int8 alone.
};

}  // namespace peregrine::ops::reference
