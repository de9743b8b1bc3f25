// SPDX-License-Identifier: Apache-2.0
#include "ops/cpu/memory.h"

#include <sys/mman.h>

#include <cstdint>
#include <limits>
#include <utility>

#include "core/checked.h"
#include "core/error.h"

namespace peregrine::ops::cpu {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr std::size_t kPage = 4096;
/// From this size on, what is committed lazily is so in huge pages too: the last one of each stretch that is
/// used is then small beside the whole.
constexpr std::size_t kLargeLazy = std::size_t{64} << 20;

}  // namespace

Region::Region(std::size_t bytes, Commit commit, const char* what) : size_(bytes) {
  const bool huge = bytes >= (commit == Commit::kHugePages ? kHugePage : kLargeLazy);
  const std::size_t slack = huge ? kHugePage : 0;
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | (commit == Commit::kLazily ? MAP_NORESERVE : 0);
  void* mapping = MAP_FAILED;
  if (bytes <= std::numeric_limits<std::size_t>::max() / 2) {
    mapped_ = core::round_up(bytes == 0 ? std::size_t{1} : bytes, kPage) + slack;
    mapping = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, flags, -1, 0);
  }
  if (mapping == MAP_FAILED) {
    core::fail(core::ErrorKind::kOverloaded, "no memory for {}: {} bytes were asked for", what, bytes);
  }
  mapping_ = static_cast<std::byte*>(mapping);
  const auto address = reinterpret_cast<std::uintptr_t>(mapping_);
  data_ = huge ? mapping_ + (core::round_up<std::uintptr_t>(address, kHugePage) - address) : mapping_;
  // Only advice: a system without huge pages refuses, and all works with small ones.
  if (huge) madvise(data_, core::round_up(bytes, kPage), MADV_HUGEPAGE);
}

Region::~Region() {
  if (mapping_ != nullptr) munmap(mapping_, mapped_);
}

Region::Region(Region&& other) noexcept { *this = std::move(other); }

Region& Region::operator=(Region&& other) noexcept {
  std::swap(mapping_, other.mapping_);
  std::swap(mapped_, other.mapped_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

}  // namespace peregrine::ops::cpu
