// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

namespace peregrine::ops::cpu {

/// When pages of a Region become real memory.
enum class Commit {
  kHugePages,  ///< At first touch, in 2 MiB pages where the system grants them: for what is read from end to
               ///< end.
  /// At first touch, with no claim on memory before: for what may never be used. From 64 MiB on in 2 MiB
  /// pages as well: attention reads blocks scattered over a cache, and with small pages would walk the page
  /// tables for each.
  kLazily,
};

/// Zeroed memory straight from the system, given back on destruction. Movable, not copyable.
class Region {
 public:
  Region() = default;
  /// Throws Error(kOverloaded) that names `what` and the size where the system gives none.
  Region(std::size_t bytes, Commit commit, const char* what);
  ~Region();
  Region(Region&& other) noexcept;
  Region& operator=(Region&& other) noexcept;
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;

  /// Aligned to 2 MiB where large enough for huge pages, else to a page.
  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  std::byte* mapping_ = nullptr;
  std::size_t mapped_ = 0;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace peregrine::ops::cpu
