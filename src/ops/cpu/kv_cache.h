// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ops/cpu/kernels/kernel_table.h"
#include "ops/cpu/memory.h"
#include "ops/device.h"

namespace peregrine::ops::cpu {

/// Where things lie in a paged cache: block after block, in a block layer after layer, in a layer one piece
/// per key-value head. A piece is a key panel (16 rows = tokens, K = the head's width: the layout of a packed
/// weight, so that scores come 16 at a time) and a value panel for each 16 dimensions (rows = dimensions, K =
/// 16 tokens). In bfloat16 both go in pairs along K. Widths are padded to 2 (keys) and 16 (values).
struct KvLayout {
  explicit KvLayout(const KvCacheSpec& spec);

  /// Element index within a piece's key panel, and within its value panels.
  std::int64_t key_index(std::int64_t token, std::int64_t dim) const;
  std::int64_t value_index(std::int64_t token, std::int64_t dim) const;

  bool pairs;               ///< bfloat16.
  std::int64_t key_bytes;   ///< The values begin here in a piece.
  std::int64_t head_bytes;  ///< One piece; a multiple of 64.
  std::int64_t layer_bytes;
  std::int64_t block_bytes;
};

inline std::int64_t KvLayout::key_index(std::int64_t token, std::int64_t dim) const {
  return pairs ? (dim / 2 * kCacheBlock + token) * 2 + dim % 2 : dim * kCacheBlock + token;
}

inline std::int64_t KvLayout::value_index(std::int64_t token, std::int64_t dim) const {
  const std::int64_t panel = dim / kPanelRows * kPanelRows * kCacheBlock, lane = dim % kPanelRows;
  return panel + (pairs ? (token / 2 * kPanelRows + lane) * 2 + token % 2 : token * kPanelRows + lane);
}

class CpuKvCache final : public KvCache {
 public:
  /// Throws Error(kInvalidArgument) for a specification that is no cache, kOverloaded where it fits no
  /// memory.
  explicit CpuKvCache(const KvCacheSpec& spec);

  const KvLayout& layout() const { return layout_; }
  /// The piece of block 0.
  std::byte* piece(std::int64_t layer, std::int64_t kv_head) const {
    return memory_.data() + layer * layout_.layer_bytes + kv_head * layout_.head_bytes;
  }
  std::byte* block(std::int64_t index) const { return memory_.data() + index * layout_.block_bytes; }

 private:
  KvLayout layout_;
  Region memory_;
};

}  // namespace peregrine::ops::cpu
