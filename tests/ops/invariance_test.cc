// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "ops/attention_fixture.h"

// What a row gets depends on nothing but itself and its sequence: compared bit for bit.

namespace peregrine::ops::testing {
namespace {

class LinearInvariance : public DeviceTest {};
INSTANTIATE_TEST_SUITE_P(Devices, LinearInvariance, ::testing::ValuesIn(device_cases()), case_name);

TEST_P(LinearInvariance, RowsDoNotDependOnTheirNumber) {
  constexpr std::int64_t kMost = 257;
  for (const DType type : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const DType compute : {DType::kF32, DType::kBF16}) {
      // The real width once; elsewhere one that has every tail.
      const std::int64_t width = type == DType::kBF16 ? 4544 : 531;
      const HostData weights = random_data(random_, 37, width, type, 0.02f);
      const auto weight = pack(weights, type);
      const DeviceMatrix in = make_matrix(random_data(random_, kMost, width, compute), 1);
      const Floats bias = make_array(random_data(random_, 1, 37, DType::kF32).values);
      const auto run = [&](std::int64_t first, std::int64_t rows) {
        const DeviceMatrix out = make_matrix(rows, 37, DType::kF32);
        LinearArgs args{};
        args.in = in.matrix.first_rows(rows);
        args.in.data += static_cast<std::size_t>(first * in.matrix.stride) * core::size_of(compute);
        args.weight = weight.get();
        args.bias = bias;
        args.activation = Activation::kGelu;
        args.out = out;
        stream_->linear(args);
        return read(out).values;
      };
      const std::vector<float> all = run(0, kMost);
      for (const std::int64_t rows : {1, 2, 3, 4, 5, 6, 7, 8, 13, 16, 33, 64, 100}) {
        const std::int64_t first = (rows * 31) % (kMost - rows + 1);
        const std::vector<float> part = run(first, rows);
        ASSERT_TRUE(std::equal(part.begin(), part.end(), all.begin() + first * 37))
            << rows << " rows from " << first << " of " << core::to_string(compute) << " x "
            << core::to_string(type);
      }
    }
  }
}

/// Some sequences through norm, linear, rotation, cache, attention and linear again: one layer, as a model
/// has it.
class LayerInvariance : public AttentionFixture {
 protected:
  static constexpr std::int32_t kHeads = 6;
  static constexpr std::int32_t kKvHeads = 2;
  static constexpr std::int32_t kHeadDim = 32;
  static constexpr std::int32_t kWidth = kHeads * kHeadDim;
  static constexpr std::int32_t kHalf = kHeadDim / 2;

  /// The rows of one step: from each of some sequences, the next `count` tokens.
  struct Part {
    std::size_t sequence;
    std::int32_t count;
  };
  using Plan = std::vector<std::vector<Part>>;

  struct Parameters {
    DType compute;
    DType cache = DType::kF32;
    std::int32_t window = 0;
    float soft_cap = 0;
    HostData norm = {};
    HostData qkv = {};
    HostData project = {};
    std::vector<HostData> tokens = {};
  };

  Parameters random_parameters(DType compute, const std::vector<std::int32_t>& lengths) {
    Parameters made{compute};
    made.norm = random_data(random_, 1, kWidth, DType::kF32, 0.1f, 1.0f);
    made.qkv = random_data(random_, (kHeads + 2 * kKvHeads) * kHeadDim, kWidth, compute, 0.1f);
    made.project = random_data(random_, kWidth, kWidth, compute, 0.1f);
    for (const std::int32_t length : lengths) {
      made.tokens.push_back(random_data(random_, length, kWidth, DType::kF32));
    }
    return made;
  }

  /// Runs the layer on a device by a plan; returns each sequence's outputs.
  std::vector<std::vector<float>> run(const Parameters& parameters, const Plan& plan, int threads) {
    arrays_.clear();
    cache_.reset();
    stream_.reset();
    device_ = DeviceCase{GetParam().name, GetParam().isa, threads}.create();
    stream_ = device_->create_stream();
    std::vector<std::int32_t> lengths;
    for (const HostData& tokens : parameters.tokens)
      lengths.push_back(static_cast<std::int32_t>(tokens.rows));
    make_cache({.layers = 1, .kv_heads = kKvHeads, .head_dim = kHeadDim, .dtype = parameters.cache}, lengths);
    const auto qkv = pack(parameters.qkv, parameters.compute);
    const auto project = pack(parameters.project, parameters.compute);
    std::vector<std::int32_t> at(lengths.size(), 0);
    std::vector<std::vector<float>> outputs(lengths.size());
    for (const std::vector<Part>& step : plan) {
      std::vector<SequenceRows> rows;
      HostData tokens{DType::kF32, 0, kWidth, {}};
      for (const Part& part : step) {
        rows.push_back({at[part.sequence], part.count, tables_[part.sequence]});
        const auto begin = parameters.tokens[part.sequence].values.begin() + at[part.sequence] * kWidth;
        tokens.values.insert(tokens.values.end(), begin, begin + part.count * kWidth);
        at[part.sequence] += part.count;
        tokens.rows += part.count;
      }
      const HostData out = run_step(parameters, HostBatch(rows), tokens, *qkv, *project);
      auto from = out.values.begin();
      for (const Part& part : step) {
        outputs[part.sequence].insert(outputs[part.sequence].end(), from, from + part.count * kWidth);
        from += part.count * kWidth;
      }
    }
    return outputs;
  }

  HostData run_step(const Parameters& parameters, const HostBatch& host, const HostData& tokens,
                    const Weight& qkv, const Weight& project) {
    const Batch all = batch(host);
    const std::int32_t rows = host.rows();
    const DeviceMatrix state = make_matrix(tokens);
    const DeviceMatrix normed = make_matrix(rows, kWidth, parameters.compute);
    const DeviceMatrix heads = make_matrix(rows, (kHeads + 2 * kKvHeads) * kHeadDim, parameters.compute);
    const DeviceMatrix attended = make_matrix(rows, kWidth, parameters.compute);
    const DeviceMatrix cosines = make_matrix(rows, kHalf, DType::kF32);
    const DeviceMatrix sines = make_matrix(rows, kHalf, DType::kF32);
    std::vector<float> frequencies;
    for (std::int32_t i = 0; i < host.sequences() * kHalf; ++i) {
      frequencies.push_back(std::pow(1e4f, -float(i % kHalf) / kHalf));
    }
    stream_->rotary_angles({all, make_array(frequencies), kHalf, 1.0f, cosines, sines});
    stream_->norm({NormKind::kRms, 1e-5f, state, {}, make_array(parameters.norm.values), {}, normed});
    stream_->linear({normed, &qkv, {}, Activation::kNone, {}, heads});
    stream_->rotate_and_store({all, heads, kHeads, cosines, sines, RotaryStyle::kHalves, cache_.get(), 0});
    AttentionArgs attention{};
    attention.batch = all;
    attention.queries = heads.matrix.columns(0, kWidth);
    attention.heads = kHeads;
    attention.cache = cache_.get();
    attention.scale = 0.1767767f;
    attention.window = parameters.window;
    attention.soft_cap = parameters.soft_cap;
    attention.out = attended;
    stream_->attention(attention);
    stream_->linear({attended, &project, {}, Activation::kSilu, state, state});
    return read(state);
  }

  static Plan alone(const std::vector<std::int32_t>& lengths) {
    Plan plan;
    for (std::size_t s = 0; s < lengths.size(); ++s) plan.push_back({{s, lengths[s]}});
    return plan;
  }

  static Plan together(const std::vector<std::int32_t>& lengths) {
    Plan plan(1);
    for (std::size_t s = lengths.size(); s-- > 0;) plan[0].push_back({s, lengths[s]});
    return plan;
  }

  /// All sequences side by side, `chunk` tokens of each in a step.
  static Plan chunked(const std::vector<std::int32_t>& lengths, std::int32_t chunk) {
    Plan plan;
    for (std::int32_t begin = 0; begin < *std::max_element(lengths.begin(), lengths.end()); begin += chunk) {
      plan.emplace_back();
      for (std::size_t s = 0; s < lengths.size(); ++s) {
        if (begin < lengths[s]) plan.back().push_back({s, std::min(chunk, lengths[s] - begin)});
      }
    }
    return plan;
  }
};
INSTANTIATE_TEST_SUITE_P(Devices, LayerInvariance, ::testing::ValuesIn(device_cases()), case_name);

TEST_P(LayerInvariance, NeighboursChunksAndThreadsChangeNothing) {
  const std::vector<std::int32_t> lengths = {150, 1, 33, 129};
  struct Form {
    DType compute;
    DType cache;
    std::int32_t window;
    float soft_cap;
  };
  constexpr DType kF32 = DType::kF32, kBF16 = DType::kBF16, kI8 = DType::kI8;
  for (const auto [compute, cache, window, soft_cap] :
       {Form{kF32, kF32, 0, 0.0f}, Form{kBF16, kBF16, 0, 0.0f}, Form{kF32, kF32, 21, 2.0f},
        Form{kBF16, kBF16, 21, 2.0f}, Form{kF32, kI8, 0, 0.0f}, Form{kBF16, kI8, 21, 2.0f}}) {
    Parameters parameters = random_parameters(compute, lengths);
    parameters.cache = cache;
    parameters.window = window;
    parameters.soft_cap = soft_cap;
    const auto expected = run(parameters, alone(lengths), 1);
    EXPECT_EQ(run(parameters, together(lengths), 1), expected) << core::to_string(compute);
    EXPECT_EQ(run(parameters, chunked(lengths, 1), 1), expected) << core::to_string(compute);
    EXPECT_EQ(run(parameters, chunked(lengths, 7), 1), expected) << core::to_string(compute);
    EXPECT_EQ(run(parameters, chunked(lengths, 100), 2), expected) << core::to_string(compute);
    EXPECT_EQ(run(parameters, together(lengths), 2), expected) << core::to_string(compute);
    EXPECT_EQ(run(parameters, together(lengths), 3), expected) << core::to_string(compute);
  }
}

}  // namespace
}  // namespace peregrine::ops::testing
