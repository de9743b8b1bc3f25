// SPDX-License-Identifier: Apache-2.0
#include "ops/reference/address_space.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>

#include "core/checked.h"
#include "core/error.h"

namespace peregrine::ops::reference {
namespace {

/// Bytes of each half: more than a naive device can fill, and small enough for sanitizers' shadow memory.
constexpr std::size_t kSpan = std::size_t{64} << 30;
constexpr std::size_t kPage = 4096;

/// Address space that an allocation takes: whole pages, and one that stays inaccessible behind them.
std::size_t span_of(std::size_t bytes) {
  return core::round_up(std::max<std::size_t>(bytes, 1), kPage) + kPage;
}

}  // namespace

AddressSpace::AddressSpace() {
  void* base = ::mmap(nullptr, 2 * kSpan, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) {
    core::fail(core::ErrorKind::kOverloaded,
               "the reference device cannot reserve {} bytes of address space ({}); is `ulimit -v` set?",
               2 * kSpan, std::strerror(errno));
  }
  base_ = static_cast<std::byte*>(base);
}

AddressSpace::~AddressSpace() { ::munmap(base_, 2 * kSpan); }

std::optional<std::size_t> AddressSpace::find_gap(std::size_t begin, std::size_t bytes) const {
  std::size_t at = begin;
  for (auto next = live_.lower_bound(begin); next != live_.end(); ++next) {
    if (next->first - at >= bytes) return at;
    at = next->first + span_of(next->second);
  }
  if (kSpan - at >= bytes) return at;
  return std::nullopt;
}

DeviceAddress AddressSpace::allocate(std::size_t bytes) {
  const std::scoped_lock lock(mutex_);
  std::optional<std::size_t> offset;
  if (bytes < kSpan) {
    // Behind the latest allocation first: addresses come back as late as possible, so that a stale one is
    // noticed.
    offset = find_gap(cursor_, span_of(bytes));
    if (!offset) offset = find_gap(0, span_of(bytes));
  }
  if (!offset || ::mprotect(base_ + kSpan + *offset, span_of(bytes) - kPage, PROT_READ | PROT_WRITE) != 0) {
    core::fail(core::ErrorKind::kOverloaded,
               "the reference device cannot allocate {} bytes: {} of its {} bytes are in use{}", bytes, used_,
               kSpan, offset ? ", and the machine has no memory left" : "");
  }
  live_.emplace(*offset, bytes);
  used_ += bytes;
  cursor_ = *offset + span_of(bytes);
  return base_ + *offset;
}

void AddressSpace::free(DeviceAddress address) noexcept {
  const std::scoped_lock lock(mutex_);
  const auto found = live_.find(static_cast<std::size_t>(address - base_));
  if (found == live_.end()) return;
  // A fresh inaccessible mapping gives the pages back, and zeroes them for the next owner.
  void* mapped = ::mmap(base_ + kSpan + found->first, span_of(found->second), PROT_NONE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  if (mapped == MAP_FAILED) return;  // Stays allocated: the range may be neither zeroed nor reused.
  used_ -= found->second;
  live_.erase(found);
}

std::byte* AddressSpace::host(DeviceAddress address, std::size_t bytes, std::size_t alignment,
                              const char* what) const {
  // Compared as integers: a wrong address may be anything.
  const auto offset = reinterpret_cast<std::uintptr_t>(address) - reinterpret_cast<std::uintptr_t>(base_);
  const std::scoped_lock lock(mutex_);
  auto found = live_.upper_bound(offset);
  const bool known = offset < kSpan && found != live_.begin();
  if (!known || offset - (--found)->first > found->second ||
      bytes > found->second - (offset - found->first)) {
    core::fail(core::ErrorKind::kInternal,
               "{}: {} bytes at device address {} do not lie within an allocation of the reference device",
               what, bytes, static_cast<const void*>(address));
  }
  if (offset % alignment != 0) {
    core::fail(core::ErrorKind::kInternal, "{}: device address {} is not aligned to {} bytes", what,
               static_cast<const void*>(address), alignment);
  }
  return base_ + kSpan + offset;
}

}  // namespace peregrine::ops::reference
