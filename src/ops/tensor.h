// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"

namespace peregrine::ops {

/// An address in a device's memory. The host must never read or write through it: on a device with its own
/// address space that is a crash. Arithmetic on it is fine.
using DeviceAddress = std::byte*;

/// A row-major matrix in device memory; does not own it. `stride` is the distance between rows in elements,
/// >= cols.
struct Matrix {
  DeviceAddress data = nullptr;
  core::DType dtype = core::DType::kF32;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t stride = 0;

  explicit operator bool() const { return data != nullptr; }

  /// Columns [begin, begin + count) of the same rows.
  Matrix columns(std::int64_t begin, std::int64_t count) const {
    return {data + static_cast<std::size_t>(begin) * core::size_of(dtype), dtype, rows, count, stride};
  }
  /// The first `count` rows.
  Matrix first_rows(std::int64_t count) const { return {data, dtype, count, cols, stride}; }
};

/// A dense array of T in device memory; does not own it. T is float or std::int32_t.
template <typename T>
struct Array {
  DeviceAddress data = nullptr;
  std::int64_t size = 0;

  explicit operator bool() const { return data != nullptr; }
};

using Floats = Array<float>;
using Ints = Array<std::int32_t>;

/// A strided matrix in host memory, as stored in a checkpoint: element (r, c) is at data + (r * row_stride +
/// c * col_stride) * size_of(dtype), not necessarily aligned. Does not own it.
struct HostMatrix {
  const std::byte* data = nullptr;
  core::DType dtype = core::DType::kF32;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t row_stride = 0;
  std::int64_t col_stride = 1;
};

}  // namespace peregrine::ops
