// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>

#include "ops_cpu/harness.h"

namespace peregrine::ops::cpu::test {
namespace {

using core::DType;

class ActivationOnIsa : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Cpu, ActivationOnIsa, ::testing::ValuesIn(available_isas()),
                         [](const auto& info) { return info.param; });

/// Runs `activation` over x, with 1 as the other half of the gate.
std::vector<float> apply(Harness& harness, Activation activation, const std::vector<float>& x) {
  const auto n = static_cast<std::int64_t>(x.size());
  std::vector<float> both = x;
  both.resize(2 * x.size(), 1.0f);
  GatedActivationArgs args;
  args.activation = activation;
  args.in = harness.put(values_of(1, 2 * n, DType::kF32, both));
  args.out = harness.make(1, n, DType::kF32);
  harness.stream->gated_activation(args);
  return harness.get(args.out);
}

double exact(Activation activation, double x) {
  switch (activation) {
    case Activation::kGelu:
      return x * 0.5 * std::erfc(-x / std::sqrt(2.0));
    case Activation::kGeluTanh: {
      const double u = std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
      return x / (1 + std::exp(-2 * u));
    }
    case Activation::kSilu:
      return x / (1 + std::exp(-x));
    case Activation::kRelu:
      return x > 0 ? x : 0;
    case Activation::kTanh:
      return std::tanh(x);
    case Activation::kNone:
      return x;
  }
  return 0;
}

TEST_P(ActivationOnIsa, FollowTheirFormulas) {
  Harness harness(GetParam());
  std::vector<float> x;
  for (int i = -24000; i <= 24000; ++i) x.push_back(static_cast<float>(i) / 2000.0f);
  for (const float value : {0.0f, 1e-30f, -1e-30f, 1e-6f, 50.0f, -50.0f, 200.0f, -200.0f, 3e38f})
    x.push_back(value);
  for (const Activation activation : {Activation::kNone, Activation::kGelu, Activation::kGeluTanh,
                                      Activation::kSilu, Activation::kRelu, Activation::kTanh}) {
    const std::vector<float> y = apply(harness, activation, x);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double expected = exact(activation, x[i]);
      // 8 half-ulps of the result; where an exponential of a rounded argument a is a factor, a half-ulps
      // more. a is at most x^2 / 2, 1.6 (x + 0.045 x^3) or x; below e^-87 the exponential is 0 by definition.
      const double square = double{x[i]} * double{x[i]};
      const double argument = activation == Activation::kGeluTanh
                                  ? 4 * std::abs(x[i]) + 0.3 * square * std::abs(x[i])
                                  : square + std::abs(x[i]);
      const double bound =
          (8 + (x[i] < 0 ? 2 * std::min(argument, 200.0) : 0)) * kHalfUlp * std::abs(expected) + 4e-36;
      ASSERT_NEAR(y[i], expected, bound) << "activation " << static_cast<int>(activation) << " of " << x[i];
    }
  }
}

TEST_P(ActivationOnIsa, KeepNotANumber) {
  Harness harness(GetParam());
  for (const Activation activation :
       {Activation::kGelu, Activation::kGeluTanh, Activation::kSilu, Activation::kRelu, Activation::kTanh}) {
    EXPECT_TRUE(std::isnan(apply(harness, activation, {NAN, 1.0f})[0]));
  }
}

TEST_P(ActivationOnIsa, GateMultipliesInEveryType) {
  Harness harness(GetParam());
  for (const DType in_type : {DType::kF32, DType::kBF16}) {
    for (const DType out_type : {DType::kF32, DType::kF16, DType::kBF16}) {
      const std::int64_t n = 2500, m = 5;
      const Values in = random_values(m, 2 * n, in_type, 20);
      GatedActivationArgs args;
      args.in = harness.put(in);
      args.out = harness.make(m, n, out_type);
      harness.stream->gated_activation(args);
      const std::vector<float> out = harness.get(args.out);
      const double ulp = out_type == DType::kF32 ? 0x1p-23 : out_type == DType::kF16 ? 0x1p-10 : 0x1p-7;
      for (std::int64_t row = 0; row < m; ++row) {
        for (std::int64_t c = 0; c < n; ++c) {
          const double expected = exact(Activation::kSilu, in.at(row, c)) * in.at(row, n + c);
          ASSERT_NEAR(out[static_cast<std::size_t>(row * n + c)], expected,
                      (0.5 * ulp + 10 * kHalfUlp) * std::abs(expected) + 0x1p-25);
        }
      }
    }
  }
}

TEST_P(ActivationOnIsa, NormsMatchDoublePrecision) {
  Harness harness(GetParam());
  for (const std::int64_t width : {1, 7, 16, 50, 4544}) {
    const Values in = random_values(5, width, DType::kF32, 21),
                 weight = random_values(1, width, DType::kF32, 22),
                 bias = random_values(1, width, DType::kF32, 23);
    for (const NormKind kind : {NormKind::kLayer, NormKind::kRms}) {
      NormArgs args;
      args.kind = kind;
      args.in = harness.put(in);
      args.row_index = harness.put(std::vector<std::int32_t>{4, 0});
      args.weight = harness.put(weight.floats);
      if (kind == NormKind::kLayer) args.bias = harness.put(bias.floats);
      args.out = harness.make(2, width, DType::kF32);
      harness.stream->norm(args);
      const std::vector<float> out = harness.get(args.out);
      for (std::int64_t row = 0; row < 2; ++row) {
        const std::int64_t source = row == 0 ? 4 : 0;
        double mean = 0, squares = 0;
        for (std::int64_t c = 0; c < width && kind == NormKind::kLayer; ++c) mean += in.at(source, c);
        mean /= static_cast<double>(width);
        for (std::int64_t c = 0; c < width; ++c)
          squares += (in.at(source, c) - mean) * (in.at(source, c) - mean);
        const double factor = 1 / std::sqrt(squares / static_cast<double>(width) + 1e-5);
        for (std::int64_t c = 0; c < width; ++c) {
          double expected = (in.at(source, c) - mean) * factor * weight.at(0, c);
          if (kind == NormKind::kLayer) expected += bias.at(0, c);
          // Sums of width / 16 + 4 roundings, relative to values of order 5 at most.
          const double bound =
              (static_cast<double>(width) / 16 + 20) * kHalfUlp * 8 * (std::abs(weight.at(0, c)) + 1);
          ASSERT_NEAR(out[static_cast<std::size_t>(row * width + c)], expected, width == 1 ? 1e-3 : bound);
        }
      }
    }
  }
}

}  // namespace
}  // namespace peregrine::ops::cpu::test
