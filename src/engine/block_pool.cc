// SPDX-License-Identifier: Apache-2.0
#include "engine/block_pool.h"

#include <utility>

#include "core/error.h"

namespace peregrine::engine {

using core::ErrorKind;

BlockPool::BlockPool(std::int32_t blocks) : references_(static_cast<std::size_t>(blocks), 0) {
  free_.reserve(references_.size());
  for (std::int32_t block = blocks - 1; block >= 0; --block) free_.push_back(block);
}

std::int32_t BlockPool::acquire() {
  if (free_.empty()) core::fail(ErrorKind::kInternal, "none of the {} KV blocks is free", size());
  const std::int32_t block = free_.back();
  free_.pop_back();
  references_[static_cast<std::size_t>(block)] = 1;
  return block;
}

void BlockPool::retain(std::int32_t block) {
  std::int32_t& count = references_.at(static_cast<std::size_t>(block));
  if (count == 0) core::fail(ErrorKind::kInternal, "KV block {} is shared, but nobody holds it", block);
  ++count;
}

void BlockPool::release(std::int32_t block) {
  std::int32_t& count = references_[static_cast<std::size_t>(block)];
  // Only a BlockList that was counted in retain() or acquire() gets here; free_ has room for all blocks.
  if (--count == 0) free_.push_back(block);
}

void BlockPool::check() const {
  std::vector<bool> is_free(references_.size(), false);
  for (const std::int32_t block : free_) {
    const auto index = static_cast<std::size_t>(block);
    if (index >= references_.size()) core::fail(ErrorKind::kInternal, "free KV block {} is none", block);
    if (is_free[index]) core::fail(ErrorKind::kInternal, "KV block {} is free twice", block);
    is_free[index] = true;
  }
  for (std::size_t index = 0; index < references_.size(); ++index) {
    const bool held = references_[index] > 0;
    if (references_[index] < 0 || held == is_free[index]) {
      core::fail(ErrorKind::kInternal, "KV block {} is {} and has {} references", index,
                 is_free[index] ? "free" : "not free", references_[index]);
    }
  }
}

BlockList::BlockList(BlockList&& other) noexcept : pool_(other.pool_), ids_(std::move(other.ids_)) {
  other.ids_.clear();
}

BlockList& BlockList::operator=(BlockList&& other) noexcept {
  if (this != &other) {
    clear();
    pool_ = other.pool_;
    ids_ = std::move(other.ids_);
    other.ids_.clear();
  }
  return *this;
}

void BlockList::append_new() {
  ids_.push_back(-1);  // First, so that a block cannot be lost where there is no memory.
  try {
    ids_.back() = pool_->acquire();
  } catch (...) {
    ids_.pop_back();
    throw;
  }
}

void BlockList::append_shared(std::int32_t block) {
  pool_->retain(block);
  try {
    ids_.push_back(block);
  } catch (...) {
    pool_->release(block);
    throw;
  }
}

std::int32_t BlockList::replace(std::int32_t index, BlockList* old) {
  std::int32_t& entry = ids_.at(static_cast<std::size_t>(index));
  const std::int32_t before = entry;
  if (old != nullptr) {
    old->append_shared(before);
  } else if (pool_->references(before) < 2) {
    core::fail(ErrorKind::kInternal, "KV block {} is not shared", before);
  }
  entry = pool_->acquire();
  pool_->release(before);
  return before;
}

void BlockList::share(const BlockList& other) {
  // Theirs first: a block that both refer to is never free in between.
  for (const std::int32_t block : other.ids_) pool_->retain(block);
  clear();
  ids_.assign(other.ids_.begin(), other.ids_.end());
}

void BlockList::take(BlockList& other) {
  ids_.insert(ids_.end(), other.ids_.begin(), other.ids_.end());
  other.ids_.clear();
}

void BlockList::clear() {
  // Last first, so that the next sequence takes them in the same order.
  while (!ids_.empty()) {
    pool_->release(ids_.back());
    ids_.pop_back();
  }
}

}  // namespace peregrine::engine
