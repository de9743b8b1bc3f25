// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>
#include <vector>

namespace peregrine::core {

/// What this process may use of one physical core.
struct Core {
  int node = 0;                 ///< Of memory (NUMA), counted from 0.
  std::vector<int> processors;  ///< The system's numbers of its hardware threads, ascending; not empty.
};

/// Where each thread of a pool may run: by thread, numbers of processors. Empty: nothing is laid down.
using Seats = std::vector<std::vector<int>>;

/// The processors in this thread's affinity mask, ascending; those that are online where the system does not
/// say.
std::vector<int> allowed_processors();

/// The physical cores that `allowed` processors belong to, node by node. Where hwloc does not know the
/// machine, each processor is a core of node 0. `synthetic` describes another machine (hwloc's synthetic
/// topologies: "node:2 core:4 pu:2"), for tests.
std::vector<Core> find_cores(std::span<const int> allowed, const std::string& synthetic = {});

/// Threads worth starting for arithmetic where nobody says how many: one for each of `cores`, since two on
/// one share its multipliers and its way to memory; not more than the `quota` of processor time
/// (cpu_quota()), rounded down: threads that use it up before its period ends would all stand still until the
/// next. At least 1.
int worthwhile_threads(std::span<const Core> cores, double quota);

/// worthwhile_threads() of this process.
int default_threads();

/// Where `threads` threads sit on `cores`. A thread gets a core of its own (all its hardware threads, between
/// which the system may choose) where they are as many as the cores, and where there is one for each hardware
/// thread, those of a core share it. Otherwise nothing: other pools (of other models on this machine) have
/// the same cores to choose from and would choose the same ones, while the system sees who is idle.
Seats plan_seats(std::span<const Core> cores, int threads);

/// Lets the calling thread run on these processors only; false where the system refuses.
bool sit_on(std::span<const int> processors);

/// Puts the calling thread on a seat, and back to where it might run before on destruction. An empty seat
/// changes nothing.
class Seated {
 public:
  explicit Seated(std::span<const int> seat);
  ~Seated();
  Seated(const Seated&) = delete;
  Seated& operator=(const Seated&) = delete;

 private:
  std::vector<int> before_;
};

}  // namespace peregrine::core
