// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>

#include "ops/support.h"

namespace peregrine::ops::testing {
namespace {

class EmbedTest : public DeviceTest {};
INSTANTIATE_TEST_SUITE_P(Devices, EmbedTest, ::testing::ValuesIn(device_cases()), case_name);

TEST_P(EmbedTest, LooksUpScaledRowsOfEveryTypeAndLayout) {
  const std::vector<std::int32_t> tokens = {3, 0, 49, 3, 17};
  for (const std::int64_t width : {1, 31, 64, 100}) {
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
      for (const WeightUse use : {WeightUse::kRows, WeightUse::kLinear}) {
        const HostData table = random_data(random_, 50, width, dtype);
        const auto weight = pack(table, dtype, use);
        const DeviceMatrix out = make_matrix(5, width, DType::kF32, 3);
        stream_->embed({make_array(tokens), {}, weight.get(), 0.3f, out});
        const HostData found = read(out);
        for (std::int64_t row = 0; row < 5; ++row) {
          for (std::int64_t col = 0; col < width; ++col) {
            ASSERT_EQ(found.at(row, col), 0.3f * table.at(tokens[row], col))
                << "row " << row << ", column " << col;
          }
        }
      }
    }
  }
}

TEST_P(EmbedTest, ReadsSampledTokensFromSlotsAndZerosOutsideTheTable) {
  const HostData table = random_data(random_, 9, 20, DType::kBF16);
  const auto weight = pack(table, DType::kBF16, WeightUse::kRows);
  const Ints slots = make_array<std::int32_t>({4, 8, -1, 1'000'000});
  // Slots 1, 0, 2 and 3; then ids behind the table; then a plain id.
  const Ints tokens = make_array<std::int32_t>({~1, ~0, ~2, ~3, 9, 2'147'483'647, 7});
  const std::vector<int> expected = {8, 4, -1, -1, -1, -1, 7};
  const DeviceMatrix out = make_matrix(7, 20, DType::kF32);
  stream_->embed({tokens, slots, weight.get(), 1.0f, out});
  const HostData found = read(out);
  for (std::int64_t row = 0; row < 7; ++row) {
    for (std::int64_t col = 0; col < 20; ++col) {
      ASSERT_EQ(found.at(row, col), expected[row] < 0 ? 0.0f : table.at(expected[row], col))
          << row << ", " << col;
    }
  }
}

TEST_P(EmbedTest, AddsRowsFromAnOffset) {
  const HostData table = random_data(random_, 9, 20, DType::kF32);
  const HostData before = random_data(random_, 5, 20, DType::kF32);
  const std::vector<std::int32_t> ids = {0, 6, 7, 2'147'483'647, 3};
  for (const WeightUse use : {WeightUse::kRows, WeightUse::kLinear}) {
    const auto weight = pack(table, DType::kF32, use);
    const DeviceMatrix out = make_matrix(before, 3);
    stream_->embed({make_array(ids), {}, weight.get(), 0.5f, out, 2, true});
    const HostData found = read(out);
    for (std::int64_t row = 0; row < 5; ++row) {
      for (std::int64_t col = 0; col < 20; ++col) {
        // Rows behind the table add nothing.
        const float added = ids[row] + std::int64_t{2} < 9 ? 0.5f * table.at(ids[row] + 2, col) : 0.0f;
        ASSERT_EQ(found.at(row, col), before.at(row, col) + added) << row << ", " << col;
      }
    }
  }
}

class NormTest : public DeviceTest {
 protected:
  /// Bound: with g the relative error of a sum of `width` terms, the mean is off by dm = g mean|x|, the
  /// variance by dm^2 + g var (the first-order term vanishes, deviations sum to zero), its root's inverse by
  /// half of that.
  static std::vector<Expected> oracle(NormKind kind, double epsilon, std::span<const float> in,
                                      const HostData& weight, const HostData* bias, DType out) {
    const auto width = static_cast<double>(in.size());
    const double g = sum_error(width);
    double mean = 0;
    double mean_error = 0;
    if (kind == NormKind::kLayer) {
      for (const float x : in) {
        mean += x / width;
        mean_error += g * std::abs(x) / width;
      }
    }
    double variance = 0;
    for (const float x : in) variance += (x - mean) * (x - mean) / width;
    const double relative = (mean_error * mean_error + g * variance) / (variance + epsilon) / 2 + 6 * kUnit32;
    const double inverse = 1 / std::sqrt(variance + epsilon);
    std::vector<Expected> expected;
    for (std::size_t i = 0; i < in.size(); ++i) {
      const double deviation = in[i] - mean;
      const double scaled = deviation * inverse * weight.values[i];
      const double shift = bias != nullptr ? bias->values[i] : 0.0;
      const double error = std::abs(scaled) * (relative + 4 * kUnit32) +
                           std::abs(inverse * weight.values[i]) * mean_error +
                           2 * kUnit32 * (std::abs(scaled) + std::abs(shift));
      expected.push_back(Expected{scaled + shift, error}.stored_as(out));
    }
    return expected;
  }

  struct Case {
    NormKind kind;
    std::int64_t width;
    DType out;
    bool bias;
    bool gather;
    float mean;
  };

  void check(const Case& c) {
    const std::vector<std::int32_t> index = {4, 1, 1, 0};
    const HostData in = random_data(random_, 5, c.width, DType::kF32, 1.5f, c.mean);
    const HostData weight = random_data(random_, 1, c.width, DType::kF32);
    const HostData bias = random_data(random_, 1, c.width, DType::kF32);
    const DeviceMatrix from = make_matrix(in, 5);
    const std::int64_t rows = c.gather ? 4 : 5;
    const DeviceMatrix out = make_matrix(rows, c.width, c.out, 2);
    NormArgs args{.kind = c.kind,
                  .epsilon = 1e-5f,
                  .in = from,
                  .row_index = {},
                  .weight = make_array(weight.values),
                  .bias = {},
                  .out = out};
    if (c.gather) args.row_index = make_array(index);
    if (c.bias) args.bias = make_array(bias.values);
    stream_->norm(args);
    std::vector<Expected> expected;
    for (std::int64_t row = 0; row < rows; ++row) {
      const std::int64_t source = c.gather ? index[row] : row;
      const auto values = std::span(in.values).subspan(source * c.width, c.width);
      const auto part = oracle(c.kind, 1e-5, values, weight, c.bias ? &bias : nullptr, c.out);
      expected.insert(expected.end(), part.begin(), part.end());
    }
    expect_within(read(out).values, expected,
                  (c.kind == NormKind::kLayer ? "layer norm of " : "rms norm of ") + std::to_string(c.width));
  }
};
INSTANTIATE_TEST_SUITE_P(Devices, NormTest, ::testing::ValuesIn(device_cases()), case_name);

TEST_P(NormTest, NormalisesRows) {
  for (const NormKind kind : {NormKind::kLayer, NormKind::kRms}) {
    for (const std::int64_t width : {1, 2, 7, 16, 33, 64, 257, 4544}) {
      for (const DType out : {DType::kF32, DType::kBF16}) {
        for (const bool bias : {false, true}) check({kind, width, out, bias, width % 2 == 0, 0.1f});
      }
    }
  }
}

// A variance as mean of squares minus square of mean would lose four digits here.
TEST_P(NormTest, KeepsItsPrecisionFarFromZero) {
  for (const std::int64_t width : {33, 768, 4544})
    check({NormKind::kLayer, width, DType::kF32, true, true, 100.0f});
}

TEST_P(NormTest, AddsToTheResidualInPlace) {
  for (const NormKind kind : {NormKind::kLayer, NormKind::kRms}) {
    for (const std::int64_t width : {5, 48, 257}) {
      const HostData in = random_data(random_, 3, width, DType::kF32);
      const HostData weight = random_data(random_, 1, width, DType::kF32);
      const HostData residual = random_data(random_, 3, width, DType::kF32);
      const DeviceMatrix from = make_matrix(in, 1);
      const DeviceMatrix out = make_matrix(residual, 2);
      stream_->norm({kind, 1e-5f, from, {}, make_array(weight.values), {}, out, out});
      std::vector<Expected> expected;
      for (std::int64_t row = 0; row < 3; ++row) {
        const auto values = std::span(in.values).subspan(row * width, width);
        for (Expected element : oracle(kind, 1e-5, values, weight, nullptr, DType::kF32)) {
          element.value += residual.values[expected.size()];
          element.error += 2 * kUnit32 * std::abs(element.value);
          expected.push_back(element);
        }
      }
      expect_within(read(out).values, expected, "norm added to a residual");
    }
  }
}

TEST_P(NormTest, InPlaceGivesTheSame) {
  const HostData in = random_data(random_, 3, 77, DType::kF32);
  const Floats weight = make_array(random_data(random_, 1, 77, DType::kF32).values);
  const DeviceMatrix from = make_matrix(in, 1);
  const DeviceMatrix out = make_matrix(3, 77, DType::kF32, 2);
  stream_->norm({NormKind::kLayer, 1e-5f, from, {}, weight, {}, out});
  stream_->norm({NormKind::kLayer, 1e-5f, from, {}, weight, {}, from});
  EXPECT_EQ(read(from).values, read(out).values);
}

TEST_P(NormTest, NoneGathersAndConverts) {
  const std::vector<std::int32_t> index = {4, 1, 1, 0};
  const HostData in = random_data(random_, 5, 33, DType::kF32);
  const DeviceMatrix from = make_matrix(in, 5);
  for (const DType type : {DType::kF32, DType::kBF16}) {
    const DeviceMatrix all = make_matrix(5, 33, type, 2);
    const DeviceMatrix some = make_matrix(4, 33, type, 2);
    stream_->norm({NormKind::kNone, 1e-5f, from, {}, {}, {}, all});
    stream_->norm({NormKind::kNone, 1e-5f, from, make_array(index), {}, {}, some});
    const HostData copied = read(all);
    const HostData gathered = read(some);
    for (std::int64_t col = 0; col < 33; ++col) {
      for (std::int64_t row = 0; row < 5; ++row)
        ASSERT_EQ(copied.at(row, col), as_stored(in.at(row, col), type)) << row << ", " << col;
      for (std::int64_t row = 0; row < 4; ++row)
        ASSERT_EQ(gathered.at(row, col), as_stored(in.at(index[row], col), type)) << row << ", " << col;
    }
  }
}

TEST_P(NormTest, ConstantRowGivesTheBias) {
  HostData in{DType::kF32, 1, 48, std::vector<float>(48, 3.0f)};
  const HostData bias = random_data(random_, 1, 48, DType::kF32);
  const DeviceMatrix from = make_matrix(in);
  const DeviceMatrix out = make_matrix(1, 48, DType::kF32);
  stream_->norm({NormKind::kLayer,
                 1e-5f,
                 from,
                 {},
                 make_array(std::vector<float>(48, 2.0f)),
                 make_array(bias.values),
                 out});
  EXPECT_EQ(read(out).values, bias.values);
}

}  // namespace
}  // namespace peregrine::ops::testing
