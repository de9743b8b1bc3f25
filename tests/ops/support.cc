// SPDX-License-Identifier: Apache-2.0
#include "ops/support.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cstring>
#include <ostream>

#include "core/error.h"
#include "core/float16.h"

namespace peregrine::ops::testing {
namespace {

/// Exactly representable in every type, and far from what the tests compute.
constexpr float kSentinel = -12288.0f;

void put(std::byte* to, DType dtype, float value) {
  if (dtype == DType::kF32) std::memcpy(to, &value, sizeof value);
  const std::uint16_t bits =
      dtype == DType::kF16 ? core::to_float16(value).bits : core::to_bfloat16(value).bits;
  if (dtype != DType::kF32) std::memcpy(to, &bits, sizeof bits);
}

float get(const std::byte* from, DType dtype) {
  float value = 0;
  std::uint16_t bits = 0;
  std::memcpy(&bits, from, sizeof bits);
  if (dtype == DType::kF32) std::memcpy(&value, from, sizeof value);
  if (dtype == DType::kF16) value = core::to_float(core::Float16{bits});
  if (dtype == DType::kBF16) value = core::to_float(core::BFloat16{bits});
  return value;
}

std::vector<std::byte> encode(const std::vector<float>& values, DType dtype) {
  std::vector<std::byte> bytes(values.size() * core::size_of(dtype));
  for (std::size_t i = 0; i < values.size(); ++i)
    put(bytes.data() + i * core::size_of(dtype), dtype, values[i]);
  return bytes;
}

}  // namespace

std::vector<DeviceCase> device_cases() {
  std::vector<DeviceCase> cases = {{.name = "reference", .isa = "", .threads = 1}};
  for (const std::string& isa : available_isas()) cases.push_back({.name = "cpu", .isa = isa, .threads = 2});
  return cases;
}

std::string case_name(const ::testing::TestParamInfo<DeviceCase>& info) {
  return info.param.isa.empty() ? info.param.name : info.param.name + "_" + info.param.isa;
}

std::ostream& operator<<(std::ostream& out, const DeviceCase& device) {
  return out << device.name << " " << device.isa << ", " << device.threads << " threads";
}

double unit(DType dtype) {
  if (dtype == DType::kF16) return 0x1p-11;
  return dtype == DType::kBF16 ? 0x1p-8 : kUnit32;
}

float as_stored(float value, DType dtype) {
  std::byte storage[sizeof(float)];
  put(storage, dtype, value);
  return get(storage, dtype);
}

void expect_within(const std::vector<float>& found, const std::vector<Expected>& expected,
                   const std::string& what) {
  ASSERT_EQ(found.size(), expected.size()) << what;
  std::size_t outside = 0;
  std::size_t worst = 0;
  double worst_ratio = -1;
  for (std::size_t i = 0; i < found.size(); ++i) {
    // Results below the smallest normal float32 may be flushed to zero.
    const double error = std::abs(found[i] - expected[i].value) / (expected[i].error + 0x1p-126);
    const double ratio = std::isnan(error) ? INFINITY : error;
    outside += ratio > 1 ? 1 : 0;
    if (ratio > worst_ratio) {
      worst_ratio = ratio;
      worst = i;
    }
  }
  if (outside == 0) return;
  ADD_FAILURE() << what << ": " << outside << " of " << found.size()
                << " elements are outside their bounds; worst is [" << worst << "] = " << found[worst]
                << ", expected " << expected[worst].value << " within " << expected[worst].error << " ("
                << worst_ratio << " times the bound)";
}

HostData random_data(std::mt19937& random, std::int64_t rows, std::int64_t cols, DType dtype, float deviation,
                     float mean) {
  HostData data{dtype, rows, cols, std::vector<float>(static_cast<std::size_t>(rows * cols))};
  std::normal_distribution<float> normal(mean, deviation);
  for (float& value : data.values) value = as_stored(normal(random), dtype);
  return data;
}

DeviceMatrix DeviceTest::make_matrix(std::int64_t rows, std::int64_t cols, DType dtype, std::int64_t gap) {
  const std::int64_t stride = cols + gap;
  const std::vector<std::byte> bytes =
      encode(std::vector<float>(static_cast<std::size_t>(rows * stride), kSentinel), dtype);
  Buffer buffer = device_->allocate(std::max<std::size_t>(bytes.size(), 1));
  stream_->upload(buffer.address(), bytes.data(), bytes.size());
  finish();
  const Matrix matrix{buffer.address(), dtype, rows, cols, stride};
  return {std::move(buffer), matrix};
}

DeviceMatrix DeviceTest::make_matrix(const HostData& data, std::int64_t gap) {
  DeviceMatrix made = make_matrix(data.rows, data.cols, data.dtype, gap);
  std::vector<float> all(static_cast<std::size_t>(data.rows * made.matrix.stride), kSentinel);
  for (std::int64_t row = 0; row < data.rows; ++row) {
    std::copy_n(data.values.begin() + row * data.cols, data.cols, all.begin() + row * made.matrix.stride);
  }
  const std::vector<std::byte> bytes = encode(all, data.dtype);
  stream_->upload(made.buffer.address(), bytes.data(), bytes.size());
  finish();
  return made;
}

HostData DeviceTest::read(const DeviceMatrix& from) {
  const Matrix& matrix = from.matrix;
  const std::size_t size = core::size_of(matrix.dtype);
  std::vector<std::byte> bytes(static_cast<std::size_t>(matrix.rows * matrix.stride) * size);
  stream_->download(bytes.data(), matrix.data, bytes.size());
  finish();
  HostData data{matrix.dtype, matrix.rows, matrix.cols, {}};
  std::size_t damaged = 0;
  for (std::int64_t i = 0; i < matrix.rows * matrix.stride; ++i) {
    const float value = get(bytes.data() + static_cast<std::size_t>(i) * size, matrix.dtype);
    if (i % matrix.stride < matrix.cols) {
      data.values.push_back(value);
    } else {
      damaged += value != kSentinel ? 1 : 0;
    }
  }
  EXPECT_EQ(damaged, 0u) << "elements between the rows were written to";
  return data;
}

std::unique_ptr<Weight> DeviceTest::pack(const HostData& data, DType dtype, WeightUse use) {
  const std::vector<std::byte> bytes = encode(data.values, data.dtype);
  const HostMatrix part{bytes.data(), data.dtype, data.rows, data.cols, data.cols, 1};
  return device_->pack(std::span(&part, 1), dtype, use);
}

void DeviceTest::expect_failure(const std::string& text) {
  const EventId event = stream_->record();
  for (int i = 0; i < 2; ++i) {
    try {
      stream_->wait(event);
      ADD_FAILURE() << "no error: " << text;
    } catch (const core::Error& error) {
      EXPECT_EQ(error.kind(), core::ErrorKind::kInternal);
      EXPECT_THAT(error.what(), ::testing::HasSubstr(text));
    }
  }
  EXPECT_TRUE(stream_->done(event)) << "a failed operation is done with";
  stream_ = device_->create_stream();
}

HostBatch::HostBatch(const std::vector<SequenceRows>& sequences) {
  for (const SequenceRows& sequence : sequences) {
    // One entry more than needed, so that the stride is never by chance the right one.
    stride = std::max(stride, static_cast<std::int32_t>(sequence.blocks.size()) + 1);
  }
  starts.push_back(0);
  for (std::size_t s = 0; s < sequences.size(); ++s) {
    for (std::int32_t i = 0; i < sequences[s].count; ++i) {
      positions.push_back(sequences[s].first_position + i);
      row_sequence.push_back(static_cast<std::int32_t>(s));
    }
    starts.push_back(rows());
    std::vector<std::int32_t> table = sequences[s].blocks;
    // Unused entries are never valid blocks: reading one is a mistake.
    table.resize(static_cast<std::size_t>(stride), -1);
    tables.insert(tables.end(), table.begin(), table.end());
  }
}

}  // namespace peregrine::ops::testing
