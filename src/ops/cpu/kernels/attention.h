// SPDX-License-Identifier: Apache-2.0
// Part of a kernel source: attention over the paged cache.
//
// A work item is a number of query vectors (rows x heads of one group) of one sequence and key-value head.
// For each segment of 128 positions: scores = queries x keys by register tiles, a fresh softmax per query
// vector, products with the values by register tiles, and a merge into the running state (m, l, o) of each
// query vector.
//
// What one query vector gets is independent of the others in its item: every sum is a chain of its own,
// scores of keys it does not see are replaced by minus infinity before anything is computed from them, and
// values behind the last it sees are not read into its sums at all, not even times zero (a stale or a later
// value may be infinite or no number).
//
// With bfloat16 queries the probabilities are rounded to bfloat16 before the product with the values, and l
// sums the rounded ones, so that the weights of a row add up to one.
#pragma once

namespace peregrine::ops::cpu::PEREGRINE_ISA {
namespace {

/// Layout of a query vector's probabilities: one row of 128, as float32 or as bfloat16 pairs.
template <int kTokens>
using FloatRowsOf = Rows<kSegment>;
template <int kTokens>
using PairRowsOf = Rows<kSegment / 2>;

constexpr std::int64_t up_to(std::int64_t value, std::int64_t unit) {
  return (value + unit - 1) / unit * unit;
}

struct AttentionScratch {
  float* out;            ///< [kAttentionQueries][wide]: o of each query vector.
  float* piece;          ///< [kTileTokens][wide]: o of one segment.
  float* scores;         ///< [kTileTokens][kSegment]
  float* probabilities;  ///< [kTileTokens][kSegment], float32 or pairs in half of it.
  float* highest;        ///< [kAttentionQueries]: m.
  float* total;          ///< [kAttentionQueries]: l.
  float* queries;        ///< [tile][k][tokens], float32 or pairs.
};

std::size_t attention_scratch(std::int64_t head_dim) {
  const std::int64_t wide = up_to(head_dim, kPanelRows);
  const std::int64_t floats = (2 * kAttentionQueries + kTileTokens) * wide + 2 * kTileTokens * kSegment +
                              2 * up_to(kAttentionQueries, kPanelRows);
  return static_cast<std::size_t>(floats) * sizeof(float);
}

inline AttentionScratch divide(std::byte* scratch, std::int64_t wide) {
  auto* next = reinterpret_cast<float*>(scratch);
  const auto take = [&next](std::int64_t count) {
    float* taken = next;
    next += count;
    return taken;
  };
  AttentionScratch s{};
  s.out = take(kAttentionQueries * wide);
  s.piece = take(kTileTokens * wide);
  s.scores = take(kTileTokens * kSegment);
  s.probabilities = take(kTileTokens * kSegment);
  s.highest = take(up_to(kAttentionQueries, kPanelRows));
  s.total = take(up_to(kAttentionQueries, kPanelRows));
  s.queries = take(kAttentionQueries * wide);
  return s;
}

/// Where query vector `i` of an item is in the batch.
struct QueryPlace {
  std::int64_t row;
  std::int64_t head;
};
PEREGRINE_INLINE QueryPlace place_of(const AttentionTask& task, const AttentionItem& item, std::int64_t i) {
  const std::int64_t index = item.begin + i;
  return {item.first_row + index / task.group, item.kv_head * task.group + index % task.group};
}

/// Copies one query vector to every `tokens`-th place, 0 behind the head's width where pairs need it.
template <typename Panel>
inline void pack_query(const AttentionTask& task, const QueryPlace& place, typename Panel::Value* out,
                       int tokens) {
  const std::byte* in =
      task.queries + (place.row * task.query_stride + place.head * task.head_dim) * bytes_of(task.query_type);
  const std::int64_t depth = up_to(task.head_dim, Panel::kDepth);
  if constexpr (Panel::kDepth == 2 * Panel::kValues) {  // pairs
    for (std::int64_t k = 0; k < depth; k += 2, out += tokens) {
      std::uint16_t pair[2] = {0, 0};
      __builtin_memcpy(pair, in + k * 2, k + 2 <= task.head_dim ? 4 : 2);
      *out = pair_of(pair[0], pair[1]);
    }
  } else {
    for (std::int64_t k = 0; k < depth; ++k, out += tokens) {
      float value = 0;
      if (k < task.head_dim && task.query_type == Number::kF32) __builtin_memcpy(&value, in + k * 4, 4);
      if (k < task.head_dim && task.query_type == Number::kBF16) {
        std::uint16_t bits;
        __builtin_memcpy(&bits, in + k * 2, 2);
        value = widen_bf16(bits);
      }
      *out = value;
    }
  }
}

/// alibi_scale * (slope * position) for 16 positions from `position` on.
PEREGRINE_INLINE Vector position_bias(const AttentionTask& task, float slope, std::int64_t position) {
  alignas(64) float lanes[16];
  for (int i = 0; i < 16; ++i) lanes[i] = static_cast<float>(position + i);
  Vector at = load(lanes);
  Vector factor = splat(slope);
  if (task.slopes_in_bfloat16) {
    at = round_to_bf16(at);
    factor = round_to_bf16(factor);
  }
  Vector product = mul(factor, at);
  if (task.slopes_in_bfloat16) product = round_to_bf16(product);
  return mul(splat(task.slope_scale), product);
}

/// Biases of 16 keys in a row, the first at the query's position plus `distance`. `bias` is that of distance
/// 0.
PEREGRINE_INLINE Vector distance_bias(const float* bias, std::int64_t limit, std::int64_t distance) {
  if (distance >= limit) return splat(bias[limit]);
  if (distance + 15 <= -limit) return splat(bias[-limit]);
  if (distance >= -limit && distance + 15 <= limit) return load(bias + distance);
  alignas(64) float lanes[16];
  for (int i = 0; i < 16; ++i) {
    const std::int64_t at = distance + i;
    lanes[i] = bias[at < -limit ? -limit : at > limit ? limit : at];
  }
  return load(lanes);
}

/// What is added to a query vector's scores.
struct Bias {
  const float* slope;     ///< Null: none.
  const float* distance;  ///< The bias of distance 0; null: none.
  std::int64_t position;  ///< Of the query.
};

PEREGRINE_INLINE Bias bias_of(const AttentionTask& task, const QueryPlace& place) {
  const std::int64_t limit = task.distance_limit;
  return {task.slopes != nullptr ? task.slopes + place.head : nullptr,
          task.distance_bias != nullptr ? task.distance_bias + place.head * (2 * limit + 1) + limit : nullptr,
          task.positions[place.row]};
}

/// The positions [begin, valid) of a segment that a query vector may see; none where valid is 0.
struct Visible {
  std::int64_t begin;
  std::int64_t valid;
};

/// Turns the visible scores of one query vector into probabilities relative to their maximum, which it
/// returns through `highest`; returns their sum. Positions before the visible ones get a probability of
/// exactly 0, which leaves every sum as it was.
inline float softmax(const AttentionTask& task, float* scores, Visible visible, std::int64_t segment_start,
                     const Bias& bias, float& highest, bool round, std::byte* probabilities, Number stored) {
  const std::int64_t valid = visible.valid;
  Vector top = splat(-kInfinity);
  const Vector scale = splat(task.scale);
  for (std::int64_t i = 0; i < valid; i += 16) {
    Vector score = mul(load(scores + i), scale);
    if (task.soft_cap > 0) score = soft_cap(task.soft_cap, score);
    const std::int64_t position = segment_start + i;
    if (bias.slope != nullptr) score = add(score, position_bias(task, *bias.slope, position));
    if (bias.distance != nullptr) {
      score = add(score, distance_bias(bias.distance, task.distance_limit, position - bias.position));
    }
    score = select(first_lanes(valid - i), score, splat(-kInfinity));
    if (i < visible.begin) score = select(first_lanes(visible.begin - i), splat(-kInfinity), score);
    top = max(score, top);  // a score that is no number leaves the maximum as it is
    store(scores + i, score);
  }
  highest = max_lanes(top);
  Vector sum = zero();
  for (std::int64_t i = 0; i < valid; i += 16) {
    Vector p = exp(sub(load(scores + i), splat(highest)));
    if (round) p = round_to_bf16(p);
    sum = add(sum, p);
    store_as(stored, probabilities + i * bytes_of(stored), p);
  }
  return sum_lanes(sum);
}

/// Up to kTileTokens query vectors of an item, in one segment.
struct AttentionTile {
  int first;
  int tokens;
  std::int64_t begin[kTileTokens];  ///< The first position of the segment that each may see.
  std::int64_t valid[kTileTokens];  ///< Behind the last position that each may see; 0 where there is none.
  std::int64_t most, least;
};

inline const std::byte* piece_of(const AttentionTask& task, const AttentionItem& item, std::int64_t block) {
  return task.cache + item.block_table[block] * task.block_bytes + item.kv_head * task.head_bytes;
}

/// piece[t] = sum over visible tokens of probability * value.
template <typename Panel, template <int> typename RowsOf>
inline void weigh_values(const AttentionTask& task, const AttentionItem& item, const AttentionTile& tile_of,
                         const AttentionScratch& s, std::int64_t first_block, std::int64_t wide) {
  using Value = typename Panel::Value;
  constexpr std::int64_t kRowValues = RowsOf<1>::kTokenStride;
  constexpr std::int64_t kBlockValues = kRowValues * kCacheBlock / kSegment;
  constexpr std::int64_t kPanelBytes = kCacheBlock / Panel::kDepth * Panel::kBytes;
  const auto* probabilities = reinterpret_cast<const Value*>(s.probabilities);
  // Tokens that all query vectors of the tile see, in whole steps; then each one's own rest.
  const std::int64_t common = tile_of.least / Panel::kDepth * Panel::kDepth;
  TileArgs args{};
  args.sums_stride = wide;
  const auto walk = [&](int tokens, std::int64_t begin, std::int64_t end, const Value* x, float* sums) {
    for (std::int64_t token = begin; token < end;) {
      const std::int64_t block = token / kCacheBlock, within = token % kCacheBlock;
      const std::int64_t stop = (block + 1) * kCacheBlock < end ? (block + 1) * kCacheBlock : end;
      const std::byte* values =
          piece_of(task, item, first_block + block) + task.key_bytes + within / Panel::kDepth * Panel::kBytes;
      args.x = x + block * kBlockValues + within / Panel::kDepth * Panel::kValues;
      args.steps = (stop - token) / Panel::kDepth;
      args.sums = sums;
      args.resume = token > 0;
      run_tiles<Panel, Prefetch::kNone, RowsOf>(
          tokens, wide / kPanelRows, [=](std::int64_t p) { return values + p * kPanelBytes; }, args);
      token = stop;
    }
  };
  if (common == 0)
    __builtin_memset(s.piece, 0, sizeof(float) * static_cast<std::size_t>(tile_of.tokens * wide));
  walk(tile_of.tokens, 0, common, probabilities, s.piece);
  for (int t = 0; t < tile_of.tokens; ++t) {
    const std::int64_t whole = tile_of.valid[t] / Panel::kDepth * Panel::kDepth;
    const Value* x = probabilities + t * kRowValues;
    float* sums = s.piece + t * wide;
    walk(1, common, whole, x, sums);
    if constexpr (Panel::kDepth == 2) {
      if (whole == tile_of.valid[t]) continue;
      const std::byte* values = piece_of(task, item, first_block + whole / kCacheBlock) + task.key_bytes +
                                whole % kCacheBlock / 2 * Panel::kBytes;
      for (std::int64_t p = 0; p < wide / kPanelRows; ++p) {
        store(sums + p * 16, Panel::even_step(load(sums + p * 16), load(values + p * kPanelBytes),
                                              x + whole / 2 * Panel::kValues));
      }
    }
  }
}

/// (m, l, o) of one query vector, merged with those of a segment.
inline void merge(float& highest, float& total, float* out, float piece_highest, float piece_total,
                  const float* piece, std::int64_t wide) {
  const float top = piece_highest > highest ? piece_highest : highest;
  const Vector before = exp(splat(highest - top)), now = exp(splat(piece_highest - top));
  alignas(64) float lanes[16];
  store(lanes, fma(splat(piece_total), now, mul(splat(total), before)));
  total = lanes[0];
  highest = top;
  for (std::int64_t i = 0; i < wide; i += 16) {
    store(out + i, fma(load(piece + i), now, mul(load(out + i), before)));
  }
}

/// One tile of query vectors against one segment of the sequence.
template <typename Panel, template <int> typename RowsOf>
inline void attend_segment(const AttentionTask& task, const AttentionItem& item, const AttentionTile& tile_of,
                           const AttentionScratch& s, std::int64_t segment) {
  using Value = typename Panel::Value;
  const std::int64_t wide = up_to(task.head_dim, kPanelRows);
  const std::int64_t depth = up_to(task.head_dim, Panel::kDepth);
  const std::int64_t first_block = segment * (kSegment / kCacheBlock);
  TileArgs args{};
  args.x =
      reinterpret_cast<const Value*>(s.queries) + tile_of.first * (depth / Panel::kDepth) * Panel::kValues;
  args.steps = depth / Panel::kDepth;
  args.sums = s.scores;
  args.sums_stride = kSegment;
  run_tiles<Panel, Prefetch::kNone, InterleavedOf>(
      tile_of.tokens, up_to(tile_of.most, kCacheBlock) / kCacheBlock,
      [&](std::int64_t p) { return piece_of(task, item, first_block + p); }, args);

  constexpr bool kPairs = Panel::kDepth == 2 * Panel::kValues;
  const bool round = task.query_type == Number::kBF16;
  float highest[kTileTokens], total[kTileTokens];
  for (int t = 0; t < tile_of.tokens; ++t) {
    const QueryPlace place = place_of(task, item, tile_of.first + t);
    const Bias bias = bias_of(task, place);
    total[t] = softmax(task, s.scores + t * kSegment, {tile_of.begin[t], tile_of.valid[t]},
                       segment * kSegment, bias, highest[t], round,
                       reinterpret_cast<std::byte*>(s.probabilities) + t * RowsOf<1>::kTokenStride * 4,
                       kPairs ? Number::kBF16 : Number::kF32);
  }
  weigh_values<Panel, RowsOf>(task, item, tile_of, s, first_block, wide);
  for (int t = 0; t < tile_of.tokens; ++t) {
    if (tile_of.valid[t] == 0) continue;
    const int i = tile_of.first + t;
    merge(s.highest[i], s.total[i], s.out + i * wide, highest[t], total[t], s.piece + t * wide, wide);
  }
}

template <typename Panel, template <int> typename RowsOf>
inline void attend(const AttentionTask& task, const AttentionItem& item, std::byte* scratch) {
  const std::int64_t wide = up_to(task.head_dim, kPanelRows);
  const std::int64_t depth = up_to(task.head_dim, Panel::kDepth);
  const AttentionScratch s = divide(scratch, wide);
  const int tiles = (item.count + kTileTokens - 1) / kTileTokens;
  const auto first_of = [&](int tile_index) {
    const int small = item.count / tiles, bigger = item.count % tiles;
    return tile_index * small + (tile_index < bigger ? tile_index : bigger);
  };
  for (int i = 0; i < tiles; ++i) {
    const int first = first_of(i), tokens = first_of(i + 1) - first;
    auto* queries = reinterpret_cast<typename Panel::Value*>(s.queries) +
                    first * (depth / Panel::kDepth) * Panel::kValues;
    for (int t = 0; t < tokens; ++t)
      pack_query<Panel>(task, place_of(task, item, first + t), queries + t, tokens);
  }
  for (int i = 0; i < item.count; ++i) {
    s.highest[i] = -kInfinity;
    s.total[i] = 0;
  }
  __builtin_memset(s.out, 0, sizeof(float) * static_cast<std::size_t>(item.count * wide));

  // How many positions query vector i may see, those before a window included.
  const auto visible_to = [&](std::int64_t i) {
    return item.length > 0 ? item.length : std::int64_t{task.positions[place_of(task, item, i).row]} + 1;
  };
  const std::int64_t visible = visible_to(item.count - 1);
  // A query at position p sees the positions from p + 1 - window on. Segments that no query sees are passed
  // over: they would change nothing.
  const std::int64_t first = visible_to(0) - task.window;
  const std::int64_t first_segment = task.window > 0 && first > 0 ? first / kSegment : 0;
  for (std::int64_t segment = first_segment; segment * kSegment < visible; ++segment) {
    for (int i = 0; i < tiles; ++i) {
      AttentionTile tile_of{};
      tile_of.first = first_of(i);
      tile_of.tokens = first_of(i + 1) - tile_of.first;
      tile_of.least = kSegment;
      for (int t = 0; t < tile_of.tokens; ++t) {
        const std::int64_t seen = visible_to(tile_of.first + t) - segment * kSegment;
        std::int64_t valid = seen < 0 ? 0 : seen < kSegment ? seen : kSegment;
        const std::int64_t begin = task.window > 0 && seen > task.window ? seen - task.window : 0;
        if (begin >= valid) valid = 0;
        tile_of.begin[t] = begin;
        tile_of.valid[t] = valid;
        tile_of.most = valid > tile_of.most ? valid : tile_of.most;
        tile_of.least = valid < tile_of.least ? valid : tile_of.least;
      }
      if (tile_of.most > 0) attend_segment<Panel, RowsOf>(task, item, tile_of, s, segment);
    }
  }
  for (int i = 0; i < item.count; ++i) {
    const QueryPlace place = place_of(task, item, i);
    std::byte* out =
        task.out + (place.row * task.out_stride + place.head * task.head_dim) * bytes_of(task.query_type);
    const Vector total = splat(s.total[i]);
    for (std::int64_t k = 0; k < task.head_dim; k += 16) {
      const std::int64_t lanes = task.head_dim - k < 16 ? task.head_dim - k : 16;
      store_as(task.query_type, out + k * bytes_of(task.query_type), div(load(s.out + i * wide + k), total),
               lanes);
    }
  }
}

void attention(const AttentionTask& task, const AttentionItem& item, std::byte* scratch) {
  if (task.cache_type == Number::kF32) {
    attend<F32Panel, FloatRowsOf>(task, item, scratch);
    return;
  }
#if defined(PEREGRINE_AVX512_BF16)
  if (task.query_type == Number::kBF16) {
    attend<Bf16DotPanel, PairRowsOf>(task, item, scratch);
    return;
  }
#endif
  attend<Bf16Panel, FloatRowsOf>(task, item, scratch);
}

}  // namespace
}  // namespace peregrine::ops::cpu::PEREGRINE_ISA
