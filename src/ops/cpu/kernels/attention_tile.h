// SPDX-License-Identifier: Apache-2.0
// Part of a kernel source: the register tiles of attention. As in tile.h each of the P * T accumulators is
// one chain of fused multiply-adds in ascending order, so that a result depends neither on P and T nor on
// where the chain was cut. Other than there the panels lie in blocks all over the cache: a tile is told where
// each of them is, and where what it reads after them will be, which no hardware prefetcher can know.
#pragma once

namespace peregrine::ops::cpu::PEREGRINE_ISA {
namespace {

/// 8-bit integers, widened on the way. Scales are applied to scores and probabilities.
struct Int8Panel {
  using Value = float;
  static constexpr int kBytes = 16;
  static constexpr int kValues = 1;
  static constexpr int kDepth = 1;

  template <int P, int T, typename Layout>
  static PEREGRINE_INLINE void step(Vector (&sums)[P * T], const std::byte* const (&w)[P],
                                    std::int64_t offset, const float* x) {
    Vector weights[P];
    each<P>([&](auto p) PEREGRINE_LAMBDA { weights[p] = load_int8(w[p] + offset); });
    each<T>([&](auto t) PEREGRINE_LAMBDA {
      const Vector value = splat(x[t * Layout::kTokenStride]);
      each<P>([&](auto p) PEREGRINE_LAMBDA { sums[t * P + p] = fma(weights[p], value, sums[t * P + p]); });
    });
  }
};

/// Asks for the line of each panel's successor that lies where `offset` is, once a line.
template <int P, int kBytes>
PEREGRINE_INLINE void fetch_next(const std::byte* const (&next)[P], std::int64_t offset) {
  if (kBytes < 64 && offset % 64 != 0) return;
  each<P>([&](auto p) PEREGRINE_LAMBDA {
    _mm_prefetch(reinterpret_cast<const char*>(next[p] + offset), _MM_HINT_T1);
  });
}

/// Where a tile writes: sum (t, p) at [t * stride + 16 * p].
struct TileSums {
  float* at;
  std::int64_t stride;
};
template <int P, int T>
PEREGRINE_INLINE void load_sums(Vector (&sums)[P * T], TileSums from) {
  each<P * T>([&](auto i) PEREGRINE_LAMBDA {
    sums[i] = load(from.at + (i / P) * from.stride + (i % P) * kPanelRows);
  });
}
template <int P, int T>
PEREGRINE_INLINE void store_sums(const Vector (&sums)[P * T], TileSums to) {
  each<P * T>([&](auto i)
                  PEREGRINE_LAMBDA { store(to.at + (i / P) * to.stride + (i % P) * kPanelRows, sums[i]); });
}

/// Scores of T query vectors against the keys of P blocks.
struct ScoreArgs {
  const std::byte* panels[kTilePanels];
  const std::byte* next[kTilePanels];  ///< What is read after them; readable, or the panels themselves.
  const void* x;                       ///< Interleaved queries.
  std::int64_t steps;
  TileSums sums;
};

template <typename Panel, int P, int T, typename Layout>
void score_tile(const ScoreArgs& args) {
  Vector sums[P * T];
  const std::byte *panels[P], *next[P];
  each<P * T>([&](auto i) PEREGRINE_LAMBDA { sums[i] = zero(); });
  each<P>([&](auto p) PEREGRINE_LAMBDA {
    panels[p] = args.panels[p];
    next[p] = args.next[p];
  });
  const auto* x = static_cast<const typename Panel::Value*>(args.x);
  const std::int64_t end = args.steps * Panel::kBytes;
  for (std::int64_t offset = 0; offset < end; offset += Panel::kBytes) {
    fetch_next<P, Panel::kBytes>(next, offset);
    Panel::template step<P, T, Layout>(sums, panels, offset, x);
    x += Panel::kValues * Layout::kStepStride;
  }
  store_sums<P, T>(sums, args.sums);
}

/// The values of a segment, P panels of 16 dimensions each, weighed by T rows of probabilities.
struct WeighArgs {
  const std::byte* const* pieces;  ///< Of the segment's blocks.
  const std::byte* const* next;    ///< Those read after them, likewise.
  std::int64_t panel;              ///< Where the first panel begins in each.
  const void* x;                   ///< Probabilities of step 0.
  std::int64_t begin, end;         ///< Steps, counted from the segment's first.
  TileSums sums;                   ///< Continued where begin > 0.
};

template <typename Panel, int P, int T, typename Layout>
void weigh_tile(const WeighArgs& args) {
  constexpr std::int64_t kBlockSteps = kCacheBlock / Panel::kDepth;
  constexpr std::int64_t kPanelBytes = kBlockSteps * Panel::kBytes;
  Vector sums[P * T];
  if (args.begin > 0) {
    load_sums<P, T>(sums, args.sums);
  } else {
    each<P * T>([&](auto i) PEREGRINE_LAMBDA { sums[i] = zero(); });
  }
  const auto* x =
      static_cast<const typename Panel::Value*>(args.x) + args.begin * Panel::kValues * Layout::kStepStride;
  for (std::int64_t step = args.begin; step < args.end;) {
    const std::int64_t block = step / kBlockSteps, within = step % kBlockSteps;
    const std::int64_t left = args.end - step;
    const std::int64_t count = left < kBlockSteps - within ? left : kBlockSteps - within;
    const std::byte *panels[P], *next[P];
    each<P>([&](auto p) PEREGRINE_LAMBDA {
      panels[p] = args.pieces[block] + args.panel + p * kPanelBytes;
      next[p] = args.next[block] + args.panel + p * kPanelBytes;
    });
    const std::int64_t stop = (within + count) * Panel::kBytes;
    for (std::int64_t offset = within * Panel::kBytes; offset < stop; offset += Panel::kBytes) {
      fetch_next<P, Panel::kBytes>(next, offset);
      Panel::template step<P, T, Layout>(sums, panels, offset, x);
      x += Panel::kValues * Layout::kStepStride;
    }
    step += count;
  }
  store_sums<P, T>(sums, args.sums);
}

/// Copies 16 columns of a panel, widened to float32: `steps` of them.
template <typename Panel>
inline void widen_panel(const std::byte* panel, std::int64_t steps, float* out) {
  for (std::int64_t i = 0; i < steps; ++i, panel += Panel::kBytes) {
    if constexpr (Panel::kBytes == 16) {
      store(out, load_int8(panel));
    } else {
      const Vector pairs = load(panel);
      store(out, widen_even(pairs));
      store(out + kPanelRows, widen_odd(pairs));
    }
    out += Panel::kDepth * kPanelRows;
  }
}

/// Both tiles for `tokens` query vectors and 1, 2 or 4 panels, as far as panels_at(tokens) goes.
template <typename Panel, template <int> typename RowsOf>
struct AttentionTiles {
  void (*score[kTileTokens][3])(const ScoreArgs&);
  void (*weigh[kTileTokens][3])(const WeighArgs&);

  constexpr AttentionTiles() : score{}, weigh{} {
    each<kTileTokens>([this](auto index) {
      constexpr int kTokens = index + 1;
      constexpr int kMost = panels_at(kTokens), kSome = kMost < 2 ? kMost : 2;
      score[index][0] = &score_tile<Panel, 1, kTokens, Interleaved<kTokens>>;
      score[index][1] = &score_tile<Panel, kSome, kTokens, Interleaved<kTokens>>;
      score[index][2] = &score_tile<Panel, kMost, kTokens, Interleaved<kTokens>>;
      weigh[index][0] = &weigh_tile<Panel, 1, kTokens, RowsOf<kTokens>>;
      weigh[index][1] = &weigh_tile<Panel, kSome, kTokens, RowsOf<kTokens>>;
      weigh[index][2] = &weigh_tile<Panel, kMost, kTokens, RowsOf<kTokens>>;
    });
  }
};

}  // namespace
}  // namespace peregrine::ops::cpu::PEREGRINE_ISA
