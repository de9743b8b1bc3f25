// SPDX-License-Identifier: Apache-2.0
#include "core/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <fstream>
#include <string>

#include "core/spin_wait.h"

namespace peregrine::core {
namespace {

/// CPUs allowed by cgroup v2's cpu.max ("quota period", quota "max" where unlimited), or a large number.
int cgroup_cpus() {
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  std::string quota;
  double period = 0;
  if (!(file >> quota >> period) || quota == "max" || period <= 0) return 1 << 20;
  try {
    return std::max(1, static_cast<int>(std::stod(quota) / period + 0.5));
  } catch (const std::exception&) {
    return 1 << 20;
  }
}

}  // namespace

int available_cpus() {
  cpu_set_t set;
  int affine = static_cast<int>(std::thread::hardware_concurrency());
  if (sched_getaffinity(0, sizeof set, &set) == 0) affine = CPU_COUNT(&set);
  return std::max(1, std::min(affine, cgroup_cpus()));
}

ThreadPool::ThreadPool(int threads) {
  for (int index = 1; index < threads; ++index) workers_.emplace_back([this, index] { work(index); });
}

ThreadPool::~ThreadPool() {
  stopping_.store(true, std::memory_order_release);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  for (auto& worker : workers_) worker.join();
}

void ThreadPool::run_erased(Entry entry, void* target) {
  if (workers_.empty()) {
    entry(target, 0);
    return;
  }
  entry_ = entry;
  target_ = target;
  running_.store(static_cast<std::uint32_t>(workers_.size()), std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  entry(target, 0);
  for (std::uint32_t left = running_.load(std::memory_order_acquire); left != 0;
       left = running_.load(std::memory_order_acquire)) {
    spin_wait(running_, [left](std::uint32_t now) { return now != left; });
  }
}

void ThreadPool::work(int index) {
  std::uint32_t seen = 0;
  for (;;) {
    spin_wait(generation_, [seen](std::uint32_t now) { return now != seen; });
    ++seen;
    if (stopping_.load(std::memory_order_acquire)) return;
    entry_(target_, index);
    if (running_.fetch_sub(1, std::memory_order_acq_rel) == 1) running_.notify_all();
  }
}

}  // namespace peregrine::core
