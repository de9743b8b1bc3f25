// SPDX-License-Identifier: Apache-2.0
// What rotate_and_store does to queries, keys and values besides rotating them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "ops/attention_fixture.h"

namespace peregrine::ops::testing {
namespace {

class HeadNormTest : public AttentionFixture {
 protected:
  static constexpr std::int32_t kHeads = 4;
  static constexpr std::int32_t kKvHeads = 2;
  static constexpr std::int32_t kWidth = 24;
  static constexpr std::int32_t kColumns = (kHeads + 2 * kKvHeads) * kWidth;
  const std::vector<std::int32_t> lengths_ = {21, 1, 130};

  struct Case {
    double clip = 0;
    bool norms = false;
    NormKind kind = NormKind::kLayer;
  };

  /// One head after clipping and its norm, in double.
  static std::vector<double> expected_head(const Case& c, const HostData& qkv, std::int64_t row,
                                           std::int32_t head, const HostData& weight) {
    std::vector<double> x;
    for (std::int32_t i = 0; i < kWidth; ++i) x.push_back(qkv.at(row, head * kWidth + i));
    if (c.clip > 0) {
      for (double& value : x) value = std::clamp(value, -c.clip, c.clip);
    }
    if (!c.norms || head >= kHeads + kKvHeads) return x;
    double mean = 0;
    for (const double value : x) mean += c.kind == NormKind::kLayer ? value / kWidth : 0.0;
    double variance = 0;
    for (const double value : x) variance += (value - mean) * (value - mean) / kWidth;
    for (std::int32_t i = 0; i < kWidth; ++i)
      x[i] = (x[i] - mean) / std::sqrt(variance + 1e-3) * weight.at(0, head * kWidth + i);
    return x;
  }

  void check(const Case& c) {
    make_cache({.layers = 1, .kv_heads = kKvHeads, .head_dim = kWidth, .dtype = DType::kF32}, lengths_);
    std::vector<SequenceRows> rows;
    for (std::size_t s = 0; s < lengths_.size(); ++s) rows.push_back({0, lengths_[s], tables_[s]});
    const HostBatch host(rows);
    const Batch all = batch(host);
    const HostData data = random_data(random_, host.rows(), kColumns, DType::kF32);
    const HostData weight = random_data(random_, 1, (kHeads + kKvHeads) * kWidth, DType::kF32);
    const auto split = weight.values.begin() + kHeads * kWidth;
    const DeviceMatrix qkv = make_matrix(data, 2);
    RotateAndStoreArgs args{};
    args.batch = all;
    args.qkv = qkv;
    args.heads = kHeads;
    args.cache = cache_.get();
    args.clip = static_cast<float>(c.clip);
    if (c.norms) {
      args.query_norm = make_array(std::vector<float>(weight.values.begin(), split));
      args.key_norm = make_array(std::vector<float>(split, weight.values.end()));
    }
    args.head_norm = c.kind;
    args.head_norm_epsilon = 1e-3f;
    stream_->rotate_and_store(args);
    compare(c, host, data, weight, read(qkv));
    check_cache(host, all, stored_);
  }

  /// Compares the queries in `found`, and notes in stored_ what the cache must hold.
  void compare(const Case& c, const HostBatch& host, const HostData& data, const HostData& weight,
               const HostData& found) {
    stored_.clear();
    for (const std::int32_t length : lengths_) {
      const HostData empty{DType::kF32, length, kKvHeads * kWidth, {}};
      stored_.push_back({empty, empty});
    }
    std::vector<float> queries;
    std::vector<Expected> expected;
    for (std::int32_t row = 0; row < host.rows(); ++row) {
      KeysValues& part = stored_[host.row_sequence[row]];
      for (std::int32_t head = 0; head < kHeads + 2 * kKvHeads; ++head) {
        const std::vector<double> x = expected_head(c, data, row, head, weight);
        for (std::int32_t i = 0; i < kWidth; ++i) {
          if (head >= kHeads) {
            HostData& to = head < kHeads + kKvHeads ? part.keys : part.values;
            to.values.push_back(static_cast<float>(x[i]));
            continue;
          }
          queries.push_back(found.at(row, head * kWidth + i));
          // Elements are about 1: errors of the sums, absolute, and the norm's own steps. A clip is exact.
          expected.push_back({x[i], c.norms ? 4 * sum_error(kWidth) * (1 + std::abs(x[i])) : 0.0});
        }
      }
    }
    expect_within(queries, expected, "queries");
  }

  /// Reads the cache by attending to it.
  void check_cache(const HostBatch& host, const Batch& all, const std::vector<KeysValues>& stored) {
    const HostData queries = random_data(random_, host.rows(), kHeads * kWidth, DType::kF32);
    const DeviceMatrix from = make_matrix(queries);
    const DeviceMatrix out = make_matrix(host.rows(), kHeads * kWidth, DType::kF32);
    AttentionArgs args{};
    args.batch = all;
    args.queries = from;
    args.heads = kHeads;
    args.cache = cache_.get();
    args.scale = 0.3f;
    args.out = out;
    stream_->attention(args);
    std::vector<Expected> expected;
    for (std::int32_t row = 0; row < host.rows(); ++row) {
      for (std::int32_t head = 0; head < kHeads; ++head) {
        const float* query = &queries.values[row * queries.cols + head * kWidth];
        const KeysValues& cached = stored[host.row_sequence[row]];
        for (Expected element : attention_oracle(query, head, kHeads, kWidth, host.positions[row], cached,
                                                 {.scale = 0.3}, DType::kF32)) {
          element.error += 0x1p-17;  // the keys' own errors, some ulps each, in scores of some units
          expected.push_back(element);
        }
      }
    }
    expect_within(read(out).values, expected, "attention over what was stored");
  }

  std::vector<KeysValues> stored_;
};
INSTANTIATE_TEST_SUITE_P(Devices, HeadNormTest, ::testing::ValuesIn(device_cases()), case_name);

TEST_P(HeadNormTest, ClipsQueriesKeysAndValues) { check({.clip = 0.75}); }

TEST_P(HeadNormTest, NormalisesEveryHeadByItsOwnWeights) {
  check({.norms = true, .kind = NormKind::kLayer});
  check({.norms = true, .kind = NormKind::kRms});
  check({.clip = 1.0, .norms = true, .kind = NormKind::kRms});
}

}  // namespace
}  // namespace peregrine::ops::testing
