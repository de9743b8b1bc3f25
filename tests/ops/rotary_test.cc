// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>

#include "ops/attention_fixture.h"

namespace peregrine::ops::testing {
namespace {

class RotaryTest : public AttentionFixture {
 protected:
  struct Case {
    RotaryStyle style;
    std::int32_t head_dim;
    std::int32_t half;  // 0: no rotation
    DType compute;
    DType cache;
  };

  static constexpr std::int32_t kHeads = 4;
  static constexpr std::int32_t kKvHeads = 2;
  const std::vector<std::int32_t> lengths_ = {21, 5, 130};

  /// The two elements of pair i of a head.
  static std::pair<std::int32_t, std::int32_t> pair(const Case& c, std::int32_t i) {
    if (c.style == RotaryStyle::kHalves) return {i, i + c.half};
    return {2 * i, 2 * i + 1};
  }

  static double turned(double x, double y, double cosine, double sine) { return x * cosine - y * sine; }

  /// One head after rotation. Bound: two products and a sum, each one rounding.
  static std::vector<Expected> rotated(const Case& c, const HostData& qkv, std::int64_t row,
                                       std::int32_t head, const HostData& cosines, const HostData& sines) {
    std::vector<Expected> out;
    for (std::int32_t i = 0; i < c.head_dim; ++i) out.push_back({qkv.at(row, head * c.head_dim + i), 0});
    for (std::int32_t i = 0; i < c.half; ++i) {
      const auto [first, second] = pair(c, i);
      const double x = out[first].value;
      const double y = out[second].value;
      const double cosine = cosines.at(row, i);
      const double sine = sines.at(row, i);
      out[first] = {turned(x, y, cosine, sine), 2 * kUnit32 * (std::abs(x * cosine) + std::abs(y * sine))};
      out[second] = {turned(y, x, cosine, -sine), 2 * kUnit32 * (std::abs(y * cosine) + std::abs(x * sine))};
    }
    return out;
  }

  /// The same in float32, each product and each sum rounded: what it is to the bit.
  static std::vector<float> rotated_exactly(const Case& c, const HostData& qkv, std::int64_t row,
                                            std::int32_t head, const HostData& cosines,
                                            const HostData& sines) {
    const auto first_element = qkv.values.begin() + row * qkv.cols + head * c.head_dim;
    std::vector<float> out(first_element, first_element + c.head_dim);
    for (std::int32_t i = 0; i < c.half; ++i) {
      const auto [first, second] = pair(c, i);
      const float x = out[first], y = out[second];
      out[first] = x * cosines.at(row, i) - y * sines.at(row, i);
      out[second] = y * cosines.at(row, i) + x * sines.at(row, i);
    }
    return out;
  }

  void check(const Case& c) {
    make_cache({.layers = 1, .kv_heads = kKvHeads, .head_dim = c.head_dim, .dtype = c.cache}, lengths_);
    std::vector<SequenceRows> rows;
    for (std::size_t s = 0; s < lengths_.size(); ++s) rows.push_back({0, lengths_[s], tables_[s]});
    const HostBatch host(rows);
    const Batch all = batch(host);
    HostData cosines{DType::kF32, host.rows(), c.half, {}};
    HostData sines = cosines;
    for (std::int32_t row = 0; row < host.rows(); ++row) {
      for (std::int32_t i = 0; i < c.half; ++i) {
        cosines.values.push_back(std::cos(0.37f * host.positions[row] / (i + 1)));
        sines.values.push_back(std::sin(0.37f * host.positions[row] / (i + 1)));
      }
    }
    const HostData data = random_data(random_, host.rows(), (kHeads + 2 * kKvHeads) * c.head_dim, c.compute);
    const DeviceMatrix qkv = make_matrix(data, 2);
    const DeviceMatrix cosine_matrix = make_matrix(cosines, 1);
    const DeviceMatrix sine_matrix = make_matrix(sines, 1);
    RotateAndStoreArgs args{};
    args.batch = all;
    args.qkv = qkv;
    args.heads = kHeads;
    if (c.half > 0) {
      args.cosines = cosine_matrix;
      args.sines = sine_matrix;
    }
    args.style = c.style;
    args.cache = cache_.get();
    stream_->rotate_and_store(args);
    check_queries(c, data, read(qkv), cosines, sines);
    check_cache(c, host, all, data, cosines, sines);
  }

  void check_queries(const Case& c, const HostData& data, const HostData& found, const HostData& cosines,
                     const HostData& sines) {
    std::vector<float> queries;
    std::vector<Expected> expected;
    for (std::int64_t row = 0; row < data.rows; ++row) {
      for (std::int32_t head = 0; head < kHeads; ++head) {
        const std::vector<Expected> part = rotated(c, data, row, head, cosines, sines);
        const std::vector<float> exact = rotated_exactly(c, data, row, head, cosines, sines);
        for (std::int32_t i = 0; i < c.head_dim; ++i) {
          queries.push_back(found.at(row, head * c.head_dim + i));
          const bool turned_element = part[i].error > 0;
          ASSERT_EQ(queries.back(), as_stored(exact[i], c.compute)) << "row " << row << ", element " << i;
          expected.push_back(turned_element ? part[i].stored_as(c.compute) : part[i]);
        }
      }
      const std::int64_t values = std::int64_t{kHeads + kKvHeads} * c.head_dim;
      for (std::int64_t col = values; col < data.cols; ++col)
        ASSERT_EQ(found.at(row, col), data.at(row, col));
    }
    expect_within(queries, expected, "rotated queries of " + std::to_string(c.head_dim));
  }

  /// Reads the cache by attending to it with random queries in float32.
  void check_cache(const Case& c, const HostBatch& host, const Batch& all, const HostData& data,
                   const HostData& cosines, const HostData& sines) {
    const std::int64_t kv_width = std::int64_t{kKvHeads} * c.head_dim;
    std::vector<KeysValues> stored;
    for (const std::int32_t length : lengths_) {
      stored.push_back({{c.cache, length, kv_width, {}}, {c.cache, length, kv_width, {}}});
    }
    for (std::int32_t row = 0; row < host.rows(); ++row) {
      KeysValues& part = stored[host.row_sequence[row]];
      for (std::int32_t head = kHeads; head < kHeads + kKvHeads; ++head) {
        append(part.keys, as_cached(rotated_exactly(c, data, row, head, cosines, sines), c.cache));
        const float* value = &data.values[row * data.cols + (head + kKvHeads) * c.head_dim];
        append(part.values, as_cached({value, static_cast<std::size_t>(c.head_dim)}, c.cache));
      }
    }
    const HostData queries = random_data(random_, host.rows(), kHeads * c.head_dim, DType::kF32);
    const DeviceMatrix from = make_matrix(queries);
    const DeviceMatrix out = make_matrix(host.rows(), kHeads * c.head_dim, DType::kF32);
    AttentionArgs args{};
    args.batch = all;
    args.queries = from;
    args.heads = kHeads;
    args.cache = cache_.get();
    args.scale = 0.5f;
    args.out = out;
    stream_->attention(args);
    std::vector<Expected> expected;
    for (std::int32_t row = 0; row < host.rows(); ++row) {
      for (std::int32_t head = 0; head < kHeads; ++head) {
        const float* query = &queries.values[row * queries.cols + head * c.head_dim];
        const auto part = attention_oracle(query, head, kHeads, c.head_dim, host.positions[row],
                                           stored[host.row_sequence[row]], {.scale = 0.5}, DType::kF32);
        expected.insert(expected.end(), part.begin(), part.end());
      }
    }
    expect_within(read(out).values, expected, "attention over rotated keys of " + std::to_string(c.head_dim));
  }
};
INSTANTIATE_TEST_SUITE_P(Devices, RotaryTest, ::testing::ValuesIn(device_cases()), case_name);

TEST_P(RotaryTest, RotatesQueriesAndStoresKeysAndValues) {
  for (const RotaryStyle style : {RotaryStyle::kHalves, RotaryStyle::kPairs}) {
    for (const DType compute : {DType::kF32, DType::kBF16}) {
      for (const DType cache : {DType::kF32, DType::kBF16, DType::kI8}) {
        check({style, 32, 16, compute, cache});
        check({style, 24, 3, compute, cache});  // partial
        check({style, 50, 25, compute, cache});
        check({style, 7, 3, compute, cache});
      }
    }
    check({style, 64, 32, DType::kF32, DType::kF32});
    check({style, 80, 10, DType::kF32, DType::kBF16});
    check({style, 20, 0, DType::kF32, DType::kBF16});
  }
}

// Bound: a cosine is good to 4 u, its scaling is one rounding.
TEST_P(RotaryTest, AnglesOfEachSequence) {
  for (const std::int32_t half : {1, 8, 33}) {
    const HostBatch host({{0, 3, {}}, {131'000, 70, {}}, {2047, 1, {}}});
    std::vector<float> frequencies;
    for (std::int32_t s = 0; s < 3; ++s) {
      for (std::int32_t i = 0; i < half; ++i)
        frequencies.push_back(std::pow(1e4f + 1e5f * s, -float(i) / half));
    }
    for (const float scale : {1.0f, 1.19f}) {
      const DeviceMatrix cosines = make_matrix(host.rows(), half, DType::kF32, 1);
      const DeviceMatrix sines = make_matrix(host.rows(), half, DType::kF32, 2);
      stream_->rotary_angles({batch(host), make_array(frequencies), half, scale, cosines, sines});
      std::vector<Expected> cosine;
      std::vector<Expected> sine;
      for (std::int32_t row = 0; row < host.rows(); ++row) {
        for (std::int32_t i = 0; i < half; ++i) {
          const float frequency = frequencies[host.row_sequence[row] * half + i];
          const float angle = static_cast<float>(host.positions[row]) * frequency;
          cosine.push_back({std::cos(double{angle}) * scale, 5 * kUnit32 * scale});
          sine.push_back({std::sin(double{angle}) * scale, 5 * kUnit32 * scale});
        }
      }
      expect_within(read(cosines).values, cosine, "cosines");
      expect_within(read(sines).values, sine, "sines");
    }
  }
}

}  // namespace
}  // namespace peregrine::ops::testing
