// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "core/dtype.h"
#include "core/error.h"
#include "ops/arguments.h"
#include "ops/reference/address_space.h"
#include "ops/tensor.h"

// Arguments as an operation sees them: translated to the host's pointers, with their extents checked.

namespace peregrine::ops::reference {

/// Throws Error(kInternal) with the message unless `condition` holds.
template <typename... Args>
void expect(bool condition, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) core::fail(core::ErrorKind::kInternal, format, std::forward<Args>(args)...);
}

/// Element `index` of an array of float32, float16 or bfloat16 numbers.
float load(const std::byte* data, core::DType dtype, std::int64_t index);
/// Rounds to nearest even.
void store(std::byte* data, core::DType dtype, std::int64_t index, float value);

/// `value` as it would be read back from storage of `dtype`.
float rounded(float value, core::DType dtype);

/// A matrix in reach of the host.
class MatrixView {
 public:
  /// Throws Error(kInternal), naming `what`, unless `matrix` has at least `rows` rows and exactly `cols`
  /// columns of float32, float16 or bfloat16 elements, all in allocated memory.
  MatrixView(const AddressSpace& memory, const Matrix& matrix, std::int64_t rows, std::int64_t cols,
             const char* what);

  float get(std::int64_t row, std::int64_t col) const { return load(data_, dtype_, row * stride_ + col); }
  void set(std::int64_t row, std::int64_t col, float value) const {
    store(data_, dtype_, row * stride_ + col, value);
  }
  std::vector<float> row(std::int64_t index) const;
  core::DType dtype() const { return dtype_; }

 private:
  std::byte* data_ = nullptr;
  core::DType dtype_;
  std::int64_t cols_;
  std::int64_t stride_;
};

/// Throws Error(kInternal) where an element of `out` shares memory with one of `in`.
void expect_no_overlap(const Matrix& in, const Matrix& out, const char* operation);

/// An array of at least `size` elements in reach of the host.
template <typename T>
std::span<T> view(const AddressSpace& memory, const Array<T>& array, std::int64_t size, const char* what) {
  expect(size >= 0 && array.size >= size, "{}: {} elements needed, {} given", what, size, array.size);
  std::byte* data = memory.host(array.data, static_cast<std::size_t>(size) * sizeof(T), alignof(T), what);
  return {reinterpret_cast<T*>(data), static_cast<std::size_t>(size)};
}

/// The rows of a step: positions and sequences, checked to be consistent with each other.
struct BatchView {
  BatchView(const AddressSpace& memory, const Batch& batch);

  std::int32_t rows;
  std::span<const std::int32_t> positions;
  std::span<const std::int32_t> row_sequence;
};

}  // namespace peregrine::ops::reference
