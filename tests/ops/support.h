// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <memory>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "ops/device.h"

// One table of tests runs every device: each TEST_P of a DeviceTest is instantiated for the reference and for
// the cpu with each instruction set that this processor has. Expected values are computed in double by the
// tests, with an error bound each, derived from the roundings that the operation's contract allows.

namespace peregrine::ops::testing {

using core::DType;

/// A device under test.
struct DeviceCase {
  std::string name;
  std::string isa;
  int threads = 0;

  std::unique_ptr<Device> create() const { return create_device(name, {.threads = threads, .isa = isa}); }
};

std::vector<DeviceCase> device_cases();
std::string case_name(const ::testing::TestParamInfo<DeviceCase>& info);
std::ostream& operator<<(std::ostream& out, const DeviceCase& device);

/// Unit roundoff: rounding to nearest changes x by at most unit * |x|.
double unit(DType dtype);
inline constexpr double kUnit32 = 0x1p-24;

/// `value` as it is read back from storage of `dtype`.
float as_stored(float value, DType dtype);

/// Relative error of a float32 sum of n terms in any fixed order, against the sum of the terms' magnitudes:
/// the worst case (n u), or, as n grows, the probabilistic bound lambda sqrt(n) u (Higham and Mary 2019) with
/// lambda = 6. Two more roundings for each product.
inline double sum_error(double n) { return (std::min(n, 6 * std::sqrt(n)) + 2) * kUnit32; }

/// What an element must be, and how far off it may be.
struct Expected {
  double value = 0;
  double error = 0;

  /// The same after rounding to storage of `dtype`.
  Expected stored_as(DType dtype) const { return {value, error + unit(dtype) * (std::abs(value) + error)}; }
};

/// Adds a failure where an element is not within its bound, and prints the worst.
void expect_within(const std::vector<float>& found, const std::vector<Expected>& expected,
                   const std::string& what);

/// A matrix in host memory, elements already as they will be stored.
struct HostData {
  DType dtype = DType::kF32;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::vector<float> values;

  float at(std::int64_t row, std::int64_t col) const {
    return values[static_cast<std::size_t>(row * cols + col)];
  }
  float& at(std::int64_t row, std::int64_t col) { return values[static_cast<std::size_t>(row * cols + col)]; }
};

/// Normally distributed numbers, rounded to `dtype`.
HostData random_data(std::mt19937& random, std::int64_t rows, std::int64_t cols, DType dtype,
                     float deviation = 1.0f, float mean = 0.0f);

/// A matrix of device memory that rows share with `gap` elements that nobody may touch; filled with a
/// sentinel.
struct DeviceMatrix {
  Buffer buffer;
  Matrix matrix;

  operator const Matrix&() const { return matrix; }  // NOLINT: it is one.
};

class DeviceTest : public ::testing::TestWithParam<DeviceCase> {
 protected:
  DeviceTest() : device_(GetParam().create()), stream_(device_->create_stream()) {}

  void finish() { stream_->wait(stream_->record()); }

  /// A matrix of the given shape, `gap` elements between the rows. Contents are a sentinel that random data
  /// never has.
  DeviceMatrix make_matrix(std::int64_t rows, std::int64_t cols, DType dtype, std::int64_t gap = 0);
  /// A matrix with these contents.
  DeviceMatrix make_matrix(const HostData& data, std::int64_t gap = 0);
  /// Its contents; adds a failure where a gap was written to.
  HostData read(const DeviceMatrix& from);

  template <typename T>
  Array<T> make_array(const std::vector<T>& values) {
    Buffer buffer = device_->allocate(std::max<std::size_t>(values.size(), 1) * sizeof(T));
    const DeviceAddress address = buffer.address();
    stream_->upload(address, values.data(), values.size() * sizeof(T));
    finish();
    arrays_.push_back(std::move(buffer));
    return {address, static_cast<std::int64_t>(values.size())};
  }

  std::unique_ptr<Weight> pack(const HostData& data, DType dtype, WeightUse use = WeightUse::kLinear);

  /// Expects that what was enqueued fails, as a defect whose message contains `text`, and that the stream is
  /// dead; makes another.
  void expect_failure(const std::string& text);

  std::unique_ptr<Device> device_;
  std::vector<Buffer> arrays_;  // of make_array; live as long as the test
  std::unique_ptr<Stream> stream_;
  std::mt19937 random_{20240607};
};

/// One sequence's part of a step.
struct SequenceRows {
  std::int32_t first_position = 0;
  std::int32_t count = 0;
  std::vector<std::int32_t> blocks;  ///< Its whole block table.
};

/// A step's batch in host memory.
struct HostBatch {
  std::vector<std::int32_t> positions;
  std::vector<std::int32_t> row_sequence;
  std::vector<std::int32_t> starts;
  std::vector<std::int32_t> tables;
  std::int32_t stride = 0;

  explicit HostBatch(const std::vector<SequenceRows>& sequences);
  std::int32_t rows() const { return static_cast<std::int32_t>(positions.size()); }
  std::int32_t sequences() const { return static_cast<std::int32_t>(starts.size()) - 1; }
};

}  // namespace peregrine::ops::testing
