// SPDX-License-Identifier: Apache-2.0
#include "ops/cpu/compute.h"

#include <algorithm>
#include <limits>

#include "core/checked.h"
#include "ops/device.h"

namespace peregrine::ops::cpu {

static_assert(kCacheBlock == kBlockTokens && kSegment == kSegmentTokens);

namespace {

std::size_t count_processors(const std::vector<core::Core>& cores) {
  std::size_t count = 0;
  for (const core::Core& core : cores) count += core.processors.size();
  return count;
}

}  // namespace

Compute::Compute(int threads, const KernelTable& kernels)
    : Compute(threads, kernels, core::find_cores(core::allowed_processors())) {}

Compute::Compute(int threads, const KernelTable& kernels, const std::vector<core::Core>& cores)
    : pool_(threads, core::plan_seats(cores, threads)),
      ranges_(threads),
      has_spare_processor_(static_cast<std::size_t>(threads) < count_processors(cores)),
      kernels_(kernels),
      scratch_(threads) {
  reserve_scratch(kernels.linear_scratch);
}

void Compute::check_range(std::int64_t count, std::int64_t grain) {
  require(grain >= 1 && count <= std::numeric_limits<std::uint32_t>::max(),
          "for_each_range takes 1 to {} items, at least 1 at a time; {} were given, {} at a time",
          std::numeric_limits<std::uint32_t>::max(), count, grain);
}

void Compute::reserve_scratch(std::size_t bytes) {
  for (Region& region : scratch_) {
    if (region.size() < bytes) region = Region(bytes, Commit::kHugePages, "scratch");
  }
}

std::byte* Compute::activations(std::size_t bytes) {
  if (activations_.size() < bytes) {
    // Doubling bounds how often a growing batch allocates.
    activations_ = Region(std::max(bytes, 2 * activations_.size()), Commit::kHugePages, "packed activations");
  }
  return activations_.data();
}

Number number_of(core::DType type) {
  switch (type) {
    case core::DType::kF32:
      return Number::kF32;
    case core::DType::kF16:
      return Number::kF16;
    case core::DType::kBF16:
      return Number::kBF16;
    case core::DType::kI8:
      return Number::kI8;
    default:
      core::fail(core::ErrorKind::kInternal, "the cpu device does not compute in {}", core::to_string(type));
  }
}

}  // namespace peregrine::ops::cpu
