// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "ops/attention_fixture.h"

// Attention whose rows see a number of positions whatever their own (encoders, cross-attention), and biases
// by the distance of query and key.

namespace peregrine::ops::testing {
namespace {

struct Shape {
  std::int32_t heads = 4;
  std::int32_t kv_heads = 4;
  std::int32_t head_dim = 24;
  DType compute = DType::kF32;
  DType cache = DType::kF32;
  double scale = 0.3;
  double soft_cap = 0;
  std::int32_t distance_limit = -1;  ///< -1: no bias.
};

class AttentionLengths : public AttentionFixture {
 protected:
  /// Around the borders of blocks and segments.
  const std::vector<std::int32_t> lengths_ = {1, 15, 16, 17, 127, 128, 129, 300};

  /// What rows of the sequences attend to: keys and values made without any queries.
  void store(const Shape& shape) {
    make_cache({.layers = 2, .kv_heads = shape.kv_heads, .head_dim = shape.head_dim, .dtype = shape.cache},
               lengths_);
    stored_ = fill(1, 0, lengths_, shape.compute);
    fill(0, 0, lengths_, shape.compute);
    scores_ = {.scale = shape.scale, .soft_cap = shape.soft_cap};
    if (shape.distance_limit >= 0) {
      scores_.distance_limit = shape.distance_limit;
      scores_.distance_bias =
          random_data(random_, shape.heads, 2 * shape.distance_limit + 1, DType::kF32, 2.0f).values;
    }
  }

  std::vector<SequenceRows> rows_of(const std::vector<std::pair<std::int32_t, std::int32_t>>& rows) const {
    std::vector<SequenceRows> made;
    for (std::size_t s = 0; s < rows.size(); ++s) {
      made.push_back({rows[s].first, rows[s].second, tables_[s]});
    }
    return made;
  }

  AttentionArgs arguments(const Shape& shape, const HostBatch& host, const Matrix& queries,
                          const Matrix& out) {
    AttentionArgs args{};
    args.batch = batch(host);
    args.queries = queries;
    args.heads = shape.heads;
    args.cache = cache_.get();
    args.layer = 1;
    args.scale = static_cast<float>(shape.scale);
    args.soft_cap = static_cast<float>(shape.soft_cap);
    if (!scores_.distance_bias.empty()) args.distance_bias = make_array(scores_.distance_bias);
    args.distance_limit = scores_.distance_limit;
    args.out = out;
    return args;
  }

  /// Checks rows [first, first + count) of each sequence, which see `lengths` (none: what comes before them).
  void check(const Shape& shape, const std::vector<std::pair<std::int32_t, std::int32_t>>& rows,
             const std::vector<std::int32_t>& lengths) {
    store(shape);
    const HostBatch host(rows_of(rows));
    const std::int64_t width = std::int64_t{shape.heads} * shape.head_dim;
    const HostData data = random_data(random_, host.rows(), width, shape.compute);
    const DeviceMatrix queries = make_matrix(data, 2);
    const DeviceMatrix out = make_matrix(host.rows(), width, shape.compute, 3);
    AttentionArgs args = arguments(shape, host, queries, out);
    if (!lengths.empty()) args.lengths = make_array(lengths);
    stream_->attention(args);
    std::vector<Expected> expected;
    for (std::int32_t row = 0; row < host.rows(); ++row) {
      const std::int32_t sequence = host.row_sequence[row];
      scores_.position = host.positions[row];
      const std::int32_t last = lengths.empty() ? host.positions[row] : lengths[sequence] - 1;
      for (std::int32_t head = 0; head < shape.heads; ++head) {
        const auto part =
            attention_oracle(&data.values[row * width + head * shape.head_dim], head, shape.heads,
                             shape.head_dim, last, stored_[sequence], scores_, shape.compute);
        expected.insert(expected.end(), part.begin(), part.end());
      }
    }
    expect_within(read(out).values, expected,
                  "attention in " + std::string(core::to_string(shape.compute)) + ", distances up to " +
                      std::to_string(shape.distance_limit));
  }

  /// All rows of all sequences, as an encoder has them.
  std::vector<std::pair<std::int32_t, std::int32_t>> whole() const {
    std::vector<std::pair<std::int32_t, std::int32_t>> rows;
    for (const std::int32_t length : lengths_) rows.emplace_back(0, length);
    return rows;
  }

  std::vector<KeysValues> stored_;
  ScoreOptions scores_;
};
INSTANTIATE_TEST_SUITE_P(Devices, AttentionLengths, ::testing::ValuesIn(device_cases()), case_name);

TEST_P(AttentionLengths, EveryRowSeesItsWholeText) {
  for (const DType compute : {DType::kF32, DType::kBF16}) {
    for (const DType cache : {DType::kF32, DType::kBF16, DType::kI8}) {
      check({.compute = compute, .cache = cache}, whole(), lengths_);
    }
  }
  check({.heads = 6, .kv_heads = 2, .head_dim = 64, .scale = 0.125, .soft_cap = 3.0}, whole(), lengths_);
  check({.heads = 2, .kv_heads = 1, .head_dim = 33, .compute = DType::kBF16, .cache = DType::kBF16}, whole(),
        lengths_);
}

TEST_P(AttentionLengths, EncodersHaveBiasesByDistance) {
  // Limits that are never reached, reached on both sides, within one vector's width, and at once.
  for (const std::int32_t limit : {400, 127, 20, 3, 0}) {
    for (const DType type : {DType::kF32, DType::kBF16}) {
      check({.compute = type, .cache = type, .distance_limit = limit}, whole(), lengths_);
    }
  }
  check({.heads = 6, .kv_heads = 2, .soft_cap = 2.0, .distance_limit = 30}, whole(), lengths_);
}

TEST_P(AttentionLengths, DecodersHaveBiasesByDistance) {
  const std::vector<std::pair<std::int32_t, std::int32_t>> rows = {{0, 1},    {14, 1},  {0, 16},  {16, 1},
                                                                   {100, 27}, {127, 1}, {120, 9}, {0, 300}};
  for (const std::int32_t limit : {400, 128, 20, 0}) {
    for (const DType type : {DType::kF32, DType::kBF16}) {
      check({.heads = 4, .kv_heads = 2, .compute = type, .cache = type, .distance_limit = limit}, rows, {});
    }
  }
}

// The rows' own positions are those of another text: before, within and far behind the one that is seen.
TEST_P(AttentionLengths, RowsSeeAnotherText) {
  const std::vector<std::pair<std::int32_t, std::int32_t>> decoding = {{500, 1}, {0, 1},   {40, 1}, {16, 1},
                                                                       {7, 1},   {128, 1}, {0, 1},  {1, 1}};
  const std::vector<std::pair<std::int32_t, std::int32_t>> many = {{0, 20}, {300, 3}, {0, 1},  {0, 50},
                                                                   {2, 7},  {0, 9},   {13, 1}, {0, 2}};
  for (const DType type : {DType::kF32, DType::kBF16}) {
    for (const std::int32_t limit : {-1, 60}) {
      const Shape shape{.heads = 4, .kv_heads = 2, .compute = type, .cache = type, .distance_limit = limit};
      check(shape, decoding, lengths_);
      check(shape, many, lengths_);
      // Only some of what is cached.
      check(shape, many, {1, 1, 15, 16, 17, 127, 129, 257});
    }
  }
}

// Behind the last position that is seen, blocks hold whatever was there before.
TEST_P(AttentionLengths, WhatLiesBehindALengthIsNotRead) {
  for (const DType cache : {DType::kF32, DType::kBF16, DType::kI8}) {
    const DType type = cache == DType::kI8 ? DType::kF32 : cache;
    const Shape shape{.compute = type, .cache = cache, .distance_limit = 9};
    store(shape);
    const std::vector<std::int32_t> lengths = {1, 1, 3, 16, 100, 127, 128, 131};
    const HostBatch host(rows_of({{0, 1}, {0, 15}, {5, 2}, {0, 3}, {0, 1}, {4, 9}, {0, 2}, {0, 7}}));
    const std::int64_t width = std::int64_t{shape.heads} * shape.head_dim;
    const DeviceMatrix queries = make_matrix(random_data(random_, host.rows(), width, type));
    const auto attend = [&] {
      const DeviceMatrix out = make_matrix(host.rows(), width, type);
      AttentionArgs args = arguments(shape, host, queries, out);
      args.lengths = make_array(lengths);
      stream_->attention(args);
      return read(out).values;
    };
    const std::vector<float> before = attend();
    std::vector<SequenceRows> behind;
    std::int64_t rows = 0;
    for (std::size_t s = 0; s < lengths.size(); ++s) {
      behind.push_back({lengths[s], lengths_[s] - lengths[s], tables_[s]});
      rows += lengths_[s] - lengths[s];
    }
    const std::int64_t kv_width = 2 * std::int64_t{shape.kv_heads} * shape.head_dim;
    const HostData nothing{type, rows, kv_width,
                           std::vector<float>(static_cast<std::size_t>(rows * kv_width),
                                              std::numeric_limits<float>::quiet_NaN())};
    const DeviceMatrix keys_values = make_matrix(nothing);
    stream_->rotate_and_store(
        {batch(HostBatch(behind)), keys_values, 0, {}, {}, RotaryStyle::kHalves, cache_.get(), 1});
    EXPECT_EQ(attend(), before) << core::to_string(cache);
  }
}

TEST_P(AttentionLengths, NeighboursAndThreadsChangeNothing) {
  for (const DType cache : {DType::kF32, DType::kBF16, DType::kI8}) {
    const DType type = cache == DType::kI8 ? DType::kBF16 : cache;
    for (const bool encoder : {true, false}) {
      const Shape shape{.heads = 6, .kv_heads = 3, .compute = type, .cache = cache, .distance_limit = 40};
      store(shape);
      const std::int64_t width = std::int64_t{shape.heads} * shape.head_dim;
      const HostBatch all(rows_of(whole()));
      const DeviceMatrix queries = make_matrix(random_data(random_, all.rows(), width, type));
      const auto attend = [&](const HostBatch& host, std::int32_t first_row,
                              const std::vector<std::int32_t>& lengths) {
        const DeviceMatrix out = make_matrix(host.rows(), width, type);
        Matrix in = queries;
        in.data += static_cast<std::size_t>(first_row * width) * core::size_of(type);
        AttentionArgs args = arguments(shape, host, in.first_rows(host.rows()), out);
        if (encoder) args.lengths = make_array(lengths);
        stream_->attention(args);
        return read(out).values;
      };
      const std::vector<float> together = attend(all, 0, lengths_);
      for (std::size_t s = 0; s < lengths_.size(); ++s) {
        for (const std::int32_t count : {1, 2, 7, lengths_[s]}) {
          const std::int32_t row = (count * 13) % (lengths_[s] - std::min(count, lengths_[s]) + 1);
          if (count > lengths_[s]) continue;
          const std::int32_t first = all.starts[s] + row;
          const std::vector<float> alone =
              attend(HostBatch({{row, count, tables_[s]}}), first, {lengths_[s]});
          EXPECT_TRUE(std::equal(alone.begin(), alone.end(), together.begin() + first * width))
              << count << " rows of text " << s << " in " << core::to_string(cache);
        }
      }
    }
  }
}

// Keys and values alone are stored as they are beside queries.
TEST_P(AttentionLengths, KeysAndValuesNeedNoQueries) {
  constexpr std::int32_t kLength = 21, kKvHeads = 2, kHeadDim = 16, kHeads = 4;
  for (const DType type : {DType::kF32, DType::kBF16}) {
    make_cache({.layers = 1, .kv_heads = kKvHeads, .head_dim = kHeadDim, .dtype = type}, {kLength});
    const HostData all = random_data(random_, kLength, (kHeads + 2 * kKvHeads) * kHeadDim, type);
    const DeviceMatrix qkv = make_matrix(all, 1);
    const DeviceMatrix cosines = make_matrix(random_data(random_, kLength, 5, DType::kF32));
    const DeviceMatrix sines = make_matrix(random_data(random_, kLength, 5, DType::kF32));
    const Batch rows = batch(HostBatch({{0, kLength, tables_[0]}}));
    const DeviceMatrix queries = make_matrix(random_data(random_, kLength, kHeads * kHeadDim, type));
    const auto attend = [&] {
      const DeviceMatrix out = make_matrix(kLength, kHeads * kHeadDim, type);
      AttentionArgs args{};
      args.batch = rows;
      args.queries = queries;
      args.heads = kHeads;
      args.cache = cache_.get();
      args.out = out;
      stream_->attention(args);
      return read(out).values;
    };
    stream_->rotate_and_store({rows, qkv.matrix.columns(kHeads * kHeadDim, 2 * kKvHeads * kHeadDim), 0,
                               cosines, sines, RotaryStyle::kHalves, cache_.get(), 0, 1.5f});
    const std::vector<float> alone = attend();
    EXPECT_EQ(read(qkv).values, all.values) << "there was nothing to be changed in place";
    fill(0, kHeads, {kLength}, type);
    EXPECT_NE(attend(), alone);
    stream_->rotate_and_store(
        {rows, qkv, kHeads, cosines, sines, RotaryStyle::kHalves, cache_.get(), 0, 1.5f});
    EXPECT_EQ(attend(), alone);
  }
}

TEST_P(AttentionLengths, RefusesWhatDoesNotFit) {
  const Shape shape{.distance_limit = 4};
  store(shape);
  const HostBatch host({{0, 2, tables_[0]}, {3, 1, tables_[1]}});
  const std::int64_t width = std::int64_t{shape.heads} * shape.head_dim;
  const DeviceMatrix queries = make_matrix(random_data(random_, 3, width, DType::kF32));
  const DeviceMatrix out = make_matrix(3, width, DType::kF32);
  const auto refuse = [&](const std::string& text, auto change) {
    AttentionArgs args = arguments(shape, host, queries, out);
    args.lengths = make_array<std::int32_t>({1, 15});
    change(args);
    stream_->attention(args);
    expect_failure(text);
  };
  refuse("lengths exclude a window, here of 7", [](AttentionArgs& args) { args.window = 7; });
  refuse("alibi_slopes and distance_bias exclude each other",
         [&](AttentionArgs& args) { args.alibi_slopes = make_array(std::vector<float>(4, 0.5f)); });
  refuse("lengths", [](AttentionArgs& args) { args.lengths.size = 1; });
  refuse("0 positions", [&](AttentionArgs& args) { args.lengths = make_array<std::int32_t>({1, 0}); });
  refuse("1000 positions", [&](AttentionArgs& args) { args.lengths = make_array<std::int32_t>({1, 1000}); });
  // In the table's stride, but no block of the sequence's.
  refuse("block -1", [&](AttentionArgs& args) { args.lengths = make_array<std::int32_t>({1, 17}); });
  refuse("distance", [](AttentionArgs& args) { args.distance_limit = 5; });
  refuse("distance", [](AttentionArgs& args) { args.distance_limit = -1; });
  const DeviceMatrix keys = make_matrix(3, width, DType::kF32);
  stream_->rotate_and_store({batch(host), keys, -4, {}, {}, RotaryStyle::kHalves, cache_.get(), 1});
  expect_failure("-4");
}

}  // namespace
}  // namespace peregrine::ops::testing
