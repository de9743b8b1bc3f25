// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/error.h"
#include "core/float16.h"
#include "ops/support.h"

// int8 weights. The rule (ops/device.h) leaves nothing open before bias and activation, so that what a device
// gives is compared for equality.

namespace peregrine::ops::testing {
namespace {

constexpr DType kComputeTypes[] = {DType::kF32, DType::kBF16};

/// A row by the rule, in float64 rounded to float32 where the rule has float32 (which for one product or
/// quotient is the same: Figueroa 1995).
struct Quantized {
  std::vector<int> values;
  float scale = 0;
};

Quantized quantize(const float* row, std::int64_t size) {
  double most = 0;
  for (std::int64_t k = 0; k < size; ++k) most = std::max(most, std::abs(double{row[k]}));
  Quantized out{std::vector<int>(static_cast<std::size_t>(size)), static_cast<float>(most / 127)};
  if (most < 0x1p-120) return out;
  const double inverse = static_cast<float>(127 / most);
  for (std::int64_t k = 0; k < size; ++k) {
    const auto scaled = static_cast<float>(row[k] * inverse);
    const float floor = std::floor(scaled);
    const float above = scaled - floor;
    const bool up = above > 0.5f || (above == 0.5f && std::fmod(floor, 2.0f) != 0);
    out.values[static_cast<std::size_t>(k)] = static_cast<int>(floor) + (up ? 1 : 0);
  }
  return out;
}

std::vector<Quantized> quantize(const HostData& data) {
  std::vector<Quantized> rows;
  for (std::int64_t row = 0; row < data.rows; ++row) {
    rows.push_back(quantize(data.values.data() + row * data.cols, data.cols));
  }
  return rows;
}

float product(const Quantized& a, const Quantized& b) {
  std::int64_t sum = 0;
  for (std::size_t k = 0; k < a.values.size(); ++k) sum += std::int64_t{a.values[k]} * b.values[k];
  const auto scale = static_cast<float>(double{a.scale} * b.scale);
  return static_cast<float>(double{static_cast<float>(sum)} * scale);
}

/// Every row of `in` times every row of `weight`.
std::vector<float> products(const HostData& in, const HostData& weight) {
  const std::vector<Quantized> weights = quantize(weight);
  std::vector<float> out;
  for (const Quantized& row : quantize(in)) {
    for (const Quantized& other : weights) out.push_back(product(row, other));
  }
  return out;
}

class Int8Test : public DeviceTest {
 protected:
  std::vector<float> run(const HostData& in, const Weight& weight) {
    const DeviceMatrix from = make_matrix(in, 3);
    const DeviceMatrix out = make_matrix(in.rows, weight.rows(), DType::kF32, 5);
    LinearArgs args{};
    args.in = from;
    args.weight = &weight;
    args.out = out;
    stream_->linear(args);
    EXPECT_EQ(read(from).values, in.values) << "the input was written to";
    return read(out).values;
  }

  /// Integers of which each row has one of magnitude 127, times a power of two of each row: quantizing them
  /// changes nothing.
  HostData exact_data(std::int64_t rows, std::int64_t cols, DType dtype) {
    std::uniform_int_distribution<int> integers(-127, 127);
    std::uniform_int_distribution<int> exponents(-9, 3);
    HostData data{dtype, rows, cols, std::vector<float>(static_cast<std::size_t>(rows * cols))};
    for (std::int64_t row = 0; row < rows; ++row) {
      const int exponent = exponents(random_);
      for (std::int64_t col = 0; col < cols; ++col) {
        data.at(row, col) = std::ldexp(static_cast<float>(integers(random_)), exponent);
      }
      const auto largest = static_cast<std::int64_t>(random_() % static_cast<std::uint64_t>(cols));
      data.at(row, largest) = std::ldexp(random_() % 2 == 0 ? 127.0f : -127.0f, exponent);
    }
    return data;
  }

  /// Expects the exact products of the numbers themselves, rounded to float32 once.
  void check_exact(const HostData& in, const HostData& weight) {
    const std::vector<float> found = run(in, *pack(weight, DType::kI8));
    std::size_t at = 0;
    for (std::int64_t row = 0; row < in.rows; ++row) {
      for (std::int64_t col = 0; col < weight.rows; ++col, ++at) {
        double sum = 0;  // exact: all are multiples of one power of two, 40 bits
        for (std::int64_t k = 0; k < in.cols; ++k) sum += double{in.at(row, k)} * weight.at(col, k);
        ASSERT_EQ(found[at], static_cast<float>(sum))
            << in.rows << " x " << weight.rows << " x " << in.cols << ", " << core::to_string(in.dtype)
            << ", row " << row << ", column " << col;
      }
    }
  }

  /// Expects what the rule gives.
  void check(const HostData& in, const HostData& weight) {
    const std::vector<float> found = run(in, *pack(weight, DType::kI8));
    const std::vector<float> expected = products(in, weight);
    for (std::size_t i = 0; i < found.size(); ++i) {
      ASSERT_EQ(found[i], expected[i])
          << in.rows << " x " << weight.rows << " x " << in.cols << ", " << core::to_string(in.dtype) << " x "
          << core::to_string(weight.dtype) << ", element " << i;
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Devices, Int8Test, ::testing::ValuesIn(device_cases()), case_name);

TEST_P(Int8Test, IntegersAreExactInEveryShape) {
  for (const std::int64_t n : {1, 2, 15, 16, 17, 31, 48, 63, 65, 130}) {
    for (const std::int64_t k : {1, 2, 3, 4, 5, 16, 31, 63, 64, 65, 127, 260}) {
      const std::int64_t rows = 1 + (n * 7 + k * 3) % 40;
      for (const DType in : kComputeTypes) {
        check_exact(exact_data(rows, k, in), exact_data(n, k, DType::kF16));
      }
    }
  }
}

TEST_P(Int8Test, EveryNumberOfRows) {
  const HostData weight = exact_data(37, 521, DType::kBF16);
  for (const DType in : kComputeTypes) {
    for (std::int64_t rows = 1; rows <= 40; ++rows) check_exact(exact_data(rows, 521, in), weight);
    check_exact(exact_data(257, 521, in), weight);
  }
}

TEST_P(Int8Test, RealWidths) {
  for (const DType in : kComputeTypes) {
    const HostData weight = exact_data(35, 18176, DType::kF32);
    for (const std::int64_t rows : {1, 2, 7, 16, 33}) check_exact(exact_data(rows, 18176, in), weight);
    check(random_data(random_, 9, 4544, in), random_data(random_, 71, 4544, DType::kBF16, 0.02f));
  }
}

// The widest weight there may be, with the largest sums: nothing wraps around.
TEST_P(Int8Test, SumsAreExactUpToTheWidestWeight) {
  for (const std::int64_t cols : {std::int64_t{66'000}, kMaxInt8Columns - 3, kMaxInt8Columns}) {
    HostData in{DType::kF32, 3, cols, std::vector<float>(static_cast<std::size_t>(3 * cols), 127.0f)};
    HostData weight{DType::kF32, 2, cols, std::vector<float>(static_cast<std::size_t>(2 * cols), 127.0f)};
    for (std::int64_t col = 0; col < cols; ++col) in.at(1, col) = -127.0f;
    for (std::int64_t col = 0; col < cols; ++col) weight.at(1, col) = -127.0f;
    in.at(2, 7) = 3.0f;
    check_exact(in, weight);
  }
  const HostData wide = random_data(random_, 1, kMaxInt8Columns + 1, DType::kF32);
  for (const WeightUse use : {WeightUse::kLinear, WeightUse::kRows}) {
    try {
      pack(wide, DType::kI8, use);
      FAIL() << "a sum may be more than an int32";
    } catch (const core::Error& error) {
      EXPECT_EQ(error.kind(), core::ErrorKind::kUnsupported) << error.what();
    }
  }
}

TEST_P(Int8Test, AnyNumbersFollowTheRule) {
  for (const DType in : kComputeTypes) {
    for (const DType stored : {DType::kF32, DType::kF16, DType::kBF16}) {
      check(random_data(random_, 1, 64, in), random_data(random_, 33, 64, stored));
      check(random_data(random_, 7, 31, in, 3e4f), random_data(random_, 20, 31, stored, 0.02f));
      check(random_data(random_, 33, 100, in, 1e-12f), random_data(random_, 71, 100, stored));
    }
  }
}

// Halves of a step go to the even integer.
TEST_P(Int8Test, TiesGoToEven) {
  HostData in{DType::kF32, 2, 255, std::vector<float>(510)};
  for (std::int64_t k = 0; k < 255; ++k) in.at(0, k) = static_cast<float>(k - 127) + 0.5f;
  in.at(0, 0) = 127.0f;
  for (std::int64_t k = 0; k < 255; ++k) in.at(1, k) = -in.at(0, k);
  HostData identity{DType::kF32, 255, 255, std::vector<float>(255 * 255)};
  for (std::int64_t k = 0; k < 255; ++k) identity.at(k, k) = 127.0f;
  check(in, identity);
  check(identity, in);
}

TEST_P(Int8Test, BiasActivationAndResidualComeBehind) {
  for (const DType in : kComputeTypes) {
    for (const DType out : kComputeTypes) {
      for (const Activation activation : {Activation::kNone, Activation::kRelu, Activation::kSilu}) {
        const HostData input = random_data(random_, 5, 75, in);
        const HostData weight = random_data(random_, 40, 75, DType::kF32, 0.1f);
        const HostData bias = random_data(random_, 1, 40, DType::kF32);
        const HostData residual = random_data(random_, 5, 40, DType::kF32);
        const auto packed = pack(weight, DType::kI8);
        const DeviceMatrix from = make_matrix(input, 1), to = make_matrix(5, 40, out, 2);
        const DeviceMatrix added = make_matrix(residual, 3);
        LinearArgs args{};
        args.in = from;
        args.weight = packed.get();
        args.bias = make_array(bias.values);
        args.activation = activation;
        args.soft_cap = 2.0f;
        args.residual = added;
        args.out = to;
        stream_->linear(args);
        std::vector<Expected> expected;
        const std::vector<float> sums = products(input, weight);
        for (std::size_t i = 0; i < sums.size(); ++i) {
          double x = double{sums[i]} + bias.values[i % 40];
          if (activation == Activation::kRelu) x = std::max(x, 0.0);
          if (activation == Activation::kSilu) x = x / (1 + std::exp(-x));
          const double capped = 2 * std::tanh(x / 2);
          const double value = capped + residual.values[i];
          // The additions' roundings, 8 u for the activation and 13 u for the cap, whose slopes are at
          // most 1.1.
          const double error = kUnit32 * (2 + 11 * std::abs(x) + 14 * std::abs(capped) + 2 * std::abs(value));
          expected.push_back(Expected{value, error}.stored_as(out));
        }
        expect_within(read(to).values, expected, "int8 with bias, activation, cap and residual");
      }
    }
  }
}

TEST_P(Int8Test, RowsOfZerosAndOfTinyNumbersGiveZero) {
  HostData in = random_data(random_, 5, 40, DType::kF32);
  for (std::int64_t k = 0; k < 40; ++k) {
    in.at(1, k) = 0.0f;
    in.at(2, k) = k % 2 == 0 ? -0.0f : 0.0f;
    in.at(3, k) = static_cast<float>(k) * 0x1p-149f;
    in.at(4, k) *= 1e-38f;
  }
  HostData weight = random_data(random_, 6, 40, DType::kF32);
  for (std::int64_t k = 0; k < 40; ++k) {
    weight.at(2, k) = 0.0f;
    weight.at(4, k) = static_cast<float>(k - 20) * 0x1p-140f;
  }
  check(in, weight);
  const std::vector<float> found = run(in, *pack(weight, DType::kI8));
  for (std::size_t i = 6; i < found.size(); ++i) EXPECT_EQ(found[i], 0.0f) << i;
}

// What is no number stays in its row: every other one is the same, bit for bit.
TEST_P(Int8Test, RowsThatAreNotFiniteDisturbNoOther) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  for (const DType type : kComputeTypes) {
    const HostData weight = random_data(random_, 33, 70, DType::kF32);
    const HostData clean = random_data(random_, 9, 70, type);
    HostData in = clean;
    in.at(1, 69) = kNan;
    in.at(3, 0) = INFINITY;
    in.at(4, 17) = -INFINITY;
    in.at(6, 3) = INFINITY;
    in.at(6, 4) = -kNan;
    const auto packed = pack(weight, DType::kI8);
    const DeviceMatrix from = make_matrix(in), out = make_matrix(9, 33, DType::kF32);
    LinearArgs args{};
    args.in = from;
    args.weight = packed.get();
    args.out = out;
    stream_->linear(args);
    const std::vector<float> found = read(out).values;
    const std::vector<float> expected = products(clean, weight);
    for (std::size_t i = 0; i < found.size(); ++i) {
      const std::size_t row = i / 33;
      if (row == 1 || row == 3 || row == 4 || row == 6) {
        EXPECT_FALSE(std::isfinite(found[i])) << i;
      } else {
        EXPECT_EQ(found[i], expected[i]) << i;
      }
    }
  }
}

// As above, of weights.
TEST_P(Int8Test, WeightRowsThatAreNotFiniteDisturbNoOther) {
  const HostData in = random_data(random_, 3, 70, DType::kF32);
  const HostData clean = random_data(random_, 20, 70, DType::kF32);
  HostData weight = clean;
  weight.at(0, 5) = std::numeric_limits<float>::quiet_NaN();
  weight.at(17, 69) = -INFINITY;
  const std::vector<float> found = run(in, *pack(weight, DType::kI8));
  const std::vector<float> expected = products(in, clean);
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (i % 20 == 0 || i % 20 == 17) {
      EXPECT_FALSE(std::isfinite(found[i])) << i;
    } else {
      EXPECT_EQ(found[i], expected[i]) << i;
    }
  }
}

// Parts of different types, one transposed, one at an odd address: their rows follow each other in the
// weight, each quantized by itself, and are read out of it as they were put in, by both layouts.
TEST_P(Int8Test, PacksPartsInOrderAndReadsRowsOut) {
  const HostData first = random_data(random_, 5, 35, DType::kBF16, 7.0f);
  const HostData second = random_data(random_, 35, 17, DType::kF32, 0.01f);
  std::vector<std::byte> bytes(1 + 5 * 35 * 2);
  for (std::size_t i = 0; i < first.values.size(); ++i) {
    const core::BFloat16 value = core::to_bfloat16(first.values[i]);
    std::memcpy(bytes.data() + 1 + 2 * i, &value, 2);
  }
  const HostMatrix parts[] = {
      {bytes.data() + 1, DType::kBF16, 5, 35, 35, 1},
      {reinterpret_cast<const std::byte*>(second.values.data()), DType::kF32, 17, 35, 1, 17}};
  HostData stacked{DType::kF32, 22, 35, first.values};
  for (std::int64_t row = 0; row < 17; ++row) {
    for (std::int64_t col = 0; col < 35; ++col) stacked.values.push_back(second.at(col, row));
  }
  const std::vector<Quantized> rows = quantize(stacked);
  std::vector<std::int32_t> ids = {0, 21, 4, 5, 20, 22, 2'147'483'000};
  const HostData before = random_data(random_, 7, 35, DType::kF32);
  for (const WeightUse use : {WeightUse::kLinear, WeightUse::kRows}) {
    const auto weight = device_->pack(parts, DType::kI8, use);
    EXPECT_EQ(weight->rows(), 22);
    EXPECT_EQ(weight->cols(), 35);
    EXPECT_EQ(weight->dtype(), DType::kI8);
    EXPECT_EQ(weight->use(), use);
    EXPECT_GE(weight->bytes(), 22 * (35 + sizeof(float)));
    const DeviceMatrix out = make_matrix(before, 1);
    const DeviceMatrix sums = make_matrix(before, 2);
    stream_->embed({make_array(ids), {}, weight.get(), 0.3f, out});
    stream_->embed({make_array(ids), {}, weight.get(), 0.3f, sums, 1, true});
    const HostData found = read(out), added = read(sums);
    const auto element = [&](std::int64_t row, std::int64_t col) {
      if (row > 21) return 0.0f;
      const Quantized& quantized = rows[static_cast<std::size_t>(row)];
      const float value =
          static_cast<float>(quantized.values[static_cast<std::size_t>(col)]) * quantized.scale;
      return 0.3f * value;
    };
    for (std::int64_t row = 0; row < 7; ++row) {
      const std::int64_t id = ids[static_cast<std::size_t>(row)];
      for (std::int64_t col = 0; col < 35; ++col) {
        ASSERT_EQ(found.at(row, col), element(id, col)) << row << ", " << col;
        ASSERT_EQ(added.at(row, col), before.at(row, col) + element(id + 1, col)) << row << ", " << col;
      }
    }
    if (use == WeightUse::kLinear) {
      const HostData in = random_data(random_, 4, 35, DType::kF32);
      EXPECT_EQ(run(in, *weight), products(in, stacked));
    }
  }
}

TEST_P(Int8Test, PartsAreOfFloats) {
  const std::vector<std::byte> bytes(64);
  for (const DType type : {DType::kI8, DType::kU8, DType::kI64}) {
    const HostMatrix part{bytes.data(), type, 2, 4, 4, 1};
    try {
      device_->pack(std::span(&part, 1), DType::kI8, WeightUse::kLinear);
      FAIL() << core::to_string(type);
    } catch (const core::Error& error) {
      EXPECT_EQ(error.kind(), core::ErrorKind::kUnsupported) << error.what();
    }
  }
}

class Int8ExpertsTest : public Int8Test {
 protected:
  static constexpr std::int64_t kRows = 45, kHidden = 75;
  static constexpr std::int32_t kPerRow = 2;

  void make_experts() {
    for (const std::int64_t width : {31, 31, 31, 52}) {
      up_.push_back(pack(random_data(random_, 2 * width, kHidden, DType::kF32, 0.2f), DType::kI8));
      down_.push_back(pack(random_data(random_, kHidden, width, DType::kF32, 0.2f), DType::kI8));
    }
  }

  /// The chosen experts of rows [first, first + rows).
  std::vector<float> experts(const HostData& all, const std::vector<std::int32_t>& chosen, std::int64_t first,
                             std::int64_t rows) {
    const HostData in = slice(all, first, rows);
    const std::int64_t pairs = rows * kPerRow;
    const DeviceMatrix from = make_matrix(in), gathered = make_matrix(pairs, kHidden, all.dtype);
    const DeviceMatrix raised = make_matrix(pairs, 104, all.dtype), gated = make_matrix(pairs, 52, all.dtype);
    const DeviceMatrix lowered = make_matrix(pairs, kHidden, DType::kF32);
    const DeviceMatrix out = make_matrix(
        {DType::kF32, rows, kHidden, std::vector<float>(static_cast<std::size_t>(rows * kHidden), 0.0f)});
    ExpertsArgs args{};
    args.in = from;
    args.up = up_;
    args.down = down_;
    args.per_row = kPerRow;
    args.chosen = make_array(std::vector<std::int32_t>(chosen.begin() + first * kPerRow,
                                                       chosen.begin() + (first + rows) * kPerRow));
    args.weights = make_array(std::vector<float>(static_cast<std::size_t>(pairs), 0.5f));
    args.order = make_array(std::vector<std::int32_t>(static_cast<std::size_t>(pairs) + up_.size() + 1));
    args.gathered = gathered;
    args.raised = raised;
    args.gated = gated;
    args.lowered = lowered;
    args.residual = args.out = out;
    stream_->experts(args);
    return read(out).values;
  }

  /// One expert on one row, by the operations that make it up.
  std::vector<float> expert(const HostData& in, std::size_t index) {
    const DeviceMatrix from = make_matrix(in);
    const DeviceMatrix raised = make_matrix(1, up_[index]->rows(), in.dtype);
    const DeviceMatrix gated = make_matrix(1, down_[index]->cols(), in.dtype);
    const DeviceMatrix out = make_matrix(1, kHidden, DType::kF32);
    LinearArgs raise{};
    raise.in = from;
    raise.weight = up_[index].get();
    raise.out = raised;
    stream_->linear(raise);
    stream_->gated_activation({Activation::kSilu, raised, gated});
    LinearArgs lower{};
    lower.in = gated;
    lower.weight = down_[index].get();
    lower.out = out;
    stream_->linear(lower);
    return read(out).values;
  }

  static HostData slice(const HostData& data, std::int64_t first, std::int64_t rows) {
    const auto begin = data.values.begin() + first * data.cols;
    return {data.dtype, rows, data.cols, std::vector<float>(begin, begin + rows * data.cols)};
  }

  std::vector<std::unique_ptr<Weight>> up_, down_;
};
INSTANTIATE_TEST_SUITE_P(Devices, Int8ExpertsTest, ::testing::ValuesIn(device_cases()), case_name);

TEST_P(Int8ExpertsTest, HaveTheProductsOfLinearWhateverOtherRowsThereAre) {
  make_experts();
  for (const DType compute : kComputeTypes) {
    const HostData in = random_data(random_, kRows, kHidden, compute);
    std::vector<std::int32_t> chosen;
    for (std::int32_t row = 0; row < kRows; ++row) {
      chosen.push_back(row % 3);
      chosen.push_back(row % 5 == 0 ? 3 : (row + 1) % 3);
    }
    const std::vector<float> all = experts(in, chosen, 0, kRows);
    for (std::int64_t row = 0; row < kRows; row += 4) {
      const auto pair = static_cast<std::size_t>(row * kPerRow);
      const auto first = expert(slice(in, row, 1), static_cast<std::size_t>(chosen[pair]));
      const auto second = expert(slice(in, row, 1), static_cast<std::size_t>(chosen[pair + 1]));
      for (std::int64_t col = 0; col < kHidden; ++col) {
        const auto at = static_cast<std::size_t>(col);
        ASSERT_EQ(all[static_cast<std::size_t>(row * kHidden) + at], 0.5f * first[at] + 0.5f * second[at])
            << "row " << row << ", column " << col << " of " << core::to_string(compute);
      }
    }
    for (const std::int64_t rows : {1, 2, 7, 33}) {
      const std::int64_t first = rows * 31 % (kRows - rows + 1);
      const std::vector<float> part = experts(in, chosen, first, rows);
      EXPECT_TRUE(std::equal(part.begin(), part.end(), all.begin() + first * kHidden)) << rows << " rows";
    }
  }
}

}  // namespace
}  // namespace peregrine::ops::testing
