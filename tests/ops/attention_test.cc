// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "ops/attention_fixture.h"

namespace peregrine::ops::testing {
namespace {

/// What 8 bits add to the relative error of a product: its scale comes in separately, which is one rounding,
/// and is multiplied in float32 by as_cached(), which is another.
double scale_error(const HostData& cached) { return cached.dtype == DType::kI8 ? 2 * kUnit32 : 0; }

/// The first position that a query at position `last` sees.
std::int32_t first_seen(std::int32_t last, const ScoreOptions& options) {
  return options.window > 0 ? std::max(0, last + 1 - options.window) : 0;
}

/// A visible key's score and how far off a device's may be.
std::vector<Expected> scores_oracle(const float* query, std::int32_t head, std::int64_t column,
                                    std::int32_t head_dim, std::int32_t last, const KeysValues& cache,
                                    const ScoreOptions& options) {
  std::vector<Expected> scores;
  for (std::int32_t position = first_seen(last, options); position <= last; ++position) {
    double dot = 0;
    double magnitude = 0;
    for (std::int32_t i = 0; i < head_dim; ++i) {
      const double product = double{query[i]} * cache.keys.at(position, column + i);
      dot += product;
      magnitude += std::abs(product);
    }
    double bias = 0;
    if (!options.slopes.empty()) {
      const float slope = options.slopes[head];
      const auto place = static_cast<float>(position);
      // transformers' build_alibi_tensor: a bfloat16 tensor times an integer one, which is bfloat16 in all
      // its parts.
      bias = options.alibi_in_bfloat16
                 ? as_stored(as_stored(slope, DType::kBF16) * as_stored(place, DType::kBF16), DType::kBF16)
                 : double{slope} * place;
      bias *= options.alibi_scale;
    }
    if (!options.distance_bias.empty()) {
      const std::int32_t limit = options.distance_limit;
      const std::int32_t distance = std::clamp(position - options.position, -limit, limit);
      bias = options.distance_bias[head * (2 * limit + 1) + limit + distance];
    }
    Expected score{dot * options.scale,
                   options.scale * (sum_error(head_dim) + 2 * kUnit32 + scale_error(cache.keys)) * magnitude};
    if (options.soft_cap > 0) {
      // Its slope is at most 1. The division's rounding, and 12 u for the function and the product.
      score.error += kUnit32 * std::abs(score.value);
      score.value = options.soft_cap * std::tanh(score.value / options.soft_cap);
      score.error += 12 * kUnit32 * std::abs(score.value);
    }
    score.value += bias;
    score.error += 2 * kUnit32 * std::abs(bias) + kUnit32 * std::abs(score.value);
    scores.push_back(score);
  }
  return scores;
}

}  // namespace

std::vector<float> as_cached(std::span<const float> head, DType dtype) {
  std::vector<float> values(head.begin(), head.end());
  if (dtype != DType::kI8) {
    for (float& value : values) value = as_stored(value, dtype);
    return values;
  }
  float largest = 0;
  for (const float value : head) largest = std::max(largest, std::abs(value));
  const float scale = largest / 127.0f;
  for (float& value : values) value = scale < 0x1p-126f ? 0.0f : std::nearbyint(value / scale) * scale;
  return values;
}

/// With p the exact probabilities and eta_j the relative error of exp(score_j - maximum), the quotient moves
/// by sum_j p_j (v_j - out) eta_j in first order. eta is the score's error, that of exp (8 u), and of its
/// argument. The rounding of P to the compute type touches the numerator alone; both sums have their own
/// error.
std::vector<Expected> attention_oracle(const float* query, std::int32_t head, std::int32_t heads,
                                       std::int32_t head_dim, std::int32_t last, const KeysValues& cache,
                                       const ScoreOptions& options, DType compute) {
  const auto kv_heads = static_cast<std::int32_t>(cache.keys.cols / head_dim);
  const std::int64_t column = std::int64_t{head / (heads / kv_heads)} * head_dim;
  const auto scores = scores_oracle(query, head, column, head_dim, last, cache, options);
  double maximum = -INFINITY;
  for (const Expected& score : scores) maximum = std::max(maximum, score.value);
  std::vector<double> p;
  double sum = 0;
  for (const Expected& score : scores) {
    p.push_back(std::exp(score.value - maximum));
    sum += p.back();
  }
  for (double& probability : p) probability /= sum;
  const double probability_error = compute == DType::kBF16 ? unit(DType::kBF16) : 0;
  const auto seen = static_cast<std::int32_t>(scores.size());
  const std::int32_t first = last + 1 - seen;
  const double g = sum_error(seen) + 4 * kUnit32 + scale_error(cache.values);

  std::vector<Expected> out;
  for (std::int32_t i = 0; i < head_dim; ++i) {
    double value = 0;
    double magnitude = 0;
    for (std::int32_t j = 0; j < seen; ++j) {
      value += p[j] * cache.values.at(first + j, column + i);
      magnitude += p[j] * std::abs(cache.values.at(first + j, column + i));
    }
    double error = magnitude * (probability_error + g) + std::abs(value) * (g + 8 * kUnit32);
    for (std::int32_t j = 0; j < seen; ++j) {
      const double eta = scores[j].error + (8 + 2 * std::abs(scores[j].value - maximum)) * kUnit32;
      error += p[j] * std::abs(cache.values.at(first + j, column + i) - value) * eta;
    }
    out.push_back(Expected{value, error}.stored_as(compute));
  }
  return out;
}

namespace {

struct AttentionCase {
  std::int32_t heads;
  std::int32_t kv_heads;
  std::int32_t head_dim;
  DType compute = DType::kF32;
  DType cache = DType::kF32;
  ScoreOptions scores = {};
};

class AttentionTest : public AttentionFixture {
 protected:
  // Decoding at the ends of segments, in one block, a chunk across a segment's border, a whole prompt.
  const std::vector<std::int32_t> lengths_ = {1, 300, 16, 140, 37, 129};
  const std::vector<std::int32_t> first_rows_ = {0, 299, 15, 120, 0, 127};

  /// Attention over layer 1 of 2, queries in the columns of a fused matrix.
  void check(const AttentionCase& c) {
    make_cache({.layers = 2, .kv_heads = c.kv_heads, .head_dim = c.head_dim, .dtype = c.cache}, lengths_);
    const auto stored = fill(1, c.heads, lengths_, c.compute);
    fill(0, c.heads, lengths_, c.compute);
    std::vector<SequenceRows> rows;
    for (std::size_t s = 0; s < lengths_.size(); ++s) {
      rows.push_back({first_rows_[s], lengths_[s] - first_rows_[s], tables_[s]});
    }
    const HostBatch host(rows);
    const std::int64_t width = std::int64_t{c.heads} * c.head_dim;
    const HostData data = random_data(random_, host.rows(), width + 9, c.compute);
    const DeviceMatrix qkv = make_matrix(data);
    const DeviceMatrix out = make_matrix(host.rows(), width, c.compute, 3);
    AttentionArgs args{};
    args.batch = batch(host);
    args.queries = qkv.matrix.columns(0, width);
    args.heads = c.heads;
    args.cache = cache_.get();
    args.layer = 1;
    args.scale = static_cast<float>(c.scores.scale);
    if (!c.scores.slopes.empty()) args.alibi_slopes = make_array(c.scores.slopes);
    args.alibi_scale = static_cast<float>(c.scores.alibi_scale);
    args.alibi_in_bfloat16 = c.scores.alibi_in_bfloat16;
    args.soft_cap = static_cast<float>(c.scores.soft_cap);
    args.window = c.scores.window;
    args.out = out;
    stream_->attention(args);

    std::vector<Expected> expected;
    for (std::int32_t row = 0; row < host.rows(); ++row) {
      for (std::int32_t head = 0; head < c.heads; ++head) {
        const auto part =
            attention_oracle(&data.values[row * data.cols + head * c.head_dim], head, c.heads, c.head_dim,
                             host.positions[row], stored[host.row_sequence[row]], c.scores, c.compute);
        expected.insert(expected.end(), part.begin(), part.end());
      }
    }
    expect_within(read(out).values, expected,
                  "attention of " + std::to_string(c.heads) + "/" + std::to_string(c.kv_heads) +
                      " heads of " + std::to_string(c.head_dim) + " in " + core::to_string(c.compute) +
                      ", cache " + core::to_string(c.cache));
    EXPECT_EQ(read(qkv).values, data.values) << "queries were written to";
  }

  /// Slopes as transformers makes them for a power of two; any others would do.
  static std::vector<float> slopes(std::int32_t heads) {
    std::vector<float> made;
    for (std::int32_t head = 1; head <= heads; ++head) made.push_back(std::exp2(-8.0f * head / heads));
    return made;
  }
};
INSTANTIATE_TEST_SUITE_P(Devices, AttentionTest, ::testing::ValuesIn(device_cases()), case_name);

TEST_P(AttentionTest, EveryPairOfTypes) {
  for (const DType compute : {DType::kF32, DType::kBF16}) {
    for (const DType cache : {DType::kF32, DType::kBF16, DType::kI8}) {
      check({.heads = 6,
             .kv_heads = 2,
             .head_dim = 32,
             .compute = compute,
             .cache = cache,
             .scores = {.scale = 0.25}});
    }
  }
}

TEST_P(AttentionTest, HeadShapesOfRealAndOddModels) {
  check({.heads = 71, .kv_heads = 1, .head_dim = 64, .scores = {.scale = 0.125}});  // Falcon 7B
  check({.heads = 16,
         .kv_heads = 1,
         .head_dim = 64,
         .compute = DType::kBF16,
         .cache = DType::kBF16,
         .scores = {.scale = 0.125}});
  check({.heads = 8, .kv_heads = 2, .head_dim = 128, .scores = {.scale = 0.08838834764831845}});  // Llama 3
  check({.heads = 3, .kv_heads = 3, .head_dim = 80, .scores = {.scale = 0.11180339887498949}});   // NeoX 2.8B
  check({.heads = 5, .kv_heads = 5, .head_dim = 20, .scores = {.scale = 0.3}});
  check({.heads = 2, .kv_heads = 1, .head_dim = 6, .scores = {.scale = 1.0}});
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const DType cache : {dtype, DType::kI8}) {
      for (const std::int32_t head_dim : {33, 7, 1}) {
        check({.heads = 4,
               .kv_heads = 2,
               .head_dim = head_dim,
               .compute = dtype,
               .cache = cache,
               .scores = {.scale = 0.2}});
      }
    }
  }
  check({.heads = 71,
         .kv_heads = 1,
         .head_dim = 64,
         .compute = DType::kBF16,
         .cache = DType::kI8,
         .scores = {.scale = 0.125}});
}

// Large scores: the softmax is close to a maximum, and must not overflow.
TEST_P(AttentionTest, SharpSoftmax) {
  check({.heads = 4, .kv_heads = 2, .head_dim = 16, .scores = {.scale = 40.0}});
}

TEST_P(AttentionTest, Alibi) {
  for (const double alibi_scale : {1.0, 0.125}) {
    for (const bool bfloat16 : {false, true}) {
      ScoreOptions scores{
          .scale = 0.125, .slopes = slopes(8), .alibi_scale = alibi_scale, .alibi_in_bfloat16 = bfloat16};
      check({.heads = 8, .kv_heads = 8, .head_dim = 24, .scores = scores});
      check({.heads = 8, .kv_heads = 2, .head_dim = 24, .cache = DType::kI8, .scores = scores});
      scores.slopes = {0.7071067f, 0.3333f, 0.011f, 0.9f};
      check({.heads = 4, .kv_heads = 1, .head_dim = 16, .scores = scores});
    }
  }
}

// Windows within a segment, across its border, as long as one, and longer than any sequence.
TEST_P(AttentionTest, SlidingWindow) {
  for (const std::int32_t window : {1, 2, 15, 17, 64, 127, 128, 129, 200, 1000}) {
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kI8}) {
      check({.heads = 4,
             .kv_heads = 2,
             .head_dim = 24,
             .compute = dtype == DType::kI8 ? DType::kF32 : dtype,
             .cache = dtype,
             .scores = {.scale = 0.3, .window = window}});
    }
  }
  check({.heads = 4,
         .kv_heads = 4,
         .head_dim = 16,
         .scores = {.scale = 0.3, .slopes = slopes(4), .window = 40}});
}

// Scores far below the cap, about it and far above.
TEST_P(AttentionTest, SoftCap) {
  for (const double scale : {0.01, 0.5, 40.0}) {
    check({.heads = 4, .kv_heads = 2, .head_dim = 16, .scores = {.scale = scale, .soft_cap = 6.0}});
  }
  check({.heads = 4,
         .kv_heads = 2,
         .head_dim = 32,
         .compute = DType::kBF16,
         .cache = DType::kBF16,
         .scores = {.scale = 0.5, .soft_cap = 50.0, .window = 100}});
}

// A sequence's first token sees only itself: its value comes back bit for bit.
TEST_P(AttentionTest, SingleKeyGivesItsValueExactly) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    make_cache({.layers = 1, .kv_heads = 2, .head_dim = 40, .dtype = dtype}, {1, 1, 1});
    const auto stored = fill(0, 4, {1, 1, 1}, dtype);
    const HostBatch host({{0, 1, tables_[2]}, {0, 1, tables_[0]}});
    const DeviceMatrix queries = make_matrix(random_data(random_, 2, 160, dtype));
    const DeviceMatrix out = make_matrix(2, 160, dtype);
    AttentionArgs args{};
    args.batch = batch(host);
    args.queries = queries;
    args.heads = 4;
    args.cache = cache_.get();
    args.out = out;
    stream_->attention(args);
    const HostData found = read(out);
    for (std::int64_t i = 0; i < 160; ++i) {
      const std::int64_t column = i / 80 * 40 + i % 40;
      ASSERT_EQ(found.at(0, i), stored[2].values.at(0, column)) << i;
      ASSERT_EQ(found.at(1, i), stored[0].values.at(0, column)) << i;
    }
  }
}

TEST_P(AttentionTest, CopiedBlocksAttendAsTheirSources) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kI8}) {
    make_cache({.layers = 3, .kv_heads = 2, .head_dim = 24, .dtype = dtype}, {40, 20});
    for (const std::int32_t layer : {0, 1, 2}) fill(layer, 2, {40, 20}, DType::kF32);
    const DeviceMatrix queries = make_matrix(random_data(random_, 2, 48, DType::kF32));
    const auto attend = [&](std::int32_t layer, const std::vector<std::int32_t>& first) {
      const DeviceMatrix out = make_matrix(2, 48, DType::kF32);
      AttentionArgs args{};
      args.batch = batch(HostBatch({{39, 1, first}, {19, 1, tables_[1]}}));
      args.queries = queries;
      args.heads = 2;
      args.cache = cache_.get();
      args.layer = layer;
      args.out = out;
      stream_->attention(args);
      return read(out).values;
    };
    std::vector<std::vector<float>> before;
    for (const std::int32_t layer : {0, 1, 2}) before.push_back(attend(layer, tables_[0]));
    // The third pair must not be copied: count says two.
    const Ints pairs = make_array<std::int32_t>(
        {tables_[0][0], free_blocks_[0], tables_[0][2], free_blocks_[1], free_blocks_[0], tables_[1][0]});
    stream_->copy_blocks({cache_.get(), pairs, 2});
    for (const std::int32_t layer : {0, 1, 2}) {
      EXPECT_EQ(attend(layer, {free_blocks_[0], tables_[0][1], free_blocks_[1]}), before[layer]) << layer;
      EXPECT_EQ(attend(layer, tables_[0]), before[layer]) << "sources must stay as they are";
    }
    // What is written to the copy afterwards does not reach the source.
    std::swap(tables_[0][0], free_blocks_[0]);
    fill(1, 2, {16, 20}, DType::kF32);
    std::swap(tables_[0][0], free_blocks_[0]);
    const auto first_row = [](const std::vector<float>& rows) {
      return std::vector(rows.begin(), rows.begin() + 48);
    };
    EXPECT_EQ(first_row(attend(1, tables_[0])), first_row(before[1]));
    EXPECT_NE(first_row(attend(1, {free_blocks_[0], tables_[0][1], free_blocks_[1]})), first_row(before[1]));
  }
}

}  // namespace
}  // namespace peregrine::ops::testing
