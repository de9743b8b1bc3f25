// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "ops_cpu/harness.h"

namespace peregrine::ops::cpu::test {
namespace {

using core::DType;

struct Shape {
  std::int32_t heads, kv_heads, head_dim;
  DType query, cache;
};

/// One sequence's whole input: queries, keys and values of all its positions.
struct SequenceInput {
  Values qkv;
  std::vector<std::int32_t> blocks;
};

/// Positions [begin, begin + count) of a sequence, as part of a step.
struct Chunk {
  std::size_t sequence;
  std::int32_t begin, count;
};
using Step = std::vector<Chunk>;

struct Options {
  bool alibi = false;
  bool alibi_in_bfloat16 = false;
  bool rotary = false;
};

/// A cache with sequences in it, fed step by step.
class World {
 public:
  static constexpr std::int32_t kBlocks = 64, kStride = 24, kLayers = 2, kLayer = 1;

  World(const std::string& isa, int threads, const Shape& shape, Options options = {})
      : harness_(isa, threads), shape_(shape), options_(options) {
    cache_ = harness_.device->create_kv_cache({.layers = kLayers,
                                               .kv_heads = shape.kv_heads,
                                               .head_dim = shape.head_dim,
                                               .dtype = shape.cache,
                                               .blocks = kBlocks});
  }

  /// Fills every block with keys and values that are no numbers.
  void poison() {
    const std::int64_t rows = std::int64_t{kStride} * kBlockTokens;
    for (const std::int32_t first : {0, kStride, kBlocks - kStride}) {
      SequenceInput bad;
      const std::int64_t width = std::int64_t{shape_.heads + 2 * shape_.kv_heads} * shape_.head_dim;
      bad.qkv = values_of(rows, width, shape_.query,
                          std::vector<float>(static_cast<std::size_t>(rows * width), NAN));
      for (std::int32_t i = 0; i < kStride; ++i) bad.blocks.push_back(first + i);
      run({{{0, 0, static_cast<std::int32_t>(rows)}}}, {bad}, false);
    }
  }

  /// Attention outputs of each sequence, as bytes, after all steps.
  std::vector<std::vector<std::byte>> run(const std::vector<Step>& steps,
                                          const std::vector<SequenceInput>& inputs, bool attend = true) {
    const std::size_t row_bytes =
        static_cast<std::size_t>(shape_.heads * shape_.head_dim) * core::size_of(shape_.query);
    std::vector<std::vector<std::byte>> outputs;
    for (const SequenceInput& input : inputs)
      outputs.emplace_back(static_cast<std::size_t>(input.qkv.rows) * row_bytes);
    for (const Step& step : steps) {
      const std::vector<std::byte> out = run_step(step, inputs, attend);
      std::size_t row = 0;
      for (const Chunk& chunk : step) {
        if (attend) {
          std::memcpy(outputs[chunk.sequence].data() + static_cast<std::size_t>(chunk.begin) * row_bytes,
                      out.data() + row * row_bytes, static_cast<std::size_t>(chunk.count) * row_bytes);
        }
        row += static_cast<std::size_t>(chunk.count);
      }
    }
    return outputs;
  }

 private:
  std::vector<std::byte> run_step(const Step& step, const std::vector<SequenceInput>& inputs, bool attend) {
    std::vector<std::int32_t> positions, row_sequence, starts = {0}, tables;
    std::vector<float> rows;
    for (const Chunk& chunk : step) {
      const SequenceInput& input = inputs[chunk.sequence];
      for (std::int32_t i = 0; i < chunk.count; ++i) {
        positions.push_back(chunk.begin + i);
        row_sequence.push_back(static_cast<std::int32_t>(starts.size()) - 1);
      }
      const auto first = input.qkv.floats.begin() + chunk.begin * input.qkv.cols;
      rows.insert(rows.end(), first, first + chunk.count * input.qkv.cols);
      starts.push_back(static_cast<std::int32_t>(positions.size()));
      std::vector<std::int32_t> table = input.blocks;
      table.resize(kStride, -1);
      tables.insert(tables.end(), table.begin(), table.end());
    }
    Batch batch;
    batch.rows = starts.back();
    batch.sequences = static_cast<std::int32_t>(step.size());
    batch.positions = harness_.put(positions);
    batch.row_sequence = harness_.put(row_sequence);
    batch.sequence_starts = harness_.put(starts);
    batch.block_tables = harness_.put(tables);
    batch.table_stride = kStride;

    RotateAndStoreArgs store;
    store.batch = batch;
    store.qkv = harness_.put(values_of(batch.rows, inputs[0].qkv.cols, shape_.query, rows));
    store.heads = shape_.heads;
    store.cache = cache_.get();
    store.layer = kLayer;
    if (options_.rotary) {
      RotaryAnglesArgs angles;
      angles.batch = batch;
      angles.half = shape_.head_dim / 2;
      std::vector<float> frequencies;
      for (std::int32_t i = 0; i < batch.sequences * angles.half; ++i) {
        frequencies.push_back(
            std::pow(10000.0f, -static_cast<float>(i % angles.half) / static_cast<float>(angles.half)));
      }
      angles.inverse_frequencies = harness_.put(frequencies);
      angles.cosines = harness_.make(batch.rows, angles.half, DType::kF32);
      angles.sines = harness_.make(batch.rows, angles.half, DType::kF32);
      harness_.stream->rotary_angles(angles);
      store.cosines = angles.cosines;
      store.sines = angles.sines;
    }
    harness_.stream->rotate_and_store(store);
    if (!attend) {
      harness_.finish();
      return {};
    }
    AttentionArgs args;
    args.batch = batch;
    args.queries = store.qkv.columns(0, std::int64_t{shape_.heads} * shape_.head_dim);
    args.heads = shape_.heads;
    args.cache = cache_.get();
    args.layer = kLayer;
    args.scale = 1.0f / std::sqrt(static_cast<float>(shape_.head_dim));
    if (options_.alibi) {
      std::vector<float> slopes;
      for (std::int32_t h = 0; h < shape_.heads; ++h)
        slopes.push_back(std::pow(2.0f, -0.7f * static_cast<float>(h % 8 + 1)));
      args.alibi_slopes = harness_.put(slopes);
      args.alibi_scale = args.scale;
      args.alibi_in_bfloat16 = options_.alibi_in_bfloat16;
    }
    args.out = harness_.make(batch.rows, args.queries.cols, shape_.query);
    harness_.stream->attention(args);
    return harness_.bytes_of(args.out);
  }

  Harness harness_;
  Shape shape_;
  Options options_;
  std::unique_ptr<KvCache> cache_;
};

SequenceInput sequence_of(const Shape& shape, std::int64_t length, std::int32_t first_block,
                          std::uint32_t seed) {
  SequenceInput input;
  // Rounded to the narrower of both types, so that storing them changes nothing.
  const DType narrow = shape.cache == DType::kBF16 ? DType::kBF16 : shape.query;
  const std::int64_t width = std::int64_t{shape.heads + 2 * shape.kv_heads} * shape.head_dim;
  input.qkv = values_of(length, width, shape.query, random_values(length, width, narrow, seed).floats);
  for (std::int32_t i = 0; i * kBlockTokens < length; ++i) input.blocks.push_back(first_block + i);
  return input;
}

Step whole(const SequenceInput& input) { return {{0, 0, static_cast<std::int32_t>(input.qkv.rows)}}; }

std::vector<Step> in_chunks(std::int32_t length, std::int32_t size) {
  std::vector<Step> steps;
  for (std::int32_t begin = 0; begin < length; begin += size) {
    steps.push_back({{0, begin, std::min(size, length - begin)}});
  }
  return steps;
}

class AttentionOnIsa : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Cpu, AttentionOnIsa, ::testing::ValuesIn(available_isas()),
                         [](const auto& info) { return info.param; });

constexpr DType kF32 = DType::kF32, kBF16 = DType::kBF16, kI8 = DType::kI8;
constexpr Shape kShapes[] = {{71, 1, 64, kBF16, kBF16}, {4, 4, 7, kF32, kF32},   {6, 2, 10, kBF16, kF32},
                             {4, 2, 80, kF32, kBF16},   {3, 1, 7, kBF16, kBF16}, {5, 5, 1, kF32, kBF16},
                             {71, 1, 64, kBF16, kI8},   {4, 2, 7, kF32, kI8}};

double round_bf16(double x) { return core::to_float(core::to_bfloat16(static_cast<float>(x))); }

TEST_P(AttentionOnIsa, MatchesDoublePrecision) {
  for (const Shape& shape : kShapes) {
    if (shape.cache == kI8) continue;  // rounds; tests/ops knows how
    for (const Options options :
         {Options{}, Options{.alibi = true}, Options{.alibi = true, .alibi_in_bfloat16 = true}}) {
      const SequenceInput input = sequence_of(shape, 300, 3, 40);
      World world(GetParam(), 2, shape, options);
      const std::vector<float> out = widen(shape.query, world.run({whole(input)}, {input})[0]);
      const std::int64_t width = shape.head_dim, group = shape.heads / shape.kv_heads;
      const double scale = 1.0f / std::sqrt(static_cast<float>(width));
      for (std::int64_t row = 0; row < 300; row += 23) {
        for (std::int64_t head = 0; head<shape.heads; head += shape.heads> 8 ? 13 : 1) {
          std::vector<double> p;
          double top = -INFINITY, total = 0;
          for (std::int64_t j = 0; j <= row; ++j) {
            double score = 0;
            for (std::int64_t d = 0; d < width; ++d) {
              score += double{input.qkv.at(row, head * width + d)} *
                       double{input.qkv.at(j, (shape.heads + head / group) * width + d)};
            }
            score *= scale;
            if (options.alibi) {
              const double slope = std::pow(2.0f, -0.7f * static_cast<float>(head % 8 + 1));
              const auto position = static_cast<double>(j);
              score +=
                  scale * (options.alibi_in_bfloat16 ? round_bf16(round_bf16(slope) * round_bf16(position))
                                                     : slope * position);
            }
            p.push_back(score);
            top = std::max(top, score);
          }
          for (double& score : p) total += score = std::exp(score - top);
          for (std::int64_t d = 0; d < width; ++d) {
            double expected = 0, magnitude = 0;
            for (std::int64_t j = 0; j <= row; ++j) {
              const double term =
                  p[static_cast<std::size_t>(j)] / total *
                  double{input.qkv.at(j, (shape.heads + shape.kv_heads + head / group) * width + d)};
              expected += term;
              magnitude += std::abs(term);
            }
            // Scores of order 30 (300 with positions) carry a relative 2 x width roundings; probabilities and
            // output are rounded to 8 bits where queries are.
            const double half = shape.query == kBF16 ? 0x1p-9 : kHalfUlp;
            const double score_error =
                (4.0 * static_cast<double>(width) + (options.alibi ? 1200.0 : 100.0)) * kHalfUlp;
            ASSERT_NEAR(
                out[static_cast<std::size_t>((row * shape.heads + head) * width + d)], expected,
                2.1 * half * magnitude + 2 * score_error * magnitude + half * std::abs(expected) + 1e-7)
                << "head_dim " << width << ", row " << row << ", head " << head << ", alibi "
                << options.alibi;
          }
        }
      }
    }
  }
}

TEST_P(AttentionOnIsa, ChunksThreadsBlocksAndNeighboursChangeNoBit) {
  for (const Shape& shape : kShapes) {
    const Options options{.alibi = shape.head_dim == 10,
                          .rotary = shape.head_dim != 10 && shape.head_dim != 1};
    constexpr std::int32_t kLength = 150;  // crosses a segment's end
    const SequenceInput input = sequence_of(shape, kLength, 0, 41);
    const auto expected = World(GetParam(), 1, shape, options).run({whole(input)}, {input})[0];
    for (const std::int32_t size : {1, 7, 64}) {
      ASSERT_EQ(World(GetParam(), 2, shape, options).run(in_chunks(kLength, size), {input})[0], expected)
          << "in chunks of " << size << ", head_dim " << shape.head_dim;
    }

    SequenceInput moved = input;
    for (std::int32_t& block : moved.blocks) block = 60 - 5 * block;
    World poisoned(GetParam(), 2, shape, options);
    poisoned.poison();
    ASSERT_EQ(poisoned.run({whole(input)}, {moved})[0], expected)
        << "in used blocks, head_dim " << shape.head_dim;
    World poisoned_again(GetParam(), 2, shape, options);
    poisoned_again.poison();
    ASSERT_EQ(poisoned_again.run(in_chunks(kLength, 1), {moved})[0], expected)
        << "token by token in used blocks";

    // Three neighbours, one of them of numbers that are none, in the same steps, before and behind.
    std::vector<SequenceInput> all = {sequence_of(shape, 40, 10, 42), input, sequence_of(shape, 200, 20, 43),
                                      sequence_of(shape, 20, 40, 44)};
    std::fill(all[3].qkv.floats.begin(), all[3].qkv.floats.end(), NAN);
    const std::vector<Step> steps = {{{0, 0, 33}, {1, 0, 5}},
                                     {{2, 0, 190}, {1, 5, 70}, {3, 0, 19}, {0, 33, 1}},
                                     {{0, 34, 1}, {1, 75, 1}, {2, 190, 1}, {3, 19, 1}},
                                     {{1, 76, 74}, {2, 191, 9}}};
    ASSERT_EQ(World(GetParam(), 2, shape, options).run(steps, all)[1], expected)
        << "head_dim " << shape.head_dim;
  }
}

TEST_P(AttentionOnIsa, InfiniteValuesOfLaterTokensDoNotReachEarlierRows) {
  for (const Shape& shape : kShapes) {
    SequenceInput input = sequence_of(shape, 50, 0, 45);
    const auto expected = World(GetParam(), 2, shape).run({whole(input)}, {input})[0];
    const std::int64_t keys = std::int64_t{shape.heads} * shape.head_dim;
    constexpr std::int64_t kBad = 33;
    for (std::int64_t c = keys; c < input.qkv.cols; ++c) {
      input.qkv.floats[static_cast<std::size_t>(kBad * input.qkv.cols + c)] = INFINITY;
    }
    const auto out = World(GetParam(), 2, shape).run({whole(input)}, {input})[0];
    const auto clean =
        static_cast<std::ptrdiff_t>(static_cast<std::size_t>(kBad * keys) * core::size_of(shape.query));
    EXPECT_TRUE(std::equal(out.begin(), out.begin() + clean, expected.begin()))
        << "head_dim " << shape.head_dim;
  }
}

TEST_P(AttentionOnIsa, CopiedBlocksReadAsTheOriginal) {
  for (const Shape& shape : kShapes) {
    Harness harness(GetParam());
    const KvCacheSpec spec{.layers = 2,
                           .kv_heads = shape.kv_heads,
                           .head_dim = shape.head_dim,
                           .dtype = shape.cache,
                           .blocks = 4};
    const auto cache = harness.device->create_kv_cache(spec);
    const SequenceInput input = sequence_of(shape, 20, 0, 46);
    std::vector<std::int32_t> positions(20), rows(20, 0);
    std::iota(positions.begin(), positions.end(), 0);
    RotateAndStoreArgs store;
    store.batch.rows = 20;
    store.batch.sequences = 1;
    store.batch.positions = harness.put(positions);
    store.batch.row_sequence = harness.put(rows);
    store.batch.sequence_starts = harness.put(std::vector<std::int32_t>{0, 20});
    store.batch.block_tables = harness.put(std::vector<std::int32_t>{0, 1});
    store.batch.table_stride = 2;
    store.qkv = harness.put(input.qkv);
    store.heads = shape.heads;
    store.cache = cache.get();
    for (store.layer = 0; store.layer < 2; ++store.layer) harness.stream->rotate_and_store(store);
    CopyBlocksArgs copy;
    copy.cache = cache.get();
    copy.pairs = harness.put(std::vector<std::int32_t>{0, 3, 1, 2});
    copy.count = 2;
    harness.stream->copy_blocks(copy);
    AttentionArgs args;
    args.batch = store.batch;
    args.queries = store.qkv.columns(0, std::int64_t{shape.heads} * shape.head_dim);
    args.heads = shape.heads;
    args.cache = cache.get();
    for (args.layer = 0; args.layer < 2; ++args.layer) {
      args.batch.block_tables = store.batch.block_tables;
      args.out = harness.make(20, args.queries.cols, shape.query);
      harness.stream->attention(args);
      const auto expected = harness.bytes_of(args.out);
      args.batch.block_tables = harness.put(std::vector<std::int32_t>{3, 2});
      args.out = harness.make(20, args.queries.cols, shape.query);
      harness.stream->attention(args);
      EXPECT_EQ(harness.bytes_of(args.out), expected);
    }
  }
}

}  // namespace
}  // namespace peregrine::ops::cpu::test
