// SPDX-License-Identifier: Apache-2.0
#include "ops/cpu/compute.h"

#include <algorithm>

#include "core/checked.h"
#include "ops/device.h"

namespace peregrine::ops::cpu {

static_assert(kCacheBlock == kBlockTokens && kSegment == kSegmentTokens);

Compute::Compute(int threads, const KernelTable& kernels)
    : pool_(threads), kernels_(kernels), scratch_(threads) {
  reserve_scratch(kernels.linear_scratch);
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
