// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <span>
#include <vector>

#include "ops/support.h"

namespace peregrine::ops::testing {

/// Keys and values of one sequence in one layer, as the cache stores them: [positions, kv_heads * head_dim].
struct KeysValues {
  HostData keys;
  HostData values;
};

/// A head as it is read back from a cache of `dtype`. In 8 bits an element is an integer times a scale, whose
/// product is rounded here, and nowhere in a device.
std::vector<float> as_cached(std::span<const float> head, DType dtype);

/// Puts sequences into a cache whose blocks are handed out in a shuffled order.
class AttentionFixture : public DeviceTest {
 protected:
  /// Makes the cache, with room for sequences of the given lengths.
  void make_cache(KvCacheSpec spec, const std::vector<std::int32_t>& lengths) {
    tables_.clear();
    std::int32_t blocks = 0;
    for (const std::int32_t length : lengths) blocks += (length + kBlockTokens - 1) / kBlockTokens;
    spec.blocks = blocks + 5;
    std::vector<std::int32_t> order(static_cast<std::size_t>(spec.blocks));
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), random_);
    auto next = order.begin();
    for (const std::int32_t length : lengths) {
      const auto end = next + (length + kBlockTokens - 1) / kBlockTokens;
      tables_.emplace_back(next, end);
      next = end;
    }
    free_blocks_.assign(next, order.end());
    cache_ = device_->create_kv_cache(spec);
  }

  /// The device's batch for these rows.
  Batch batch(const HostBatch& host) {
    Batch made;
    made.rows = host.rows();
    made.sequences = host.sequences();
    made.positions = make_array(host.positions);
    made.row_sequence = make_array(host.row_sequence);
    made.sequence_starts = make_array(host.starts);
    made.block_tables = make_array(host.tables);
    made.table_stride = host.stride;
    made.token_ids = make_array(std::vector<std::int32_t>(host.positions.size()));
    return made;
  }

  /// Stores random keys and values, of activations of type `compute`, at all positions of all sequences.
  std::vector<KeysValues> fill(std::int32_t layer, std::int32_t heads,
                               const std::vector<std::int32_t>& lengths, DType compute) {
    std::vector<SequenceRows> rows;
    for (std::size_t s = 0; s < lengths.size(); ++s) rows.push_back({0, lengths[s], tables_[s]});
    const HostBatch host(rows);
    const KvCacheSpec& spec = cache_->spec();
    const std::int64_t kv_width = std::int64_t{spec.kv_heads} * spec.head_dim;
    const std::int64_t width = std::int64_t{heads} * spec.head_dim + 2 * kv_width;
    const HostData data = random_data(random_, host.rows(), width, compute);
    const DeviceMatrix qkv = make_matrix(data, 4);
    stream_->rotate_and_store({batch(host), qkv, heads, {}, {}, RotaryStyle::kHalves, cache_.get(), layer});
    EXPECT_EQ(read(qkv).values, data.values) << "nothing was to be rotated";

    std::vector<KeysValues> stored;
    for (std::size_t s = 0; s < lengths.size(); ++s) {
      KeysValues part{{spec.dtype, lengths[s], kv_width, {}}, {spec.dtype, lengths[s], kv_width, {}}};
      for (std::int64_t row = host.starts[s]; row < host.starts[s + 1]; ++row) {
        for (std::int64_t i = 0; i < kv_width; i += spec.head_dim) {
          const float* key = &data.values[row * width + width - 2 * kv_width + i];
          append(part.keys, as_cached({key, static_cast<std::size_t>(spec.head_dim)}, spec.dtype));
          append(part.values,
                 as_cached({key + kv_width, static_cast<std::size_t>(spec.head_dim)}, spec.dtype));
        }
      }
      stored.push_back(std::move(part));
    }
    return stored;
  }

  static void append(HostData& to, const std::vector<float>& head) {
    to.values.insert(to.values.end(), head.begin(), head.end());
  }

  std::unique_ptr<KvCache> cache_;
  std::vector<std::vector<std::int32_t>> tables_;
  std::vector<std::int32_t> free_blocks_;
};

/// How scores are made, as in AttentionArgs.
struct ScoreOptions {
  double scale = 1.0;
  std::vector<float> slopes = {};
  double alibi_scale = 1.0;
  bool alibi_in_bfloat16 = false;
  double soft_cap = 0;      ///< 0: none.
  std::int32_t window = 0;  ///< 0: all.
  std::vector<float> distance_bias = {};
  std::int32_t distance_limit = 0;
  std::int32_t position = 0;  ///< Of the query: for distance_bias.
};

/// Attention of one query head over those of the positions 0..last that it sees, in double, with the bound of
/// its roundings.
std::vector<Expected> attention_oracle(const float* query, std::int32_t head, std::int32_t heads,
                                       std::int32_t head_dim, std::int32_t last, const KeysValues& cache,
                                       const ScoreOptions& options, DType compute);

}  // namespace peregrine::ops::testing
