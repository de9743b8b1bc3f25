// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ops/arguments.h"
#include "ops/cpu/kernels/kernel_table.h"
#include "ops/cpu/memory.h"
#include "ops/device.h"

namespace peregrine::ops::cpu {

/// Where things lie in a paged cache: block after block, in a block layer after layer, in a layer one piece
/// per key-value head. A piece is a key panel (16 rows = tokens, K = the head's width: the layout of a packed
/// weight, so that scores come 16 at a time) and a value panel for each 16 dimensions (rows = dimensions, K =
/// 16 tokens). In bfloat16 both go in pairs along K. Widths are padded to 2 (keys) and 16 (values). In 8 bits
/// a piece ends with 16 float32 scales of keys, one for each token, and 16 of values.
///
///     element         key (token, dim)                         value (token, dim), panel p = dim / 16
///     float32, int8   dim * 16 + token                         p * 256 + token * 16 + dim % 16
///     bfloat16        (dim / 2 * 16 + token) * 2 + dim % 2     p * 256 + (token / 2 * 16 + dim % 16) * 2 +
///                                                                  token % 2
struct KvLayout {
  explicit KvLayout(const KvCacheSpec& spec);

  CacheType type;
  std::int64_t key_bytes;    ///< The values begin here in a piece.
  std::int64_t scale_bytes;  ///< And the scales here, where there are any.
  std::int64_t head_bytes;   ///< One piece; a multiple of 64.
  std::int64_t layer_bytes;
  std::int64_t block_bytes;
};

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
  /// What kernels are told of a layer.
  CacheView view(std::int64_t layer) const;
  std::byte* block(std::int64_t index) const { return memory_.data() + index * layout_.block_bytes; }

 private:
  KvLayout layout_;
  Region memory_;
};

/// Checks a step against a cache, all that the kernels will index with included. `lengths`: how many
/// positions of each sequence are used; none: those up to its last row's.
void check_batch(const Batch& batch, const CpuKvCache& cache, const Ints& lengths = {});

}  // namespace peregrine::ops::cpu
