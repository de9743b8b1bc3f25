// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace peregrine::engine {

/// The blocks of a paged KV cache, by number, with reference counts. A block is free while nobody refers to
/// it. Blocks are handed out and given back through BlockList only. Not thread-safe.
class BlockPool {
 public:
  explicit BlockPool(std::int32_t blocks);
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;

  std::int32_t size() const { return static_cast<std::int32_t>(references_.size()); }
  std::int32_t free() const { return static_cast<std::int32_t>(free_.size()); }
  std::int32_t used() const { return size() - free(); }
  std::int32_t references(std::int32_t block) const { return references_[static_cast<std::size_t>(block)]; }

  /// Throws Error(kInternal) where a block is both free and referred to, is free twice, or is neither.
  void check() const;

 private:
  friend class BlockList;
  std::int32_t acquire();
  void retain(std::int32_t block);
  void release(std::int32_t block);

  /// A stack: the block given back last is used first, so that a cache which commits memory on first write
  /// stays as small as its use.
  std::vector<std::int32_t> free_;
  std::vector<std::int32_t> references_;
};

/// References to blocks of a pool, in order; given back on destruction. Movable. The pool must outlive it.
class BlockList {
 public:
  explicit BlockList(BlockPool& pool) : pool_(&pool) {}
  ~BlockList() { clear(); }
  BlockList(BlockList&& other) noexcept;
  BlockList& operator=(BlockList&& other) noexcept;
  BlockList(const BlockList&) = delete;
  BlockList& operator=(const BlockList&) = delete;

  std::span<const std::int32_t> ids() const { return ids_; }
  std::int32_t size() const { return static_cast<std::int32_t>(ids_.size()); }
  bool empty() const { return ids_.empty(); }
  void reserve(std::int32_t blocks) { ids_.reserve(static_cast<std::size_t>(blocks)); }

  /// Takes a free block to the end. Throws Error(kInternal) where there is none: the caller counts first.
  void append_new();
  /// Refers to a block that somebody else holds, too.
  void append_shared(std::int32_t block);
  /// Puts a free block in the place of entry `index`, whose reference goes to the end of `old`, or is given
  /// back where that is null and somebody else refers to the block as well. Returns the block that was there.
  std::int32_t replace(std::int32_t index, BlockList* old);
  /// Refers to the blocks of `other` instead of its own.
  void share(const BlockList& other);
  /// Moves all references of `other` to the end of this.
  void take(BlockList& other);
  /// Gives all references back; keeps the memory of the list.
  void clear();

 private:
  BlockPool* pool_;
  std::vector<std::int32_t> ids_;
};

}  // namespace peregrine::engine
