// SPDX-License-Identifier: Apache-2.0
// Products with int8 weights, whose rule is exact: one scale for each row of the weight and one for each row
// of activations, products summed in integers, and two roundings at the end. So every instruction set must
// give the same bits as the plain loops here.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "ops_cpu/harness.h"

namespace peregrine::ops::cpu::test {
namespace {

using core::DType;

struct Quantized {
  float scale;
  std::vector<int> q;
};

Quantized quantize(const Values& values, std::int64_t row) {
  float highest = 0;
  for (std::int64_t k = 0; k < values.cols; ++k) highest = std::max(highest, std::abs(values.at(row, k)));
  const float inverse = highest > 0 ? 127.0f / highest : 0.0f;
  Quantized out{highest / 127.0f, {}};
  for (std::int64_t k = 0; k < values.cols; ++k) {
    out.q.push_back(static_cast<int>(std::nearbyint(values.at(row, k) * inverse)));
  }
  return out;
}

std::unique_ptr<Weight> pack_int8(Harness& harness, const Values& values,
                                  WeightUse use = WeightUse::kLinear) {
  const HostMatrix host = values.host();
  return harness.device->pack({&host, 1}, DType::kI8, use);
}

std::vector<float> multiply(Harness& harness, const Values& in, const Weight& weight) {
  LinearArgs args;
  args.in = harness.put(in);
  args.weight = &weight;
  args.out = harness.make(in.rows, weight.rows(), DType::kF32);
  harness.stream->linear(args);
  return harness.get(args.out);
}

void expect_exact(const Values& in, const Values& weight, const std::vector<float>& out) {
  std::vector<Quantized> channels;
  for (std::int64_t n = 0; n < weight.rows; ++n) channels.push_back(quantize(weight, n));
  for (std::int64_t row = 0; row < in.rows; ++row) {
    const Quantized x = quantize(in, row);
    for (std::int64_t n = 0; n < weight.rows; ++n) {
      const Quantized& w = channels[static_cast<std::size_t>(n)];
      std::int64_t sum = 0;
      for (std::size_t k = 0; k < x.q.size(); ++k) sum += x.q[k] * w.q[k];
      ASSERT_EQ(out[static_cast<std::size_t>(row * weight.rows + n)],
                static_cast<float>(sum) * (x.scale * w.scale))
          << in.rows << " rows, K " << in.cols << ", row " << row << " column " << n;
    }
  }
}

class Int8OnIsa : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Cpu, Int8OnIsa, ::testing::ValuesIn(available_isas()),
                         [](const auto& info) { return info.param; });

TEST_P(Int8OnIsa, IsExactForEveryShape) {
  Harness harness(GetParam());
  for (const DType type : {DType::kF32, DType::kBF16}) {
    for (const std::int64_t k : {1, 3, 64, 515, 1030}) {
      const Values weight = random_values(83, k, DType::kBF16, 1);
      const auto packed = pack_int8(harness, weight);
      for (const std::int64_t rows : {1, 2, 5, 6, 7, 12, 13, 25, 40}) {
        const Values in = random_values(rows, k, type, 2);
        expect_exact(in, weight, multiply(harness, in, *packed));
      }
    }
  }
}

TEST_P(Int8OnIsa, TheLargestSumsOfALongRowFit) {
  Harness harness(GetParam());
  constexpr std::int64_t kLong = 18'176;
  for (const float sign : {1.0f, -1.0f}) {
    const Values in = values_of(13, kLong, DType::kF32, std::vector<float>(13 * kLong, sign));
    const Values weight = values_of(5, kLong, DType::kF32, std::vector<float>(5 * kLong, 3.0f));
    expect_exact(in, weight, multiply(harness, in, *pack_int8(harness, weight)));
  }
}

TEST_P(Int8OnIsa, WhatIsNoNumberStaysInItsRow) {
  Harness harness(GetParam());
  const Values weight = random_values(20, 70, DType::kF32, 3);
  const auto packed = pack_int8(harness, weight);
  Values clean = random_values(9, 70, DType::kF32, 4);
  const std::vector<float> expected = multiply(harness, clean, *packed);
  std::vector<float> floats = clean.floats;
  floats[2 * 70 + 69] = std::numeric_limits<float>::quiet_NaN();
  floats[5 * 70 + 3] = std::numeric_limits<float>::infinity();
  const std::vector<float> out = multiply(harness, values_of(9, 70, DType::kF32, floats), *packed);
  for (std::int64_t row = 0; row < 9; ++row) {
    for (std::int64_t n = 0; n < 20; ++n) {
      const auto at = static_cast<std::size_t>(row * 20 + n);
      if (row == 2 || row == 5) {
        EXPECT_FALSE(std::isfinite(out[at])) << row;
      } else {
        EXPECT_EQ(out[at], expected[at]) << row;
      }
    }
  }
}

TEST_P(Int8OnIsa, ZeroRowsGiveZero) {
  Harness harness(GetParam());
  const Values weight = values_of(4, 9, DType::kF32, std::vector<float>(36, 0.0f));
  const Values in = values_of(3, 9, DType::kF32, std::vector<float>(27, 0.0f));
  const auto packed = pack_int8(harness, weight);
  for (const float value : multiply(harness, random_values(3, 9, DType::kF32, 5), *packed))
    EXPECT_EQ(value, 0);
  const auto other = pack_int8(harness, random_values(4, 9, DType::kF32, 6));
  for (const float value : multiply(harness, in, *other)) EXPECT_EQ(value, 0);
}

TEST_P(Int8OnIsa, RowsAreReadOutOfEitherLayout) {
  Harness harness(GetParam());
  const Values table = random_values(37, 21, DType::kBF16, 7);
  for (const WeightUse use : {WeightUse::kLinear, WeightUse::kRows}) {
    const auto packed = pack_int8(harness, table, use);
    EmbedArgs args;
    args.token_ids = harness.put(std::vector<std::int32_t>{36, 0, 17});
    args.table = packed.get();
    args.scale = 2.0f;
    args.out = harness.make(3, 21, DType::kF32);
    harness.stream->embed(args);
    const std::vector<float> out = harness.get(args.out);
    std::size_t i = 0;
    for (const std::int64_t row : {36, 0, 17}) {
      const Quantized expected = quantize(table, row);
      for (const int q : expected.q) EXPECT_EQ(out[i++], 2.0f * (static_cast<float>(q) * expected.scale));
    }
  }
}

}  // namespace
}  // namespace peregrine::ops::cpu::test
