// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>

#include "ops_cpu/harness.h"

namespace peregrine::ops::cpu::test {
namespace {

using core::DType;

struct TypePair {
  DType weight, activation;
};
constexpr TypePair kPairs[] = {{DType::kF32, DType::kF32},  {DType::kF32, DType::kBF16},
                               {DType::kF16, DType::kF32},  {DType::kF16, DType::kBF16},
                               {DType::kBF16, DType::kF32}, {DType::kBF16, DType::kBF16}};

/// The product of two exact matrices with a bound on what float32 sums of K terms in any fixed order may be
/// off by: each of at most 2 K roundings is within half an ulp of a partial sum, which is at most the sum of
/// magnitudes.
struct Expected {
  double value, bound;
};
Expected exact(const Values& in, const Values& weight, std::int64_t row, std::int64_t column) {
  double sum = 0, magnitude = 0;
  for (std::int64_t k = 0; k < in.cols; ++k) {
    const double product = double{in.at(row, k)} * double{weight.at(column, k)};
    sum += product;
    magnitude += std::abs(product);
  }
  return {sum, 2.0 * static_cast<double>(in.cols) * kHalfUlp * magnitude + 1e-35};
}

class LinearOnIsa : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Cpu, LinearOnIsa, ::testing::ValuesIn(available_isas()),
                         [](const auto& info) { return info.param; });

std::vector<float> multiply(Harness& harness, const Values& in, const Weight& weight,
                            DType out_type = DType::kF32) {
  LinearArgs args;
  args.in = harness.put(in);
  args.weight = &weight;
  args.out = harness.make(in.rows, weight.rows(), out_type);
  harness.stream->linear(args);
  return harness.get(args.out);
}

Values rows_of(const Values& all, std::int64_t begin, std::int64_t count) {
  const auto first = all.floats.begin() + begin * all.cols;
  return values_of(count, all.cols, all.type, {first, first + count * all.cols});
}

TEST_P(LinearOnIsa, MatchesDoublePrecisionForOddShapes) {
  Harness harness(GetParam());
  for (const TypePair& types : kPairs) {
    for (const std::int64_t k : {1, 7, 50, 331}) {
      for (const std::int64_t n : {1, 5, 131}) {
        const Values weight = random_values(n, k, types.weight, 1);
        const auto packed = harness.pack(weight);
        for (const std::int64_t m : {1, 2, 6, 7, 33}) {
          const Values in = random_values(m, k, types.activation, 2);
          const std::vector<float> out = multiply(harness, in, *packed);
          for (std::int64_t row = 0; row < m; ++row) {
            for (std::int64_t column = 0; column < n; ++column) {
              const Expected expected = exact(in, weight, row, column);
              ASSERT_NEAR(out[static_cast<std::size_t>(row * n + column)], expected.value, expected.bound)
                  << core::to_string(types.weight) << " * " << core::to_string(types.activation) << ", K "
                  << k << ", N " << n << ", M " << m << " at " << row << ", " << column;
            }
          }
        }
      }
    }
  }
}

TEST_P(LinearOnIsa, MatchesDoublePrecisionAtRealWidth) {
  Harness harness(GetParam());
  for (const TypePair& types : kPairs) {
    const Values weight = random_values(131, 4544, types.weight, 3);
    const auto packed = harness.pack(weight);
    const Values in = random_values(257, 4544, types.activation, 4);
    const std::vector<float> out = multiply(harness, in, *packed);
    for (std::int64_t row = 0; row < in.rows; row += 37) {
      for (std::int64_t column = 0; column < 131; ++column) {
        const Expected expected = exact(in, weight, row, column);
        ASSERT_NEAR(out[static_cast<std::size_t>(row * 131 + column)], expected.value, expected.bound);
      }
    }
  }
}

TEST_P(LinearOnIsa, RowsAreTheSameBitsAloneAndInAnyBatch) {
  Harness two(GetParam(), 2), one(GetParam(), 1);
  constexpr std::int64_t kWidth = 4544, kColumns = 131;
  for (const TypePair& types : kPairs) {
    const Values weight = random_values(kColumns, kWidth, types.weight, 5);
    const auto packed_two = two.pack(weight), packed_one = one.pack(weight);
    const Values in = random_values(600, kWidth, types.activation, 6);
    const std::vector<float> all = multiply(two, in, *packed_two);
    EXPECT_EQ(all, multiply(one, in, *packed_one)) << "one thread differs from two";
    for (const std::int64_t count : {1, 2, 6, 7, 13, 25, 33, 257}) {
      const std::int64_t first = 600 - count;
      const std::vector<float> part = multiply(two, rows_of(in, first, count), *packed_two);
      const std::vector<float> same(all.begin() + first * kColumns, all.end());
      ASSERT_EQ(part, same) << core::to_string(types.weight) << " * " << core::to_string(types.activation)
                            << ": " << count << " rows differ from the same among 600";
    }
  }
}

TEST_P(LinearOnIsa, StridesBiasActivationResidualAndRounding) {
  Harness harness(GetParam());
  const std::int64_t m = 9, k = 40, n = 37;
  const Values weight = random_values(n, k, DType::kBF16, 7, 0.3f);
  const auto packed = harness.pack(weight);
  const Values wide_in = random_values(m, k + 3, DType::kBF16, 8);
  const Values bias = random_values(1, n, DType::kF32, 9), residual = random_values(m, n, DType::kF32, 10);
  const auto phi = [](double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); };
  LinearArgs args;
  args.in = harness.put(wide_in).columns(2, k);
  args.weight = packed.get();
  args.bias = harness.put(bias.floats);
  args.activation = Activation::kGelu;
  args.residual = harness.put(residual);
  args.out = args.residual;  // in place
  harness.stream->linear(args);
  const std::vector<float> out = harness.get(args.out);
  args.residual = harness.put(residual);
  const Matrix wide_out = harness.make(m, n + 5, DType::kBF16);
  args.out = wide_out.columns(4, n);
  harness.stream->linear(args);
  const std::vector<float> narrow = harness.get(wide_out);
  for (std::int64_t row = 0; row < m; ++row) {
    for (std::int64_t column = 0; column < n; ++column) {
      double sum = bias.at(0, column), magnitude = std::abs(sum);
      for (std::int64_t i = 0; i < k; ++i) {
        const double product = double{wide_in.at(row, i + 2)} * double{weight.at(column, i)};
        sum += product;
        magnitude += std::abs(product);
      }
      const double expected = sum * phi(sum) + double{residual.at(row, column)};
      // The slope of GELU is below 1.13; 8 ulp for its own evaluation and the two sums.
      const double bound = 1.13 * 2 * (k + 1) * kHalfUlp * magnitude +
                           16 * kHalfUlp * (std::abs(expected) + std::abs(sum) + 1);
      const float value = out[static_cast<std::size_t>(row * n + column)];
      ASSERT_NEAR(value, expected, bound);
      ASSERT_EQ(narrow[static_cast<std::size_t>(row * (n + 5) + column + 4)],
                core::to_float(core::to_bfloat16(value)));
    }
    for (const std::int64_t outside : {0, 3, 41}) {
      ASSERT_EQ(narrow[static_cast<std::size_t>(row * (n + 5) + outside)], 0.0f)
          << "written beside the output";
    }
  }
}

TEST_P(LinearOnIsa, PackingTakesPartsTypesAndStrides) {
  Harness harness(GetParam());
  const std::int64_t k = 19;
  const Values first = random_values(5, k, DType::kF32, 11), second = random_values(30, k, DType::kF16, 12);
  // Stored column by column.
  std::vector<float> turned(static_cast<std::size_t>(7 * k));
  const Values third = random_values(7, k, DType::kF32, 13);
  for (std::int64_t r = 0; r < 7; ++r) {
    for (std::int64_t c = 0; c < k; ++c) turned[static_cast<std::size_t>(c * 7 + r)] = third.at(r, c);
  }
  const HostMatrix parts[] = {first.host(),
                              second.host(),
                              {reinterpret_cast<const std::byte*>(turned.data()), DType::kF32, 7, k, 1, 7}};
  std::vector<float> together = first.floats;
  together.insert(together.end(), second.floats.begin(), second.floats.end());
  together.insert(together.end(), third.floats.begin(), third.floats.end());
  for (const DType type : {DType::kF32, DType::kF16, DType::kBF16}) {
    const Values expected = values_of(42, k, type, together);
    for (const WeightUse use : {WeightUse::kLinear, WeightUse::kRows}) {
      const auto packed = harness.device->pack(parts, type, use);
      ASSERT_EQ(packed->rows(), 42);
      EmbedArgs args;
      std::vector<std::int32_t> ids(44);
      for (std::int32_t i = 0; i < 42; ++i) ids[static_cast<std::size_t>(i)] = 41 - i;
      ids[42] = 42;  // outside the table
      ids[43] = ~1;  // the second slot's token
      args.token_ids = harness.put(ids);
      args.slot_tokens = harness.put(std::vector<std::int32_t>{0, 17});
      args.table = packed.get();
      args.scale = 0.5f;
      args.out = harness.make(44, k, DType::kF32);
      harness.stream->embed(args);
      const std::vector<float> out = harness.get(args.out);
      for (std::int64_t row = 0; row < 44; ++row) {
        for (std::int64_t c = 0; c < k; ++c) {
          const float value = row == 42 ? 0.0f : 0.5f * expected.at(row == 43 ? 17 : 41 - row, c);
          ASSERT_EQ(out[static_cast<std::size_t>(row * k + c)], value)
              << core::to_string(type) << " row " << row;
        }
      }
    }
    const auto linear = harness.device->pack(parts, type, WeightUse::kLinear);
    const Values in = random_values(3, k, DType::kF32, 14);
    EXPECT_EQ(multiply(harness, in, *linear), multiply(harness, in, *harness.pack(expected)));
  }
}

TEST_P(LinearOnIsa, NothingBehindTheLastColumnReachesAResult) {
  Harness harness(GetParam());
  const std::int64_t k = 7, n = 3;
  for (const TypePair& types : kPairs) {
    const Values weight = random_values(n, k, types.weight, 15);
    const auto packed = harness.pack(weight);
    const Values in = random_values(2, k, types.activation, 16);
    std::vector<float> poisoned(2 * (k + 1), NAN);
    for (std::int64_t row = 0; row < 2; ++row) {
      for (std::int64_t c = 0; c < k; ++c)
        poisoned[static_cast<std::size_t>(row * (k + 1) + c)] = in.at(row, c);
    }
    LinearArgs args;
    args.in = harness.put(values_of(2, k + 1, types.activation, poisoned)).columns(0, k);
    args.weight = packed.get();
    args.out = harness.make(2, n, DType::kF32);
    harness.stream->linear(args);
    EXPECT_EQ(harness.get(args.out), multiply(harness, in, *packed));
  }
}

TEST_P(LinearOnIsa, OneKernelForEveryShape) {
  Harness harness(GetParam());
  const auto name = [&](DType weight, DType activation, std::int64_t n, std::int64_t k) {
    return harness.device->linear_kernel(*harness.pack(random_values(n, k, weight, 17)), activation);
  };
  const bool wide = GetParam() != "plain";
  const std::string tile = wide ? "tile64x6" : "tile64x2";
  const std::string arithmetic = wide ? "fma" : "mul+add";
  const std::string dot = GetParam() == "avx512_bf16" ? "dot" : arithmetic;
  EXPECT_EQ(name(DType::kBF16, DType::kBF16, 5, 7),
            "linear bf16*bf16 " + GetParam() + " panel16 " + tile + " " + dot);
  EXPECT_EQ(name(DType::kBF16, DType::kBF16, 64, 64), name(DType::kBF16, DType::kBF16, 1, 1));
  EXPECT_EQ(name(DType::kF16, DType::kF32, 5, 7),
            "linear f16*f32 " + GetParam() + " panel16 " + tile + " " + arithmetic);
  const bool bytes = GetParam() == "avx512_vnni" || GetParam() == "avx512_bf16";
  const Values values = random_values(5, 7, DType::kBF16, 18);
  const HostMatrix host = values.host();
  const auto int8 = harness.device->pack({&host, 1}, DType::kI8, WeightUse::kLinear);
  EXPECT_EQ(harness.device->linear_kernel(*int8, DType::kBF16),
            "linear int8*int8 " + GetParam() + " panel16 " + tile + (bytes ? " dot" : " mul+add"));
}

}  // namespace
}  // namespace peregrine::ops::cpu::test
