// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/attention_fixture.h"

// What 8 bits in the cache do to attention: how far it may be off what unrounded keys and values give, and
// what becomes of numbers that are none.

namespace peregrine::ops::testing {
namespace {

class AttentionInt8 : public AttentionFixture {
 protected:
  static constexpr std::int32_t kHeads = 6, kKvHeads = 2, kHeadDim = 40, kLength = 300;
  static constexpr std::int64_t kWidth = std::int64_t{kHeads} * kHeadDim;
  static constexpr std::int64_t kKvWidth = std::int64_t{kKvHeads} * kHeadDim;
  static constexpr float kScale = 0.15f;

  /// Stores rows of keys and values at positions from 0 on.
  void store(const HostData& keys_values) {
    const HostBatch host({{0, static_cast<std::int32_t>(keys_values.rows), tables_[0]}});
    const DeviceMatrix matrix = make_matrix(keys_values);
    stream_->rotate_and_store({batch(host), matrix, 0, {}, {}, RotaryStyle::kHalves, cache_.get(), 0});
    finish();
  }

  /// Rows of queries at the last positions of the sequence.
  std::vector<float> attend(const HostData& queries, std::int32_t window = 0) {
    const auto rows = static_cast<std::int32_t>(queries.rows);
    const DeviceMatrix in = make_matrix(queries);
    const DeviceMatrix out = make_matrix(rows, kWidth, DType::kF32);
    AttentionArgs args{};
    args.batch = batch(HostBatch({{kLength - rows, rows, tables_[0]}}));
    args.queries = in;
    args.heads = kHeads;
    args.cache = cache_.get();
    args.scale = kScale;
    args.window = window;
    args.out = out;
    stream_->attention(args);
    return read(out).values;
  }

  void make(DType dtype) {
    make_cache({.layers = 1, .kv_heads = kKvHeads, .head_dim = kHeadDim, .dtype = dtype}, {kLength});
  }
};
INSTANTIATE_TEST_SUITE_P(Devices, AttentionInt8, ::testing::ValuesIn(device_cases()), case_name);

float largest(const float* head, std::int32_t width) {
  float most = 0;
  for (std::int32_t i = 0; i < width; ++i) most = std::max(most, std::abs(head[i]));
  return most;
}

// Each element of a key or value is off by at most half its scale s. So a score is off by at most e = scale *
// |q|_1 * s_k / 2. With E the largest of a row's e, each probability is off by a factor within exp(-2 E) and
// exp(2 E), and with p the unrounded ones
//
//     |out' - out| = |sum p'_j (v'_j - v_j) + sum (p'_j - p_j) (v_j - out)|
//                 <= max s_v / 2 + (exp(2 E) - 1) sum p_j |v_j - out|.
//
// float32's own roundings are those of the oracle.
TEST_P(AttentionInt8, ErrsNoMoreThanItsScalesImply) {
  make(DType::kI8);
  constexpr std::int32_t kRows = 9;
  HostData stored = random_data(random_, kLength, 2 * kKvWidth, DType::kF32);
  // Keys of all sizes; each has a scale of its own.
  for (std::int64_t row = 0; row < kLength; ++row) {
    for (std::int64_t i = 0; i < stored.cols; ++i) stored.at(row, i) *= 0.1f + 0.01f * float(row % 97);
  }
  store(stored);
  const HostData queries = random_data(random_, kRows, kWidth, DType::kF32);
  const std::vector<float> found = attend(queries);
  KeysValues exact{{DType::kF32, kLength, kKvWidth, {}}, {DType::kF32, kLength, kKvWidth, {}}};
  for (std::int64_t row = 0; row < kLength; ++row) {
    const auto at = stored.values.begin() + row * stored.cols;
    exact.keys.values.insert(exact.keys.values.end(), at, at + kKvWidth);
    exact.values.values.insert(exact.values.values.end(), at + kKvWidth, at + 2 * kKvWidth);
  }
  std::vector<Expected> expected;
  double tightest = 1e30, worst = 0;
  for (std::int32_t row = 0; row < kRows; ++row) {
    for (std::int32_t head = 0; head < kHeads; ++head) {
      const std::int32_t last = kLength - kRows + row;
      const std::int64_t column = std::int64_t{head / (kHeads / kKvHeads)} * kHeadDim;
      const float* query = &queries.values[row * kWidth + head * kHeadDim];
      double length = 0;
      for (std::int32_t i = 0; i < kHeadDim; ++i) length += std::abs(query[i]);
      double key = 0, value = 0;
      for (std::int32_t j = 0; j <= last; ++j) {
        key = std::max<double>(key, largest(&exact.keys.values[j * kKvWidth + column], kHeadDim));
        value = std::max<double>(value, largest(&exact.values.values[j * kKvWidth + column], kHeadDim));
      }
      const double score_error = kScale * length * key / 127 / 2 * (1 + 0x1p-20);
      const auto part =
          attention_oracle(query, head, kHeads, kHeadDim, last, exact, {.scale = kScale}, DType::kF32);
      for (std::int32_t i = 0; i < kHeadDim; ++i) {
        // |v - out| is at most the range of the values in this dimension.
        double low = INFINITY, high = -INFINITY;
        for (std::int32_t j = 0; j <= last; ++j) {
          low = std::min<double>(low, exact.values.at(j, column + i));
          high = std::max<double>(high, exact.values.at(j, column + i));
        }
        Expected bounded = part[i];
        bounded.error += value / 127 / 2 * (1 + 0x1p-20) + std::expm1(2 * score_error) * (high - low);
        tightest = std::min(tightest, bounded.error);
        worst = std::max(worst, std::abs(found[expected.size()] - bounded.value) - part[i].error);
        expected.push_back(bounded);
      }
    }
  }
  expect_within(found, expected, "attention with keys and values in 8 bits");
  EXPECT_GT(worst, 1e-4) << "8 bits must show, or something else was measured";
  EXPECT_LT(tightest, 0.5) << "a bound that says something";
}

// A key or value with an element that is infinite or no number makes what sees it no number; the same query
// vectors of the other key-value head, earlier rows, and windows that end before it are as if it were not
// there.
TEST_P(AttentionInt8, WhatIsNoNumberShowsWhereItIsSeenAndNowhereElse) {
  constexpr std::int32_t kBad = 280, kRows = 40;
  const HostData clean = random_data(random_, kLength, 2 * kKvWidth, DType::kF32);
  const HostData queries = random_data(random_, kRows, kWidth, DType::kF32);
  make(DType::kI8);
  store(clean);
  const std::vector<float> before = attend(queries), windowed = attend(queries, 7);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    for (const bool in_value : {false, true}) {
      HostData spoilt = clean;
      spoilt.at(kBad, (in_value ? kKvWidth : 0) + 3) = bad;  // of key-value head 0
      store(spoilt);
      const auto check = [&](const std::vector<float>& found, const std::vector<float>& expected,
                             std::int32_t window) {
        for (std::int32_t row = 0; row < kRows; ++row) {
          const std::int32_t position = kLength - kRows + row;
          const bool sees = position >= kBad && (window == 0 || position - window < kBad);
          for (std::int32_t i = 0; i < kWidth; ++i) {
            const float value = found[row * kWidth + i];
            if (sees && i < kWidth / 2) {
              ASSERT_TRUE(std::isnan(value)) << "row " << row << ", element " << i << ", " << bad;
            } else {
              ASSERT_EQ(value, expected[row * kWidth + i])
                  << "row " << row << ", element " << i << ", " << bad;
            }
          }
        }
      };
      check(attend(queries), before, 0);
      check(attend(queries, 7), windowed, 7);
    }
  }
  // Once overwritten, it is gone.
  store(clean);
  EXPECT_EQ(attend(queries), before);
}

// Nothing but zeros, or numbers too small for a scale, are zeros; large ones keep theirs.
TEST_P(AttentionInt8, SmallestAndLargestNumbers) {
  make(DType::kI8);
  for (const float size : {0.0f, 1e-45f, 1e-37f, 1e-30f, 1e30f, 1e35f}) {
    HostData stored{DType::kF32, kLength, 2 * kKvWidth, {}};
    for (std::int64_t i = 0; i < stored.rows * stored.cols; ++i) {
      stored.values.push_back(i % stored.cols < kKvWidth ? 0.0f : (i % 2 == 0 ? size : -size));
    }
    store(stored);
    HostData queries = random_data(random_, 1, kWidth, DType::kF32);
    const std::vector<float> found = attend(queries);
    const float scale = size / 127.0f;
    for (std::int64_t i = 0; i < kWidth; ++i) {
      const float expected = scale < 0x1p-126f ? 0.0f : (i % 2 == 0 ? size : -size);
      ASSERT_NEAR(found[i], expected, 1e-5f * size) << size;
    }
  }
}

}  // namespace
}  // namespace peregrine::ops::testing
