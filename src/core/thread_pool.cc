// SPDX-License-Identifier: Apache-2.0
#include "core/thread_pool.h"

#include <utility>

namespace peregrine::core {
namespace {

constexpr std::uint64_t kClosed = std::uint64_t{1} << 31;
constexpr std::uint64_t kInside = kClosed - 1;

}  // namespace

ThreadPool::ThreadPool(int threads, Seats seats) : seats_(std::move(seats)) {
  for (int index = 1; index < threads; ++index) workers_.emplace_back([this, index] { work(index); });
}

ThreadPool::~ThreadPool() {
  stopping_.store(true, std::memory_order_release);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  for (auto& worker : workers_) worker.join();
}

void ThreadPool::share_erased(Entry entry, void* target) {
  if (workers_.empty()) {
    entry(target, 0);
    return;
  }
  entry_ = entry;
  target_ = target;
  const std::uint32_t generation = generation_.load(std::memory_order_relaxed) + 1;
  door_.store(std::uint64_t{generation} << 32, std::memory_order_release);
  generation_.store(generation, std::memory_order_release);
  generation_.notify_all();
  entry(target, 0);
  std::uint64_t door = door_.fetch_or(kClosed, std::memory_order_acq_rel);
  // Those inside count themselves out one by one, and only the last of them wakes.
  if ((door & kInside) == 0) return;
  spin_wait(door_, [](std::uint64_t now) { return (now & kInside) == 0; });
}

/// Enters the run of this generation; false where it is over.
bool ThreadPool::join(std::uint32_t generation) {
  std::uint64_t door = door_.load(std::memory_order_acquire);
  while (door >> 32 == generation && (door & kClosed) == 0) {
    if (door_.compare_exchange_weak(door, door + 1, std::memory_order_acq_rel, std::memory_order_acquire)) {
      return true;
    }
  }
  return false;
}

void ThreadPool::work(int index) {
  if (static_cast<std::size_t>(index) < seats_.size()) {
    static_cast<void>(sit_on(seats_[static_cast<std::size_t>(index)]));
  }
  std::uint32_t seen = 0;
  for (;;) {
    spin_wait(generation_, [seen](std::uint32_t now) { return now != seen; });
    seen = generation_.load(std::memory_order_acquire);
    if (stopping_.load(std::memory_order_acquire)) return;
    if (!join(seen)) continue;
    entry_(target_, index);
    // The caller may return, and begin the next run, as soon as this is seen.
    const std::uint64_t door = door_.fetch_sub(1, std::memory_order_acq_rel);
    if ((door & kInside) == 1 && (door & kClosed) != 0) door_.notify_all();
  }
}

}  // namespace peregrine::core
