// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>

#include "core/float16.h"
#include "ops/support.h"

namespace peregrine::ops::testing {
namespace {

constexpr DType kWeightTypes[] = {DType::kF32, DType::kF16, DType::kBF16};
constexpr DType kComputeTypes[] = {DType::kF32, DType::kBF16};
constexpr Activation kActivations[] = {Activation::kNone, Activation::kGelu, Activation::kGeluTanh,
                                       Activation::kSilu, Activation::kRelu, Activation::kTanh};

double activate(Activation activation, double x) {
  switch (activation) {
    case Activation::kGelu:
      return x * 0.5 * std::erfc(-x / std::numbers::sqrt2);
    case Activation::kGeluTanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
    case Activation::kSilu:
      return x / (1 + std::exp(-x));
    case Activation::kRelu:
      return std::max(x, 0.0);
    case Activation::kTanh:
      return std::tanh(x);
    default:
      return x;
  }
}

/// An error of x grows at most by the steepest slope (gelu's, 1.13); the function itself is good to 8 u |x|.
Expected activate(Activation activation, const Expected& x) {
  if (activation == Activation::kNone) return x;
  return {activate(activation, x.value), 1.13 * x.error + 8 * kUnit32 * std::abs(x.value)};
}

struct LinearCase {
  std::int64_t rows;
  std::int64_t n;
  std::int64_t k;
  DType in = DType::kF32;
  DType weight = DType::kF32;
  DType out = DType::kF32;
  Activation activation = Activation::kNone;
  bool bias = false;
  enum { kNoResidual, kSeparate, kInPlace } residual = kNoResidual;
  double soft_cap = 0;
};

struct LinearData {
  HostData in;
  HostData weight;
  HostData bias;
  HostData residual;
};

/// Bound: the sum over K (sum_error), the bias' addition, the activation, the residual's addition, storing.
std::vector<Expected> oracle(const LinearCase& c, const LinearData& data) {
  std::vector<Expected> expected;
  for (std::int64_t row = 0; row < c.rows; ++row) {
    for (std::int64_t col = 0; col < c.n; ++col) {
      double sum = 0;
      double magnitude = 0;
      for (std::int64_t k = 0; k < c.k; ++k) {
        const double product = double{data.in.at(row, k)} * data.weight.at(col, k);
        sum += product;
        magnitude += std::abs(product);
      }
      Expected value{sum, sum_error(static_cast<double>(c.k)) * magnitude};
      if (c.bias) {
        value.value += data.bias.at(0, col);
        value.error += 2 * kUnit32 * std::abs(value.value);
      }
      value = activate(c.activation, value);
      if (c.soft_cap > 0) {
        // Its slope is at most 1. The division's rounding, and 12 u for the function and the product.
        value.error += kUnit32 * std::abs(value.value);
        value.value = c.soft_cap * std::tanh(value.value / c.soft_cap);
        value.error += 12 * kUnit32 * std::abs(value.value);
      }
      if (c.residual != LinearCase::kNoResidual) {
        value.value += data.residual.at(row, col);
        value.error += 2 * kUnit32 * std::abs(value.value);
      }
      expected.push_back(value.stored_as(c.out));
    }
  }
  return expected;
}

class LinearTest : public DeviceTest {
 protected:
  LinearData random_inputs(const LinearCase& c) {
    const auto deviation = static_cast<float>(1 / std::sqrt(static_cast<double>(c.k)));
    return {random_data(random_, c.rows, c.k, c.in), random_data(random_, c.n, c.k, c.weight, deviation),
            random_data(random_, 1, c.n, DType::kF32), random_data(random_, c.rows, c.n, DType::kF32)};
  }

  std::vector<float> run(const LinearCase& c, const LinearData& data) {
    const auto weight = pack(data.weight, c.weight);
    const DeviceMatrix in = make_matrix(data.in, 3);
    const bool in_place = c.residual == LinearCase::kInPlace;
    const DeviceMatrix residual = make_matrix(data.residual, 1);
    const DeviceMatrix out = in_place ? make_matrix(data.residual, 5) : make_matrix(c.rows, c.n, c.out, 5);
    LinearArgs args{
        .in = in, .weight = weight.get(), .bias = {}, .activation = c.activation, .residual = {}, .out = out};
    args.soft_cap = static_cast<float>(c.soft_cap);
    if (c.bias) args.bias = make_array(data.bias.values);
    if (c.residual != LinearCase::kNoResidual) args.residual = in_place ? out.matrix : residual.matrix;
    stream_->linear(args);
    EXPECT_EQ(read(in).values, data.in.values) << "the input was written to";
    return read(out).values;
  }

  void check(const LinearCase& c) {
    const LinearData data = random_inputs(c);
    expect_within(run(c, data), oracle(c, data),
                  std::string("linear of ") + std::to_string(c.rows) + " x " + std::to_string(c.n) + " x " +
                      std::to_string(c.k) + ", " + core::to_string(c.in) + " x " + core::to_string(c.weight) +
                      " to " + core::to_string(c.out));
  }
};
INSTANTIATE_TEST_SUITE_P(Devices, LinearTest, ::testing::ValuesIn(device_cases()), case_name);

TEST_P(LinearTest, EveryTypeWithinItsBound) {
  for (const DType in : kComputeTypes) {
    for (const DType weight : kWeightTypes) {
      for (const DType out : kComputeTypes) {
        check({1, 1, 1, in, weight, out});
        check({1, 33, 64, in, weight, out, Activation::kNone, true});
        check({7, 20, 31, in, weight, out, Activation::kSilu, false, LinearCase::kSeparate});
        check({33, 71, 100, in, weight, out, Activation::kGelu, true});
      }
    }
  }
}

TEST_P(LinearTest, RealWidthsWithinTheirBound) {
  for (const DType in : kComputeTypes) {
    for (const DType weight : kWeightTypes) {
      check({1, 96, 4544, in, weight, DType::kF32});
      check({5, 130, 1030, in, weight, DType::kF32, Activation::kNone, true, LinearCase::kInPlace});
    }
  }
}

TEST_P(LinearTest, EveryActivationWithBiasAndResidual) {
  for (const Activation activation : kActivations) {
    for (const bool bias : {false, true}) {
      for (const auto residual : {LinearCase::kNoResidual, LinearCase::kSeparate, LinearCase::kInPlace}) {
        check({3, 37, 40, DType::kF32, DType::kF32, DType::kF32, activation, bias, residual});
      }
    }
  }
}

TEST_P(LinearTest, SoftCapOfSmallAndLargeNumbers) {
  for (const double cap : {0.0625, 1.0, 30.0}) {
    for (const DType type : {DType::kF32, DType::kBF16}) {
      LinearCase c{3, 37, 40, type, type, DType::kF32, Activation::kNone, true, LinearCase::kSeparate};
      c.soft_cap = cap;
      check(c);
    }
  }
  const std::vector<float> inputs = {-3e38f, -1e4f, -19.f, -1e-3f, -1e-30f, 0.f, 1e-30f, 0.6f, 19.f, 1e12f};
  const auto rows = static_cast<std::int64_t>(inputs.size());
  const HostData one{DType::kF32, 1, 1, {1.0f}};
  LinearCase c{rows, 1, 1};
  c.soft_cap = 1.0;
  const LinearData data{{DType::kF32, rows, 1, inputs}, one, one, {DType::kF32, rows, 1, inputs}};
  // Out there the sum's bound grows with the input, the capped value does not.
  std::vector<Expected> expected;
  for (const float input : inputs) {
    const double value = std::tanh(double{input});
    expected.push_back({value, 8 * kUnit32 * std::abs(value)});
  }
  expect_within(run(c, data), expected, "soft cap");
}

// Far out the activations must go to x, or to zero, and not to NaN.
TEST_P(LinearTest, ActivationsOfLargeNumbers) {
  const std::vector<float> inputs = {-3e38f, -1e4f, -200.f, -90.f, -30.f, -8.f,  -1e-3f, -1e-30f, 0.f,
                                     1e-30f, 1e-3f, 8.f,    30.f,  90.f,  200.f, 1e4f,   1e12f};
  const auto rows = static_cast<std::int64_t>(inputs.size());
  for (const Activation activation : kActivations) {
    const LinearCase c{rows, 1, 1, DType::kF32, DType::kF32, DType::kF32, activation};
    const HostData one{DType::kF32, 1, 1, {1.0f}};
    const LinearData data{{DType::kF32, rows, 1, inputs}, one, one, {DType::kF32, rows, 1, inputs}};
    expect_within(run(c, data), oracle(c, data),
                  "activation " + std::to_string(static_cast<int>(activation)));
  }
}

// Small integers are exact in every type and order: any element that is misplaced, lost in a tail or counted
// twice shows.
TEST_P(LinearTest, IntegersAreExactInEveryShape) {
  std::uniform_int_distribution<int> digits(-4, 4);
  for (const std::int64_t n : {1, 2, 15, 16, 17, 31, 48, 63, 65, 130}) {
    for (const std::int64_t k : {1, 2, 3, 16, 31, 33, 65, 127, 260}) {
      const std::int64_t rows = 1 + (n * 7 + k * 3) % 19;
      for (const DType in : kComputeTypes) {
        for (const DType type : kWeightTypes) {
          LinearData data{
              {in, rows, k, {}}, {type, n, k, {}}, {DType::kF32, 1, n, {}}, {DType::kF32, rows, n, {}}};
          for (HostData* part : {&data.in, &data.weight, &data.bias, &data.residual}) {
            part->values.resize(static_cast<std::size_t>(part->rows * part->cols));
            for (float& value : part->values) value = static_cast<float>(digits(random_));
          }
          const LinearCase c{
              rows, n, k, in, type, DType::kF32, Activation::kNone, true, LinearCase::kSeparate};
          const std::vector<Expected> expected = oracle(c, data);
          const std::vector<float> found = run(c, data);
          for (std::size_t i = 0; i < found.size(); ++i) {
            ASSERT_EQ(found[i], expected[i].value)
                << rows << " x " << n << " x " << k << ", " << core::to_string(in) << " x "
                << core::to_string(type) << ", element " << i;
          }
        }
      }
    }
  }
}

TEST_P(LinearTest, ReadsDenormalFloat16Weights) {
  const LinearCase c{2, 9, 24, DType::kF32, DType::kF16};
  LinearData data = random_inputs(c);
  data.weight = random_data(random_, c.n, c.k, DType::kF16, 1e-6f);
  expect_within(run(c, data), oracle(c, data), "denormal weights");
}

// The query columns of a fused matrix, as attention's output projection and parallel blocks read and write
// them.
TEST_P(LinearTest, WritesAndReadsColumnsOfWiderMatrices) {
  const HostData wide = random_data(random_, 4, 70, DType::kF32);
  const HostData weights = random_data(random_, 24, 30, DType::kF32);
  const auto weight = pack(weights, DType::kF32);
  const DeviceMatrix matrix = make_matrix(wide);
  LinearArgs args{};
  args.in = matrix.matrix.columns(5, 30);
  args.weight = weight.get();
  args.out = matrix.matrix.columns(41, 24);
  stream_->linear(args);
  const HostData found = read(matrix);
  for (std::int64_t row = 0; row < 4; ++row) {
    for (std::int64_t col = 0; col < 70; ++col) {
      double expected = wide.at(row, col);
      double error = 0;
      if (col >= 41 && col < 65) {
        expected = 0;
        for (std::int64_t k = 0; k < 30; ++k) {
          expected += double{wide.at(row, 5 + k)} * weights.at(col - 41, k);
          error += sum_error(30) * std::abs(double{wide.at(row, 5 + k)} * weights.at(col - 41, k));
        }
      }
      ASSERT_NEAR(found.at(row, col), expected, error) << row << ", " << col;
    }
  }
}

// Parts of different types, one transposed, one at an odd address: their rows follow each other in the
// weight.
TEST_P(LinearTest, PacksPartsInOrder) {
  const HostData first = random_data(random_, 5, 35, DType::kBF16);
  const HostData second = random_data(random_, 35, 17, DType::kF32);
  const HostData third = random_data(random_, 3, 35, DType::kF16);
  std::vector<std::byte> bytes(1 + (5 + 3) * 35 * 2);
  std::byte* const odd = bytes.data() + 1;
  for (std::size_t i = 0; i < first.values.size(); ++i) {
    const core::BFloat16 value = core::to_bfloat16(first.values[i]);
    std::memcpy(odd + 2 * i, &value, 2);
  }
  std::byte* const halves = odd + 5 * 35 * 2;
  for (std::size_t i = 0; i < third.values.size(); ++i) {
    const core::Float16 value = core::to_float16(third.values[i]);
    std::memcpy(halves + 2 * i, &value, 2);
  }
  const HostMatrix parts[] = {
      {odd, DType::kBF16, 5, 35, 35, 1},
      {reinterpret_cast<const std::byte*>(second.values.data()), DType::kF32, 17, 35, 1, 17},
      {halves, DType::kF16, 3, 35, 35, 1},
  };
  const auto element = [&](std::int64_t row, std::int64_t col) {
    if (row < 5) return first.at(row, col);
    return row < 22 ? second.at(col, row - 5) : third.at(row - 22, col);
  };
  std::vector<std::int32_t> all_rows(25);
  for (std::int32_t i = 0; i < 25; ++i) all_rows[i] = i;
  HostData identity{DType::kF32, 35, 35, std::vector<float>(35 * 35)};
  for (std::int64_t i = 0; i < 35; ++i) identity.at(i, i) = 1.0f;
  for (const DType dtype : kWeightTypes) {
    for (const WeightUse use : {WeightUse::kLinear, WeightUse::kRows}) {
      const auto weight = device_->pack(parts, dtype, use);
      EXPECT_EQ(weight->rows(), 25);
      EXPECT_EQ(weight->cols(), 35);
      EXPECT_EQ(weight->dtype(), dtype);
      EXPECT_EQ(weight->use(), use);
      EXPECT_GE(weight->bytes(), 25 * 35 * core::size_of(dtype));
      const DeviceMatrix rows = make_matrix(25, 35, DType::kF32);
      stream_->embed({make_array(all_rows), {}, weight.get(), 1.0f, rows});
      const HostData found = read(rows);
      for (std::int64_t i = 0; i < 25 * 35; ++i) {
        ASSERT_EQ(found.values[i], as_stored(element(i / 35, i % 35), dtype))
            << i << " of " << core::to_string(dtype);
      }
      if (use == WeightUse::kRows) continue;
      const DeviceMatrix in = make_matrix(identity);
      const DeviceMatrix columns = make_matrix(35, 25, DType::kF32);
      LinearArgs args{};
      args.in = in;
      args.weight = weight.get();
      args.out = columns;
      stream_->linear(args);
      const HostData transposed = read(columns);
      for (std::int64_t row = 0; row < 25; ++row) {
        for (std::int64_t col = 0; col < 35; ++col) ASSERT_EQ(transposed.at(col, row), found.at(row, col));
      }
    }
  }
}

TEST_P(LinearTest, GatedActivation) {
  for (const Activation activation : kActivations) {
    for (const std::int64_t width : {1, 16, 33, 684}) {
      for (const DType in : kComputeTypes) {
        for (const DType out : kComputeTypes) {
          const HostData data = random_data(random_, 3, 2 * width, in, 2.0f);
          const DeviceMatrix from = make_matrix(data, 1);
          const DeviceMatrix to = make_matrix(3, width, out, 2);
          stream_->gated_activation({activation, from, to});
          std::vector<Expected> expected;
          for (std::int64_t i = 0; i < 3 * width; ++i) {
            const std::int64_t row = i / width;
            const double factor = data.at(row, width + i % width);
            const Expected gate = activate(activation, Expected{data.at(row, i % width), 0});
            const double error = (gate.error + 2 * kUnit32 * std::abs(gate.value)) * std::abs(factor);
            expected.push_back(Expected{gate.value * factor, error}.stored_as(out));
          }
          expect_within(read(to).values, expected, "gated activation of " + std::to_string(width));
        }
      }
    }
  }
}

}  // namespace
}  // namespace peregrine::ops::testing
