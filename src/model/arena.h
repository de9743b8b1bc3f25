// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "core/checked.h"
#include "ops/device.h"

namespace peregrine::model {

/// Takes matrices one after the other from a piece of device memory.
class Arena {
 public:
  /// Of rows, in bytes.
  static constexpr std::size_t kAlignment = 64;

  /// `base` may be null while the size is found out.
  explicit Arena(ops::DeviceAddress base) : base_(base) {}

  /// Rows begin at multiples of 64 bytes.
  ops::Matrix take(core::DType dtype, std::int64_t rows, std::int64_t cols) {
    const auto per_line = static_cast<std::int64_t>(kAlignment / core::size_of(dtype));
    const std::int64_t stride = core::round_up(cols, per_line);
    // Through an integer: the base may be null.
    const auto address = reinterpret_cast<std::uintptr_t>(base_) + offset_;
    const ops::Matrix out{reinterpret_cast<ops::DeviceAddress>(address), dtype, rows, cols, stride};
    offset_ += static_cast<std::size_t>(rows) * static_cast<std::size_t>(stride) * core::size_of(dtype);
    end_ = std::max(end_, offset_);
    return out;
  }

  std::size_t offset() const { return offset_; }
  /// What is taken next overlays what was taken since `offset`.
  void rewind(std::size_t offset) { offset_ = offset; }
  /// The most that was taken at a time.
  std::size_t size() const { return end_; }

 private:
  ops::DeviceAddress base_;
  std::size_t offset_ = 0;
  std::size_t end_ = 0;
};

}  // namespace peregrine::model
