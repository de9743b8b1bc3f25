// SPDX-License-Identifier: Apache-2.0
// Part of a kernel source: attention over the paged cache.
//
// A work item is a number of query vectors (rows x heads of one group) of one sequence and key-value head,
// and some or all of the segments they see. For each segment of 128 positions, read from memory once: scores
// = queries x keys by register tiles, a fresh softmax per query vector, and products with the values by
// register tiles. What comes of it, the segment's state (m, l, o) of each query vector, is merged into the
// running one; an item that is one of several for the same query vectors leaves that to merge_states(), which
// does exactly the same in the same order.
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

/// Register tiles of an item from which on it pays to widen each segment to float32 first, rather than in
/// every tile: of the instructions of a tile of 6 x 64, a seventh widens bfloat16, a quarter 8-bit integers.
/// (So many query vectors are a prompt's, whose keys and values are in a cache near by: the next segment is
/// not asked for ahead.)
inline constexpr int kWidenTiles = 4;

/// A state is a row of AttentionTask::state_stride floats: o, padded to whole vectors, then m, then l. l is 0
/// where there was nothing to see and at least 1 (or no number) elsewhere.
struct State {
  float* o;
  float* m;
  float* l;
};
PEREGRINE_INLINE State state_at(const AttentionTask& task, float* states, std::int64_t index) {
  float* row = states + index * task.state_stride;
  const std::int64_t wide = up_to(task.head_dim, kPanelRows);
  return {row, row + wide, row + wide + 1};
}
PEREGRINE_INLINE void clear(const AttentionTask& task, const State& state) {
  __builtin_memset(state.o, 0, sizeof(float) * static_cast<std::size_t>(task.state_stride));
  *state.m = -kInfinity;
}

struct AttentionScratch {
  float* running;        ///< [kAttentionQueries] states.
  float* piece;          ///< [kTileTokens] states: those of one segment.
  float* scores;         ///< [kTileTokens][kSegment]
  float* probabilities;  ///< [kTileTokens][kSegment], float32 or pairs in half of it.
  float* queries;        ///< [tile][k][tokens], float32 or pairs.
  float* widened;        ///< The blocks of a segment as they are in a float32 cache.
};

/// Bytes of the key panel, and of a piece, of a float32 cache.
constexpr std::int64_t wide_keys(std::int64_t head_dim) {
  return up_to(head_dim, 2) * kCacheBlock * std::int64_t{sizeof(float)};
}
constexpr std::int64_t wide_piece(std::int64_t head_dim) {
  return wide_keys(head_dim) + up_to(head_dim, kPanelRows) * kCacheBlock * std::int64_t{sizeof(float)};
}

std::size_t attention_scratch(std::int64_t head_dim) {
  const std::int64_t wide = up_to(head_dim, kPanelRows), state = wide + kPanelRows;
  const std::int64_t floats =
      (kAttentionQueries + kTileTokens) * state + 2 * kTileTokens * kSegment + kAttentionQueries * wide;
  return static_cast<std::size_t>(floats) * sizeof(float) +
         static_cast<std::size_t>(kSegment / kCacheBlock * wide_piece(head_dim));
}

inline AttentionScratch divide(const AttentionTask& task, std::byte* scratch) {
  auto* next = reinterpret_cast<float*>(scratch);
  const auto take = [&next](std::int64_t count) {
    float* taken = next;
    next += count;
    return taken;
  };
  AttentionScratch s{};
  s.running = take(kAttentionQueries * task.state_stride);
  s.piece = take(kTileTokens * task.state_stride);
  s.scores = take(kTileTokens * kSegment);
  s.probabilities = take(kTileTokens * kSegment);
  s.queries = take(kAttentionQueries * up_to(task.head_dim, kPanelRows));
  s.widened = take(0);
  return s;
}

/// Where query vector `i` of those numbered from `begin` is in the batch.
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
  const std::int64_t size = bytes_of(task.query_type);
  const std::byte* in = task.queries + (place.row * task.query_stride + place.head * task.head_dim) * size;
  const std::int64_t depth = up_to(task.head_dim, Panel::kDepth);
  if constexpr (Panel::kDepth == 2 * Panel::kValues) {  // pairs
    for (std::int64_t k = 0; k < depth; k += 2, out += tokens) {
      std::uint16_t pair[2] = {0, 0};
      __builtin_memcpy(pair, in + k * 2, k + 2 <= task.head_dim ? 4 : 2);
      *out = pair_of(pair[0], pair[1]);
    }
  } else {
    for (std::int64_t k = 0; k < depth; k += 16) {
      alignas(64) float lanes[16];
      const std::int64_t left = task.head_dim - k;
      store(lanes, left >= 16 ? load_as(task.query_type, in + k * size)
                              : load_as(task.query_type, in + k * size, left));
      const std::int64_t count = depth - k < 16 ? depth - k : 16;
      for (std::int64_t i = 0; i < count; ++i, out += tokens) *out = lanes[i];
    }
  }
}

PEREGRINE_INLINE Bias bias_of(const AttentionTask& task, const QueryPlace& place) {
  const std::int64_t limit = task.distance_limit;
  return {task.slopes != nullptr ? task.slopes + place.head : nullptr,
          task.distance_bias != nullptr ? task.distance_bias + place.head * (2 * limit + 1) + limit : nullptr,
          task.positions[place.row]};
}

/// Up to kTileTokens query vectors of an item, in one segment.
struct AttentionTile {
  int first;
  int tokens;
  Visible visible[kTileTokens];
  std::int64_t most, least;  ///< Of `valid`.
};

/// Blocks of a segment.
struct SegmentBlocks {
  const std::byte* stored[kSegment / kCacheBlock];  ///< As the cache has them.
  const std::byte* pieces[kSegment / kCacheBlock];  ///< As tiles read them: the same, or widened.
  const std::byte* next[kSegment / kCacheBlock];    ///< What is read after the pieces, or themselves again.
  std::int64_t key_bytes;                           ///< Values begin here in `pieces`.
};

/// Widens the first `count` blocks.
template <typename Stored>
inline void widen(const AttentionTask& task, const AttentionScratch& s, std::int64_t count,
                  SegmentBlocks& blocks) {
  blocks.key_bytes = wide_keys(task.head_dim);
  const std::int64_t key_steps = up_to(task.head_dim, Stored::kDepth) / Stored::kDepth;
  const std::int64_t value_steps = up_to(task.head_dim, kPanelRows) / Stored::kDepth;
  for (std::int64_t b = 0; b < kSegment / kCacheBlock; ++b) {
    auto* to = reinterpret_cast<std::byte*>(s.widened) + b * wide_piece(task.head_dim);
    blocks.pieces[b] = blocks.next[b] = to;
    if (b >= count) continue;
    widen_panel<Stored>(blocks.stored[b], key_steps, reinterpret_cast<float*>(to));
    // The panels of values lie one behind the other.
    widen_panel<Stored>(blocks.stored[b] + task.key_bytes, value_steps,
                        reinterpret_cast<float*>(to + blocks.key_bytes));
  }
}

/// Scores before anything is done to them, [tokens][kSegment].
template <typename Panel, template <int> typename RowsOf>
inline void score(const AttentionTask& task, const AttentionTile& tile_of, const AttentionScratch& s,
                  const SegmentBlocks& blocks) {
  static constexpr AttentionTiles<Panel, RowsOf> kTiles;
  const std::int64_t steps = up_to(task.head_dim, Panel::kDepth) / Panel::kDepth;
  ScoreArgs args{};
  args.x = reinterpret_cast<const typename Panel::Value*>(s.queries) + tile_of.first * steps * Panel::kValues;
  args.steps = steps;
  const std::int64_t count = up_to(tile_of.most, kCacheBlock) / kCacheBlock;
  for (std::int64_t p = 0; p < count;) {
    const int panels = panels_of(tile_of.tokens, count - p);
    for (int i = 0; i < panels; ++i) {
      args.panels[i] = blocks.pieces[p + i];
      args.next[i] = blocks.next[p + i];
    }
    args.sums = {s.scores + p * kCacheBlock, kSegment};
    kTiles.score[tile_of.tokens - 1][panels / 2](args);
    p += panels;
  }
}

/// o of `states` = sum over visible tokens of weight * value.
template <typename Panel, template <int> typename RowsOf>
inline void weigh_values(const AttentionTask& task, const AttentionTile& tile_of, const AttentionScratch& s,
                         const SegmentBlocks& blocks, float* states) {
  static constexpr AttentionTiles<Panel, RowsOf> kTiles;
  using Value = typename Panel::Value;
  constexpr std::int64_t kPanelBytes = kCacheBlock / Panel::kDepth * Panel::kBytes;
  const std::int64_t panels = up_to(task.head_dim, kPanelRows) / kPanelRows;
  const auto* probabilities = reinterpret_cast<const Value*>(s.probabilities);
  const auto walk = [&](int first, int tokens, std::int64_t begin, std::int64_t end, bool ahead) {
    if (begin == end) return;
    WeighArgs args{};
    args.pieces = blocks.pieces;
    args.next = ahead ? blocks.next : blocks.pieces;
    args.x = probabilities + first * RowsOf<1>::kTokenStride;
    args.begin = begin;
    args.end = end;
    for (std::int64_t p = 0; p < panels;) {
      const int count = panels_of(tokens, panels - p);
      args.panel = blocks.key_bytes + p * kPanelBytes;
      args.sums = {states + first * task.state_stride + p * kPanelRows, task.state_stride};
      kTiles.weigh[tokens - 1][count / 2](args);
      p += count;
    }
  };
  // Tokens that all query vectors of the tile see, in whole steps; then each one's own rest.
  const std::int64_t common = tile_of.least / Panel::kDepth;
  if (common == 0) {
    for (int t = 0; t < tile_of.tokens; ++t) clear(task, state_at(task, states, t));
  }
  walk(0, tile_of.tokens, 0, common, true);
  for (int t = 0; t < tile_of.tokens; ++t) {
    const std::int64_t valid = tile_of.visible[t].valid, whole = valid / Panel::kDepth;
    walk(t, 1, common, whole, false);
    if constexpr (Panel::kDepth == 2) {
      if (valid % 2 == 0) continue;
      const std::byte* values =
          blocks.pieces[valid / kCacheBlock] + blocks.key_bytes + valid % kCacheBlock / 2 * Panel::kBytes;
      const Value* x = probabilities + t * RowsOf<1>::kTokenStride + whole * Panel::kValues;
      float* sums = states + t * task.state_stride;
      for (std::int64_t p = 0; p < panels; ++p) {
        store(sums + p * 16, Panel::even_step(load(sums + p * 16), load(values + p * kPanelBytes), x));
      }
    }
  }
}

/// Merges up to 16 states with those of a later segment (Milakov and Gimelshein 2018, algorithm 3, over
/// segments). One that has seen nothing changes nothing, not even a rounding.
inline void merge(const AttentionTask& task, float* running, float* pieces, int count) {
  alignas(64) float before[16] = {}, now[16] = {}, tops[16] = {};
  for (int t = 0; t < count; ++t) {
    const float own = *state_at(task, running, t).m, other = *state_at(task, pieces, t).m;
    tops[t] = other > own ? other : own;
    before[t] = own - tops[t];
    now[t] = other - tops[t];
  }
  store(before, exp_below(load(before)));
  store(now, exp_below(load(now)));
  const std::int64_t wide = up_to(task.head_dim, kPanelRows);
  for (int t = 0; t < count; ++t) {
    const State to = state_at(task, running, t), from = state_at(task, pieces, t);
    if (*from.l == 0) continue;
    const Vector keep = splat(before[t]), add_in = splat(now[t]);
    *to.m = tops[t];
    // In lanes as o is, so that with instructions that have it the multiply-add is fused here too.
    alignas(64) float lanes[16];
    store(lanes, fma(splat(*from.l), add_in, mul(splat(*to.l), keep)));
    *to.l = lanes[0];
    for (std::int64_t i = 0; i < wide; i += 16) {
      store(to.o + i, fma(load(from.o + i), add_in, mul(load(to.o + i), keep)));
    }
  }
}

/// One tile of query vectors against one segment: the states of the segment.
template <typename Stored, typename Panel, template <int> typename RowsOf>
inline void attend_segment(const AttentionTask& task, const AttentionItem& item, const AttentionTile& tile_of,
                           const AttentionScratch& s, std::int64_t segment, const SegmentBlocks& blocks,
                           float* states) {
  constexpr bool kScaled = Stored::kBytes == 16;
  constexpr Number kStored = Panel::kDepth == 2 * Panel::kValues ? Number::kBF16 : Number::kF32;
  score<Panel, RowsOf>(task, tile_of, s, blocks);
  const Segment seen{segment * kSegment, blocks.stored};
  float highest[kTileTokens], total[kTileTokens];
  for (int t = 0; t < tile_of.tokens; ++t) {
    float* scores = s.scores + t * kSegment;
    auto* weights = reinterpret_cast<std::byte*>(s.probabilities) + t * RowsOf<1>::kTokenStride * 4;
    const Bias bias = bias_of(task, place_of(task, item, tile_of.first + t));
    highest[t] = make_scores<kScaled>(task, seen, scores, tile_of.visible[t], bias);
    total[t] = make_weights<kScaled, kStored>(task, seen, scores, tile_of.visible[t], highest[t], weights);
  }
  weigh_values<Panel, RowsOf>(task, tile_of, s, blocks, states);
  for (int t = 0; t < tile_of.tokens; ++t) {
    const State state = state_at(task, states, t);
    *state.m = highest[t];
    *state.l = total[t];
  }
}

/// Which positions of a segment the query vectors of a tile see. visible_to(i): up to where vector i of the
/// item sees any.
template <typename VisibleTo>
inline void look(const AttentionTask& task, std::int64_t segment, VisibleTo visible_to,
                 AttentionTile& tile_of) {
  tile_of.most = 0;
  tile_of.least = kSegment;
  for (int t = 0; t < tile_of.tokens; ++t) {
    const std::int64_t seen = visible_to(tile_of.first + t) - segment * kSegment;
    std::int64_t valid = seen < 0 ? 0 : seen < kSegment ? seen : kSegment;
    const std::int64_t begin = task.window > 0 && seen > task.window ? seen - task.window : 0;
    if (begin >= valid) valid = 0;
    tile_of.visible[t] = {begin, valid};
    tile_of.most = valid > tile_of.most ? valid : tile_of.most;
    tile_of.least = valid < tile_of.least ? valid : tile_of.least;
  }
}

/// Writes o / l of states of the item's query vectors.
inline void finish(const AttentionTask& task, const AttentionItem& item, float* states) {
  const std::int64_t size = bytes_of(task.query_type);
  for (int i = 0; i < item.count; ++i) {
    const QueryPlace place = place_of(task, item, i);
    std::byte* out = task.out + (place.row * task.out_stride + place.head * task.head_dim) * size;
    const State state = state_at(task, states, i);
    const Vector total = splat(*state.l);
    for (std::int64_t k = 0; k < task.head_dim; k += 16) {
      const std::int64_t lanes = task.head_dim - k < 16 ? task.head_dim - k : 16;
      store_as(task.query_type, out + k * size, div(load(state.o + k), total), lanes);
    }
  }
}

/// `Stored` is how the cache has its panels, `Panel` how tiles read them.
template <typename Stored, typename Panel, template <int> typename RowsOf>
inline void attend_as(const AttentionTask& task, const AttentionItem& item, std::byte* scratch) {
  const std::int64_t steps = up_to(task.head_dim, Panel::kDepth) / Panel::kDepth;
  const AttentionScratch s = divide(task, scratch);
  const int tiles = (item.count + kTileTokens - 1) / kTileTokens;
  const auto first_of = [&](int tile_index) {
    const int small = item.count / tiles, bigger = item.count % tiles;
    return tile_index * small + (tile_index < bigger ? tile_index : bigger);
  };
  for (int i = 0; i < tiles; ++i) {
    const int first = first_of(i), tokens = first_of(i + 1) - first;
    auto* queries = reinterpret_cast<typename Panel::Value*>(s.queries) + first * steps * Panel::kValues;
    for (int t = 0; t < tokens; ++t)
      pack_query<Panel>(task, place_of(task, item, first + t), queries + t, tokens);
  }
  const bool whole = item.states == nullptr;
  for (int i = 0; whole && i < item.count; ++i) clear(task, state_at(task, s.running, i));

  // How many positions query vector i may see, those before a window included.
  const auto visible_to = [&](std::int64_t i) {
    return item.length > 0 ? item.length : std::int64_t{task.positions[place_of(task, item, i).row]} + 1;
  };
  const std::int64_t blocks_seen = up_to(visible_to(item.count - 1), kCacheBlock) / kCacheBlock;
  const auto piece_of = [&](std::int64_t block) {
    // Behind the last: the last, read anyway.
    const std::int64_t at = item.block_table[block < blocks_seen ? block : blocks_seen - 1];
    return task.cache + at * task.block_bytes + item.kv_head * task.head_bytes;
  };
  constexpr std::int64_t kBlocks = kSegment / kCacheBlock;
  constexpr bool kWidens = Stored::kBytes != Panel::kBytes || Stored::kDepth != Panel::kDepth;
  for (std::int64_t segment = item.first_segment; segment < item.end_segment; ++segment) {
    SegmentBlocks blocks;
    for (std::int64_t b = 0; b < kBlocks; ++b) {
      blocks.stored[b] = blocks.pieces[b] = piece_of(segment * kBlocks + b);
    }
    blocks.key_bytes = task.key_bytes;
    if constexpr (kWidens) widen<Stored>(task, s, blocks_seen - segment * kBlocks, blocks);
    float* states = whole ? nullptr : item.states + (segment - item.first_segment) * item.segment_stride;
    for (int i = 0; i < tiles; ++i) {
      AttentionTile tile_of{};
      tile_of.first = first_of(i);
      tile_of.tokens = first_of(i + 1) - tile_of.first;
      look(task, segment, visible_to, tile_of);
      float* to = whole ? s.piece : states + tile_of.first * task.state_stride;
      if (tile_of.most > 0) {
        // Each tile asks for its share of the next segment, so that memory is busy all the time.
        for (std::int64_t b = 0; !kWidens && b < kBlocks; ++b) {
          blocks.next[b] =
              b * tiles / kBlocks == i ? piece_of((segment + 1) * kBlocks + b) : blocks.pieces[b];
        }
        attend_segment<Stored, Panel, RowsOf>(task, item, tile_of, s, segment, blocks, to);
        if (whole) merge(task, s.running + tile_of.first * task.state_stride, to, tile_of.tokens);
      } else if (!whole) {
        for (int t = 0; t < tile_of.tokens; ++t) clear(task, state_at(task, to, t));
      }
    }
  }
  if (whole) finish(task, item, s.running);
}

template <typename Stored>
inline void attend(const AttentionTask& task, const AttentionItem& item, std::byte* scratch) {
  if (item.count > (kWidenTiles - 1) * kTileTokens) {
    attend_as<Stored, F32Panel, FloatRowsOf>(task, item, scratch);
  } else {
    attend_as<Stored, Stored, FloatRowsOf>(task, item, scratch);
  }
}

void attention(const AttentionTask& task, const AttentionItem& item, std::byte* scratch) {
  if (task.cache_type == CacheType::kF32) {
    attend_as<F32Panel, F32Panel, FloatRowsOf>(task, item, scratch);
    return;
  }
  if (task.cache_type == CacheType::kInt8) {
    attend<Int8Panel>(task, item, scratch);
    return;
  }
#if defined(PEREGRINE_AVX512_BF16)
  if (task.query_type == Number::kBF16) {
    attend_as<Bf16DotPanel, Bf16DotPanel, PairRowsOf>(task, item, scratch);
    return;
  }
#endif
  attend<Bf16Panel>(task, item, scratch);
}

/// The segments [first_segment, end_segment) of item.states, merged into `running`; see kernel_table.h.
void merge_states(const AttentionTask& task, const AttentionItem& item, float* running, MergeTurn turn) {
  if (turn.first) {
    for (int i = 0; i < item.count; ++i) clear(task, state_at(task, running, i));
  }
  for (std::int64_t segment = item.first_segment; segment < item.end_segment; ++segment) {
    float* pieces = item.states + (segment - item.first_segment) * item.segment_stride;
    for (int i = 0; i < item.count; i += 16) {
      const int count = item.count - i < 16 ? item.count - i : 16;
      merge(task, running + i * task.state_stride, pieces + i * task.state_stride, count);
    }
  }
  if (turn.last) finish(task, item, running);
}

}  // namespace
}  // namespace peregrine::ops::cpu::PEREGRINE_ISA
