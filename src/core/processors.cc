// SPDX-License-Identifier: Apache-2.0
#include "core/processors.h"

#include <hwloc.h>
#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstddef>
#include <memory>
#include <numeric>
#include <thread>

#include "core/cgroup.h"

namespace peregrine::core {
namespace {

/// Beyond what any Linux is built for.
constexpr int kMostProcessors = 1 << 16;

/// A set of processors as the system has it, of any size (cpu_set_t ends at 1024).
class Mask {
 public:
  explicit Mask(int processors)
      : processors_(processors), bytes_(CPU_ALLOC_SIZE(processors)), set_(CPU_ALLOC(processors)) {
    if (set_) CPU_ZERO_S(bytes_, set_.get());
  }
  explicit operator bool() const { return set_ != nullptr; }
  cpu_set_t* get() const { return set_.get(); }
  std::size_t bytes() const { return bytes_; }
  void add(int processor) { CPU_SET_S(processor, bytes_, set_.get()); }
  std::vector<int> members() const {
    std::vector<int> out;
    for (int i = 0; i < processors_; ++i) {
      if (CPU_ISSET_S(i, bytes_, set_.get())) out.push_back(i);
    }
    return out;
  }

 private:
  struct Free {
    void operator()(cpu_set_t* set) const { CPU_FREE(set); }
  };
  int processors_;
  std::size_t bytes_;
  std::unique_ptr<cpu_set_t, Free> set_;
};

struct DestroyTopology {
  void operator()(hwloc_topology* topology) const { hwloc_topology_destroy(topology); }
};
using Topology = std::unique_ptr<hwloc_topology, DestroyTopology>;

/// Cores, hardware threads and nodes of memory; null where hwloc fails.
Topology load_topology(const std::string& synthetic) {
  hwloc_topology_t raw = nullptr;
  if (hwloc_topology_init(&raw) != 0) return nullptr;
  Topology topology(raw);
  if (!synthetic.empty() && hwloc_topology_set_synthetic(raw, synthetic.c_str()) != 0) return nullptr;
  if (hwloc_topology_load(raw) != 0) return nullptr;
  return topology;
}

/// The first node of memory that is local to an object; the nodes are counted as hwloc orders them.
int node_of(hwloc_topology_t topology, hwloc_obj_t object) {
  const int nodes = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_NUMANODE);
  for (int i = 0; i < nodes; ++i) {
    const hwloc_obj_t node = hwloc_get_obj_by_type(topology, HWLOC_OBJ_NUMANODE, static_cast<unsigned>(i));
    if (hwloc_bitmap_intersects(node->cpuset, object->cpuset)) return i;
  }
  return 0;
}

std::vector<Core> each_a_core(std::span<const int> allowed) {
  std::vector<Core> cores;
  for (const int processor : allowed) cores.push_back({.node = 0, .processors = {processor}});
  return cores;
}

}  // namespace

std::vector<int> allowed_processors() {
  for (int size = 1024; size <= kMostProcessors; size *= 2) {
    const Mask mask(size);
    if (mask && sched_getaffinity(0, mask.bytes(), mask.get()) == 0) {
      if (std::vector<int> members = mask.members(); !members.empty()) return members;
    }
    if (errno != EINVAL) break;  // EINVAL: the system's masks are larger
  }
  std::vector<int> all(std::max(1u, std::thread::hardware_concurrency()));
  std::iota(all.begin(), all.end(), 0);
  return all;
}

std::vector<Core> find_cores(std::span<const int> allowed, const std::string& synthetic) {
  const Topology topology = load_topology(synthetic);
  if (!topology) return each_a_core(allowed);
  std::vector<Core> cores;
  std::size_t found = 0;
  const int count = hwloc_get_nbobjs_by_type(topology.get(), HWLOC_OBJ_CORE);
  for (int i = 0; i < count; ++i) {
    const hwloc_obj_t object =
        hwloc_get_obj_by_type(topology.get(), HWLOC_OBJ_CORE, static_cast<unsigned>(i));
    Core core{.node = node_of(topology.get(), object), .processors = {}};
    for (const int processor : allowed) {
      if (hwloc_bitmap_isset(object->cpuset, static_cast<unsigned>(processor)) != 0) {
        core.processors.push_back(processor);
      }
    }
    found += core.processors.size();
    if (!core.processors.empty()) cores.push_back(std::move(core));
  }
  // A machine without cores, or one that hides some of those that may be used: believe the mask.
  if (found != allowed.size()) return each_a_core(allowed);
  std::stable_sort(cores.begin(), cores.end(), [](const Core& a, const Core& b) { return a.node < b.node; });
  return cores;
}

int worthwhile_threads(std::span<const Core> cores, double quota) {
  const double most = std::min(static_cast<double>(cores.size()), std::floor(quota));
  return std::max(1, static_cast<int>(most));
}

int default_threads() { return worthwhile_threads(find_cores(allowed_processors()), cpu_quota()); }

Seats plan_seats(std::span<const Core> cores, int threads) {
  std::size_t processors = 0;
  for (const Core& core : cores) processors += core.processors.size();
  const auto wanted = static_cast<std::size_t>(std::max(threads, 0));
  Seats seats;
  if (wanted == cores.size()) {
    for (const Core& core : cores) seats.push_back(core.processors);
  } else if (wanted == processors) {
    for (const Core& core : cores) seats.insert(seats.end(), core.processors.size(), core.processors);
  }
  return seats;
}

bool sit_on(std::span<const int> processors) {
  if (processors.empty()) return false;
  const int largest = *std::max_element(processors.begin(), processors.end());
  if (largest < 0 || largest >= kMostProcessors) return false;
  Mask mask(largest + 1);
  if (!mask) return false;
  for (const int processor : processors) mask.add(processor);
  return sched_setaffinity(0, mask.bytes(), mask.get()) == 0;
}

Seated::Seated(std::span<const int> seat) {
  if (seat.empty()) return;
  std::vector<int> before = allowed_processors();
  if (sit_on(seat)) before_ = std::move(before);
}

Seated::~Seated() {
  if (!before_.empty()) static_cast<void>(sit_on(before_));
}

}  // namespace peregrine::core
