// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <map>
#include <mutex>
#include <optional>

#include "ops/tensor.h"

namespace peregrine::ops::reference {

/// The reference device's memory. One reservation of address space holds two halves of equal size: device
/// addresses point into the lower half, which is never accessible, and the bytes lie at the same place of the
/// upper half, accessible where allocated. So a host that follows a device address dies at once, and an
/// operation can only reach memory through host(), which knows every live allocation. Thread-safe.
class AddressSpace {
 public:
  AddressSpace();
  ~AddressSpace();
  AddressSpace(const AddressSpace&) = delete;
  AddressSpace& operator=(const AddressSpace&) = delete;

  /// Zeroed memory, aligned to a page. Throws Error(kOverloaded) with the sizes where there is none.
  DeviceAddress allocate(std::size_t bytes);
  /// Gives back what allocate() returned.
  void free(DeviceAddress address) noexcept;

  /// The host's pointer to `bytes` bytes at `address`. Throws Error(kInternal), naming `what`, where they do
  /// not lie within one live allocation, or `address` is not a multiple of `alignment`.
  std::byte* host(DeviceAddress address, std::size_t bytes, std::size_t alignment, const char* what) const;

 private:
  std::optional<std::size_t> find_gap(std::size_t begin, std::size_t bytes) const;

  std::byte* base_ = nullptr;
  mutable std::mutex mutex_;
  std::map<std::size_t, std::size_t> live_;  // offset to size
  std::size_t cursor_ = 0;                   // end of the latest allocation
  std::size_t used_ = 0;
};

}  // namespace peregrine::ops::reference
