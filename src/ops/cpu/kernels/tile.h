// SPDX-License-Identifier: Apache-2.0
// Part of a kernel source: the register tile that every matrix product and attention is made of.
//
// A tile multiplies P panels (16 rows of weights, keys or values each) with T vectors of activations
// (queries, probabilities). Each of its P * T accumulators is one chain of fused multiply-adds over k in
// ascending order, begun at zero and continued where an earlier call left it in memory. So a result depends
// neither on P and T nor on how K is cut.
#pragma once

namespace peregrine::ops::cpu::PEREGRINE_ISA {
namespace {

/// Panels for which T accumulators each fit the registers beside the weights and a broadcast: 32 registers of
/// 16 floats hold 4 x 6 accumulators; 16 of 8 floats hold 1 x 6 pairs; 16 of 4 floats hold 1 x 2 quadruples.
constexpr int panels_at(int tokens) {
#if defined(PEREGRINE_AVX512)
  return tokens <= 6 ? 4 : 2;
#elif defined(PEREGRINE_AVX2)
  return tokens == 1 ? 4 : tokens <= 3 ? 2 : 1;
#else
  return tokens == 1 ? 2 : 1;
#endif
}
#if defined(PEREGRINE_AVX512) || defined(PEREGRINE_AVX2)
inline constexpr int kTileTokens = 6;
#else
inline constexpr int kTileTokens = 2;
#endif
/// The most tokens of a tile: where there are no more in all, weights are loaded (and widened) once for them.
#if defined(PEREGRINE_AVX512)
inline constexpr int kStreamTokens = 12;
#else
inline constexpr int kStreamTokens = kTileTokens;
#endif

PEREGRINE_INLINE void clear(Vector& sum) { sum = zero(); }
PEREGRINE_INLINE void clear(IntVector& sum) { sum = splat_ints(0); }
PEREGRINE_INLINE void resume(Vector& sum, const void* p) { sum = load(p); }
PEREGRINE_INLINE void resume(IntVector& sum, const void* p) { sum = load_ints(p); }

/// Where an activation lies: value (token, k) at [token * kTokenStride + k * kStepStride].
template <int kTokens>
struct Interleaved {
  static constexpr int kTokenStride = 1;
  static constexpr int kStepStride = kTokens;
};
/// One row of `kStride` values per token.
template <int kStride>
struct Rows {
  static constexpr int kTokenStride = kStride;
  static constexpr int kStepStride = 1;
};

// The kinds of panel. One step consumes kBytes of each panel and kValues values of each activation; kTokens
// is the most rows a tile of it has.

struct F32Panel {
  using Value = float;
  using Sum = Vector;
  static constexpr int kBytes = 64;
  static constexpr int kValues = 1;
  static constexpr int kDepth = 1;  ///< k per step.

  template <int P, int T, typename Layout>
  static PEREGRINE_INLINE void step(Vector (&sums)[P * T], const std::byte* const (&w)[P],
                                    std::int64_t offset, const float* x) {
    Vector weights[P];
    each<P>([&](auto p) PEREGRINE_LAMBDA { weights[p] = load(w[p] + offset); });
    each<T>([&](auto t) PEREGRINE_LAMBDA {
      const Vector value = splat(x[t * Layout::kTokenStride]);
      each<P>([&](auto p) PEREGRINE_LAMBDA { sums[t * P + p] = fma(weights[p], value, sums[t * P + p]); });
    });
  }
};

struct F16Panel {
  using Value = float;
  using Sum = Vector;
  static constexpr int kBytes = 32;
  static constexpr int kValues = 1;
  static constexpr int kDepth = 1;

  template <int P, int T, typename Layout>
  static PEREGRINE_INLINE void step(Vector (&sums)[P * T], const std::byte* const (&w)[P],
                                    std::int64_t offset, const float* x) {
    Vector weights[P];
    each<P>([&](auto p) PEREGRINE_LAMBDA { weights[p] = load_f16(w[p] + offset); });
    each<T>([&](auto t) PEREGRINE_LAMBDA {
      const Vector value = splat(x[t * Layout::kTokenStride]);
      each<P>([&](auto p) PEREGRINE_LAMBDA { sums[t * P + p] = fma(weights[p], value, sums[t * P + p]); });
    });
  }
};

/// Pairs of bfloat16, widened on the way: the even k first, then the odd one.
struct Bf16Panel {
  using Value = float;
  using Sum = Vector;
  static constexpr int kBytes = 64;
  static constexpr int kValues = 2;
  static constexpr int kDepth = 2;

  template <int P, int T, typename Layout>
  static PEREGRINE_INLINE void step(Vector (&sums)[P * T], const std::byte* const (&w)[P],
                                    std::int64_t offset, const float* x) {
    half_step<P, T, Layout, false>(sums, w, offset, x);
    half_step<P, T, Layout, true>(sums, w, offset, x + Layout::kStepStride);
  }

  template <int P, int T, typename Layout, bool kOdd>
  static PEREGRINE_INLINE void half_step(Vector (&sums)[P * T], const std::byte* const (&w)[P],
                                         std::int64_t offset, const float* x) {
    Vector weights[P];
    each<P>([&](auto p) PEREGRINE_LAMBDA {
      const Vector pairs = load(w[p] + offset);
      weights[p] = kOdd ? widen_odd(pairs) : widen_even(pairs);
    });
    each<T>([&](auto t) PEREGRINE_LAMBDA {
      const Vector value = splat(x[t * Layout::kTokenStride]);
      each<P>([&](auto p) PEREGRINE_LAMBDA { sums[t * P + p] = fma(weights[p], value, sums[t * P + p]); });
    });
  }

  /// The last step where only the even k counts; the odd one, whatever it is, is not touched.
  static PEREGRINE_INLINE Vector even_step(Vector sum, Vector pairs, const float* x) {
    return fma(widen_even(pairs), splat(*x), sum);
  }
};

#if defined(PEREGRINE_AVX512_BF16)
/// Pairs of bfloat16 against pairs of bfloat16, two products and two sums by one instruction.
struct Bf16DotPanel {
  using Value = std::uint32_t;
  using Sum = Vector;
  static constexpr int kBytes = 64;
  static constexpr int kValues = 1;
  static constexpr int kDepth = 2;

  static PEREGRINE_INLINE Vector dot(Vector sum, Vector a, __m512i b) {
    return {_mm512_dpbf16_ps(sum.v, (__m512bh)a.v, (__m512bh)b)};
  }

  template <int P, int T, typename Layout>
  static PEREGRINE_INLINE void step(Vector (&sums)[P * T], const std::byte* const (&w)[P],
                                    std::int64_t offset, const std::uint32_t* x) {
    Vector weights[P];
    each<P>([&](auto p) PEREGRINE_LAMBDA { weights[p] = load(w[p] + offset); });
    each<T>([&](auto t) PEREGRINE_LAMBDA {
      const __m512i pair = _mm512_set1_epi32(static_cast<int>(x[t * Layout::kTokenStride]));
      each<P>([&](auto p) PEREGRINE_LAMBDA { sums[t * P + p] = dot(sums[t * P + p], weights[p], pair); });
    });
  }

  static PEREGRINE_INLINE Vector even_step(Vector sum, Vector pairs, const std::uint32_t* x) {
    const __m512i even = _mm512_and_si512(_mm512_castps_si512(pairs.v), _mm512_set1_epi32(0xFFFF));
    return dot(sum, {_mm512_castsi512_ps(even)}, _mm512_set1_epi32(static_cast<int>(*x & 0xFFFFu)));
  }
};
#endif

/// Quads of unsigned bytes (weights plus 128) against quads of signed ones, summed exactly in 32 bits: all
/// four products by one instruction where there is one, else by two in 16 bits, of the even and of the odd k.
struct I8Panel {
  using Value = std::uint32_t;
  using Sum = IntVector;
  static constexpr int kBytes = 64;
  static constexpr int kDepth = 4;
#if defined(PEREGRINE_VNNI)
  static constexpr int kValues = 1;

  template <int P, int T, typename Layout>
  static PEREGRINE_INLINE void step(IntVector (&sums)[P * T], const std::byte* const (&w)[P],
                                    std::int64_t offset, const std::uint32_t* x) {
    IntVector weights[P];
    each<P>([&](auto p) PEREGRINE_LAMBDA { weights[p] = load_ints(w[p] + offset); });
    each<T>([&](auto t) PEREGRINE_LAMBDA {
      const __m512i quad = _mm512_set1_epi32(static_cast<int>(x[t * Layout::kTokenStride]));
      each<P>([&](auto p) PEREGRINE_LAMBDA {
        sums[t * P + p].v = _mm512_dpbusd_epi32(sums[t * P + p].v, weights[p].v, quad);
      });
    });
  }
#else
  static constexpr int kValues = 2;

  template <int P, int T, typename Layout>
  static PEREGRINE_INLINE void step(IntVector (&sums)[P * T], const std::byte* const (&w)[P],
                                    std::int64_t offset, const std::uint32_t* x) {
    half_step<P, T, Layout, false>(sums, w, offset, x);
    half_step<P, T, Layout, true>(sums, w, offset, x + Layout::kStepStride);
  }

  template <int P, int T, typename Layout, bool kOdd>
  static PEREGRINE_INLINE void half_step(IntVector (&sums)[P * T], const std::byte* const (&w)[P],
                                         std::int64_t offset, const std::uint32_t* x) {
    IntVector weights[P];
    each<P>([&](auto p) PEREGRINE_LAMBDA {
      const IntVector quads = load_ints(w[p] + offset);
      weights[p] = kOdd ? odd_bytes(quads) : even_bytes(quads);
    });
    each<T>([&](auto t) PEREGRINE_LAMBDA {
      const IntVector pair = splat_ints(static_cast<std::int32_t>(x[t * Layout::kTokenStride]));
      each<P>([&](auto p)
                  PEREGRINE_LAMBDA { sums[t * P + p] = add_products(sums[t * P + p], weights[p], pair); });
    });
  }
#endif
};

/// What a tile asks the memory for while it computes.
enum class Prefetch {
  kNone,
  kStream,  ///< Its own panels, `ahead` bytes further on, at each step.
  kSpread,  ///< At each step, out of what comes next, the lines at next[0] and next[1], `next_step` bytes on
            ///< each time.
};

struct TileArgs {
  const std::byte* panels[kTilePanels];
  const void* x;
  std::int64_t steps;
  float* sums;  ///< Sum (t, p) at [t * sums_stride + 16 * p]; integers where the panels' sums are.
  std::int64_t sums_stride;
  bool resume;  ///< Continue the sums in memory; else from zero.
  std::int64_t ahead;
  const std::byte* next[2];
  std::int64_t next_step;
};

template <typename Panel, int P, int T, typename Layout, Prefetch kPrefetch>
void tile(const TileArgs& args) {
  typename Panel::Sum sums[P * T];
  if (args.resume) {
    each<P * T>([&](auto i) PEREGRINE_LAMBDA {
      resume(sums[i], args.sums + (i / P) * args.sums_stride + (i % P) * kPanelRows);
    });
  } else {
    each<P * T>([&](auto i) PEREGRINE_LAMBDA { clear(sums[i]); });
  }
  const std::byte* panels[P];
  each<P>([&](auto p) PEREGRINE_LAMBDA { panels[p] = args.panels[p]; });
  const auto* x = static_cast<const typename Panel::Value*>(args.x);
  [[maybe_unused]] const std::byte* next = args.next[0];
  [[maybe_unused]] const std::int64_t other = args.next[1] - args.next[0];
  const std::int64_t end = args.steps * Panel::kBytes;
  for (std::int64_t offset = 0; offset < end; offset += Panel::kBytes) {
    if constexpr (kPrefetch == Prefetch::kStream) {
      each<P>([&](auto p) PEREGRINE_LAMBDA {
        _mm_prefetch(reinterpret_cast<const char*>(panels[p] + offset + args.ahead), _MM_HINT_T0);
      });
    }
    if constexpr (kPrefetch == Prefetch::kSpread) {
      _mm_prefetch(reinterpret_cast<const char*>(next), _MM_HINT_T1);
      _mm_prefetch(reinterpret_cast<const char*>(next + other), _MM_HINT_T1);
      next += args.next_step;
    }
    Panel::template step<P, T, Layout>(sums, panels, offset, x);
    x += Panel::kValues * Layout::kStepStride;
  }
  each<P * T>([&](auto i) PEREGRINE_LAMBDA {
    store(args.sums + (i / P) * args.sums_stride + (i % P) * kPanelRows, sums[i]);
  });
}

using TileFunction = void (*)(const TileArgs&);

/// The tile for `tokens` and up to panels_at(tokens) panels, chosen at run time.
template <typename Panel, Prefetch kPrefetch, template <int> typename LayoutOf>
struct TileTable {
  TileFunction functions[kStreamTokens][3];  ///< 1, 2 and 4 panels.

  constexpr TileTable() : functions{} {
    each<kStreamTokens>([this](auto index) {
      constexpr int kTokens = index + 1;
      constexpr int kPanels = panels_at(kTokens);
      functions[index][0] = &tile<Panel, 1, kTokens, LayoutOf<kTokens>, kPrefetch>;
      functions[index][1] = &tile < Panel, kPanels < 2 ? kPanels : 2, kTokens, LayoutOf<kTokens>,
      kPrefetch > ;
      functions[index][2] = &tile<Panel, kPanels, kTokens, LayoutOf<kTokens>, kPrefetch>;
    });
  }
};

/// How many of `left` panels the next tile of `tokens` rows takes.
PEREGRINE_INLINE int panels_of(int tokens, std::int64_t left) {
  const int most = panels_at(tokens);
  return left >= 4 && most >= 4 ? 4 : left >= 2 && most >= 2 ? 2 : 1;
}

/// Runs `args` over `count` panels given by `panel_at(p)`, as many at a time as the registers allow.
template <typename Panel, Prefetch kPrefetch, template <int> typename LayoutOf, typename PanelAt>
PEREGRINE_INLINE void run_tiles(int tokens, std::int64_t count, PanelAt panel_at, TileArgs args) {
  static constexpr TileTable<Panel, kPrefetch, LayoutOf> kTable;
  float* sums = args.sums;
  for (std::int64_t p = 0; p < count;) {
    const int panels = panels_of(tokens, count - p);
    for (int i = 0; i < panels; ++i) args.panels[i] = panel_at(p + i);
    args.sums = sums + p * kPanelRows;
    kTable.functions[tokens - 1][panels / 2](args);
    p += panels;
  }
}

}  // namespace
}  // namespace peregrine::ops::cpu::PEREGRINE_ISA
