// SPDX-License-Identifier: Apache-2.0
#include "ops_cpu/harness.h"

namespace peregrine::ops::cpu::test {

using core::DType;

Values values_of(std::int64_t rows, std::int64_t cols, DType type, std::vector<float> floats) {
  Values values{rows, cols, type, {}, std::move(floats)};
  const std::size_t size = core::size_of(type);
  values.bytes.resize(values.floats.size() * size);
  for (std::size_t i = 0; i < values.floats.size(); ++i) {
    std::byte* place = values.bytes.data() + i * size;
    const float value = values.floats[i];
    if (type == DType::kF32) {
      std::memcpy(place, &value, size);
    } else {
      const std::uint16_t bits =
          type == DType::kBF16 ? core::to_bfloat16(value).bits : core::to_float16(value).bits;
      std::memcpy(place, &bits, size);
    }
  }
  values.floats = widen(type, values.bytes);
  return values;
}

Values random_values(std::int64_t rows, std::int64_t cols, DType type, std::uint32_t seed, float scale) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> floats(static_cast<std::size_t>(rows * cols));
  for (float& value : floats) value = normal(generator);
  return values_of(rows, cols, type, std::move(floats));
}

std::vector<float> widen(DType type, const std::vector<std::byte>& bytes) {
  const std::size_t size = core::size_of(type);
  std::vector<float> floats(bytes.size() / size);
  for (std::size_t i = 0; i < floats.size(); ++i) {
    const std::byte* place = bytes.data() + i * size;
    if (type == DType::kF32) {
      std::memcpy(&floats[i], place, size);
      continue;
    }
    std::uint16_t bits = 0;
    std::memcpy(&bits, place, size);
    floats[i] =
        type == DType::kBF16 ? core::to_float(core::BFloat16{bits}) : core::to_float(core::Float16{bits});
  }
  return floats;
}

DeviceAddress Harness::upload(const void* data, std::size_t bytes) {
  buffers_.push_back(device->allocate(bytes));
  if (bytes > 0) stream->upload(buffers_.back().address(), data, bytes);
  finish();
  return buffers_.back().address();
}

Matrix Harness::put(const Values& values) {
  return {upload(values.bytes.data(), values.bytes.size()), values.type, values.rows, values.cols,
          values.cols};
}

Matrix Harness::make(std::int64_t rows, std::int64_t cols, DType type) {
  buffers_.push_back(device->allocate(static_cast<std::size_t>(rows * cols) * core::size_of(type)));
  return {buffers_.back().address(), type, rows, cols, cols};
}

Floats Harness::put(const std::vector<float>& values) {
  return {upload(values.data(), values.size() * sizeof(float)), static_cast<std::int64_t>(values.size())};
}

Ints Harness::put(const std::vector<std::int32_t>& values) {
  return {upload(values.data(), values.size() * sizeof(std::int32_t)),
          static_cast<std::int64_t>(values.size())};
}

std::vector<std::byte> Harness::bytes_of(const Matrix& matrix) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(matrix.rows * matrix.cols) *
                               core::size_of(matrix.dtype));
  if (!bytes.empty()) stream->download(bytes.data(), matrix.data, bytes.size());
  finish();
  return bytes;
}

}  // namespace peregrine::ops::cpu::test
