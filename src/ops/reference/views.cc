// SPDX-License-Identifier: Apache-2.0
#include "ops/reference/views.h"

#include <algorithm>
#include <cstring>

#include "core/float16.h"

namespace peregrine::ops::reference {

float load(const std::byte* data, core::DType dtype, std::int64_t index) {
  const std::byte* element = data + index * static_cast<std::int64_t>(core::size_of(dtype));
  switch (dtype) {
    case core::DType::kF32: {
      float value = 0;
      std::memcpy(&value, element, sizeof value);
      return value;
    }
    case core::DType::kF16: {
      core::Float16 value;
      std::memcpy(&value, element, sizeof value);
      return core::to_float(value);
    }
    case core::DType::kBF16: {
      core::BFloat16 value;
      std::memcpy(&value, element, sizeof value);
      return core::to_float(value);
    }
    default:
      core::fail(core::ErrorKind::kInternal, "elements of type {} are not numbers to compute with",
                 core::to_string(dtype));
  }
}

void store(std::byte* data, core::DType dtype, std::int64_t index, float value) {
  std::byte* element = data + index * static_cast<std::int64_t>(core::size_of(dtype));
  switch (dtype) {
    case core::DType::kF32:
      std::memcpy(element, &value, sizeof value);
      return;
    case core::DType::kF16: {
      const core::Float16 half = core::to_float16(value);
      std::memcpy(element, &half, sizeof half);
      return;
    }
    case core::DType::kBF16: {
      const core::BFloat16 half = core::to_bfloat16(value);
      std::memcpy(element, &half, sizeof half);
      return;
    }
    default:
      core::fail(core::ErrorKind::kInternal, "elements of type {} are not numbers to compute with",
                 core::to_string(dtype));
  }
}

float rounded(float value, core::DType dtype) {
  std::byte storage[sizeof(float)];
  store(storage, dtype, 0, value);
  return load(storage, dtype, 0);
}

MatrixView::MatrixView(const AddressSpace& memory, const Matrix& matrix, std::int64_t rows, std::int64_t cols,
                       const char* what)
    : dtype_(matrix.dtype), cols_(cols), stride_(matrix.stride) {
  expect(core::is_weight_float(matrix.dtype), "{}: elements of type {}", what, core::to_string(matrix.dtype));
  expect(rows >= 0 && matrix.rows >= rows, "{}: {} rows needed, {} given", what, rows, matrix.rows);
  expect(cols >= 0 && matrix.cols == cols, "{}: {} columns needed, {} given", what, cols, matrix.cols);
  expect(matrix.stride >= cols, "{}: rows of {} columns are only {} elements apart", what, cols,
         matrix.stride);
  if (rows == 0 || cols == 0) return;
  const std::size_t size = core::size_of(matrix.dtype);
  const auto elements = static_cast<std::size_t>((rows - 1) * matrix.stride + cols);
  data_ = memory.host(matrix.data, elements * size, size, what);
}

std::vector<float> MatrixView::row(std::int64_t index) const {
  std::vector<float> values(static_cast<std::size_t>(cols_));
  for (std::int64_t col = 0; col < cols_; ++col) values[static_cast<std::size_t>(col)] = get(index, col);
  return values;
}

void expect_no_overlap(const Matrix& in, const Matrix& out, const char* operation) {
  if (in.rows == 0 || in.cols == 0 || out.rows == 0 || out.cols == 0) return;
  const auto bytes = [](const Matrix& m, std::int64_t elements) {
    return elements * static_cast<std::int64_t>(core::size_of(m.dtype));
  };
  const auto extent = [&](const Matrix& m) { return bytes(m, (m.rows - 1) * m.stride + m.cols); };
  const auto distance = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(out.data) -
                                                  reinterpret_cast<std::uintptr_t>(in.data));
  if (distance >= extent(in) || -distance >= extent(out)) return;
  // Different columns of one matrix interleave without sharing anything.
  const std::int64_t stride = bytes(in, in.stride);
  if (stride == bytes(out, out.stride)) {
    const std::int64_t shift = ((distance % stride) + stride) % stride;
    if (shift >= bytes(in, in.cols) && shift + bytes(out, out.cols) <= stride) return;
  }
  core::fail(core::ErrorKind::kInternal, "{}: out overlaps its input", operation);
}

BatchView::BatchView(const AddressSpace& memory, const Batch& batch)
    : rows(batch.rows),
      positions(view(memory, batch.positions, batch.rows, "batch.positions")),
      row_sequence(view(memory, batch.row_sequence, batch.rows, "batch.row_sequence")) {
  const auto starts = view(memory, batch.sequence_starts, batch.sequences + 1, "batch.sequence_starts");
  expect(starts.front() == 0 && starts.back() == rows && std::is_sorted(starts.begin(), starts.end()),
         "batch.sequence_starts: {} sequences do not divide {} rows", batch.sequences, rows);
  for (std::int32_t row = 0; row < rows; ++row) {
    const std::int32_t sequence = row_sequence[row];
    expect(
        sequence >= 0 && sequence < batch.sequences && starts[sequence] <= row && row < starts[sequence + 1],
        "batch.row_sequence: row {} is not one of sequence {}", row, sequence);
    expect(positions[row] >= 0 && positions[row] < (1 << 30), "batch.positions: row {} has position {}", row,
           positions[row]);
    expect(row == starts[sequence] || positions[row] == positions[row - 1] + 1,
           "batch.positions: row {} has position {} after {}", row, positions[row],
           positions[std::max(row - 1, 0)]);
  }
}

}  // namespace peregrine::ops::reference
