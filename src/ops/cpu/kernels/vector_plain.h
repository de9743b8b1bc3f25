// SPDX-License-Identifier: Apache-2.0
// Part of a kernel source: sixteen floats as four 128-bit registers, with the SSE2 that every x86-64
// processor has.
#pragma once

namespace peregrine::ops::cpu::PEREGRINE_ISA {
namespace {

struct Vector {
  __m128 v[4];
};
struct Mask {
  __m128 v[4];
};

template <typename Function>
PEREGRINE_INLINE Vector map(Vector x, Function f) {
  return {{f(x.v[0]), f(x.v[1]), f(x.v[2]), f(x.v[3])}};
}
template <typename Function>
PEREGRINE_INLINE Vector map(Vector x, Vector y, Function f) {
  return {{f(x.v[0], y.v[0]), f(x.v[1], y.v[1]), f(x.v[2], y.v[2]), f(x.v[3], y.v[3])}};
}
template <typename Function>
PEREGRINE_INLINE Vector map_bits(Vector x, Function f) {
  return map(x, [f](__m128 a) PEREGRINE_LAMBDA { return _mm_castsi128_ps(f(_mm_castps_si128(a))); });
}

PEREGRINE_INLINE Vector splat(float x) {
  const __m128 a = _mm_set1_ps(x);
  return {{a, a, a, a}};
}
PEREGRINE_INLINE Vector zero() { return splat(0.0f); }
PEREGRINE_INLINE Vector load(const void* p) {
  const auto* f = static_cast<const float*>(p);
  return {{_mm_loadu_ps(f), _mm_loadu_ps(f + 4), _mm_loadu_ps(f + 8), _mm_loadu_ps(f + 12)}};
}
PEREGRINE_INLINE void store(void* p, Vector x) {
  auto* f = static_cast<float*>(p);
  _mm_storeu_ps(f, x.v[0]);
  _mm_storeu_ps(f + 4, x.v[1]);
  _mm_storeu_ps(f + 8, x.v[2]);
  _mm_storeu_ps(f + 12, x.v[3]);
}
PEREGRINE_INLINE Vector add(Vector x, Vector y) {
  return map(x, y, [](__m128 a, __m128 b) PEREGRINE_LAMBDA { return _mm_add_ps(a, b); });
}
PEREGRINE_INLINE Vector sub(Vector x, Vector y) {
  return map(x, y, [](__m128 a, __m128 b) PEREGRINE_LAMBDA { return _mm_sub_ps(a, b); });
}
PEREGRINE_INLINE Vector mul(Vector x, Vector y) {
  return map(x, y, [](__m128 a, __m128 b) PEREGRINE_LAMBDA { return _mm_mul_ps(a, b); });
}
PEREGRINE_INLINE Vector div(Vector x, Vector y) {
  return map(x, y, [](__m128 a, __m128 b) PEREGRINE_LAMBDA { return _mm_div_ps(a, b); });
}
PEREGRINE_INLINE Vector sqrt(Vector x) {
  return map(x, [](__m128 a) PEREGRINE_LAMBDA { return _mm_sqrt_ps(a); });
}
/// x * y + z, rounded twice: SSE2 has no fused instruction.
PEREGRINE_INLINE Vector fma(Vector x, Vector y, Vector z) { return add(mul(x, y), z); }
/// y where either is not a number.
PEREGRINE_INLINE Vector min(Vector x, Vector y) {
  return map(x, y, [](__m128 a, __m128 b) PEREGRINE_LAMBDA { return _mm_min_ps(a, b); });
}
PEREGRINE_INLINE Vector max(Vector x, Vector y) {
  return map(x, y, [](__m128 a, __m128 b) PEREGRINE_LAMBDA { return _mm_max_ps(a, b); });
}
PEREGRINE_INLINE Mask less(Vector x, Vector y) {
  const Vector m = map(x, y, [](__m128 a, __m128 b) PEREGRINE_LAMBDA { return _mm_cmplt_ps(a, b); });
  return {{m.v[0], m.v[1], m.v[2], m.v[3]}};
}
PEREGRINE_INLINE Mask first_lanes(std::int64_t n) {
  const __m128i limit = _mm_set1_epi32(static_cast<int>(n < 16 ? n : 16));
  return {{_mm_castsi128_ps(_mm_cmpgt_epi32(limit, _mm_setr_epi32(0, 1, 2, 3))),
           _mm_castsi128_ps(_mm_cmpgt_epi32(limit, _mm_setr_epi32(4, 5, 6, 7))),
           _mm_castsi128_ps(_mm_cmpgt_epi32(limit, _mm_setr_epi32(8, 9, 10, 11))),
           _mm_castsi128_ps(_mm_cmpgt_epi32(limit, _mm_setr_epi32(12, 13, 14, 15)))}};
}
PEREGRINE_INLINE __m128 choose(__m128 m, __m128 a, __m128 b) {
  return _mm_or_ps(_mm_and_ps(m, a), _mm_andnot_ps(m, b));
}
PEREGRINE_INLINE Vector select(Mask m, Vector x, Vector y) {
  return {{choose(m.v[0], x.v[0], y.v[0]), choose(m.v[1], x.v[1], y.v[1]), choose(m.v[2], x.v[2], y.v[2]),
           choose(m.v[3], x.v[3], y.v[3])}};
}
PEREGRINE_INLINE Vector abs(Vector x) {
  return map(x, [](__m128 a) PEREGRINE_LAMBDA { return _mm_andnot_ps(_mm_set1_ps(-0.0f), a); });
}

/// Treats lanes as 32-bit integers: (x + n) << 23.
PEREGRINE_INLINE Vector add_shift_23(Vector x, int n) {
  return map_bits(
      x, [n](__m128i i) PEREGRINE_LAMBDA { return _mm_slli_epi32(_mm_add_epi32(i, _mm_set1_epi32(n)), 23); });
}
/// The even (lower) and odd (upper) bfloat16 of each 32-bit lane, widened.
PEREGRINE_INLINE Vector widen_even(Vector pairs) {
  return map_bits(pairs, [](__m128i i) PEREGRINE_LAMBDA { return _mm_slli_epi32(i, 16); });
}
PEREGRINE_INLINE Vector widen_odd(Vector pairs) {
  return map_bits(pairs, [](__m128i i) PEREGRINE_LAMBDA {
    return _mm_and_si128(i, _mm_set1_epi32(static_cast<int>(0xFFFF0000u)));
  });
}

/// Sixteen 16-bit numbers, each in the lower half of its lane.
PEREGRINE_INLINE Vector load_halves(const void* p) {
  const auto* h = static_cast<const __m128i*>(p);
  const __m128i a = _mm_loadu_si128(h), b = _mm_loadu_si128(h + 1), none = _mm_setzero_si128();
  return {{_mm_castsi128_ps(_mm_unpacklo_epi16(a, none)), _mm_castsi128_ps(_mm_unpackhi_epi16(a, none)),
           _mm_castsi128_ps(_mm_unpacklo_epi16(b, none)), _mm_castsi128_ps(_mm_unpackhi_epi16(b, none))}};
}
/// Mantissa and exponent moved into place, then scaled by 2^112, which makes denormals right as well;
/// infinities and NaNs get the full exponent.
PEREGRINE_INLINE __m128i widen_f16(__m128i h) {
  const __m128i magnitude = _mm_slli_epi32(_mm_and_si128(h, _mm_set1_epi32(0x7FFF)), 13);
  const __m128i sign = _mm_slli_epi32(_mm_and_si128(h, _mm_set1_epi32(0x8000)), 16);
  const __m128i scaled = _mm_castps_si128(_mm_mul_ps(_mm_castsi128_ps(magnitude), _mm_set1_ps(0x1p112f)));
  const __m128i special = _mm_cmpgt_epi32(magnitude, _mm_set1_epi32((0x7C00 << 13) - 1));
  const __m128i full = _mm_or_si128(magnitude, _mm_set1_epi32(0x7F800000));
  const __m128i value = _mm_or_si128(_mm_and_si128(special, full), _mm_andnot_si128(special, scaled));
  return _mm_or_si128(value, sign);
}
PEREGRINE_INLINE Vector load_f16(const void* p) {
  return map_bits(load_halves(p), [](__m128i h) PEREGRINE_LAMBDA { return widen_f16(h); });
}
PEREGRINE_INLINE Vector load_bf16(const void* p) { return widen_even(load_halves(p)); }

/// Lanes of a and b that fit 16 bits, side by side (SSE2 packs with signed saturation only).
PEREGRINE_INLINE __m128i pack_halves(__m128i a, __m128i b) {
  return _mm_packs_epi32(_mm_srai_epi32(_mm_slli_epi32(a, 16), 16),
                         _mm_srai_epi32(_mm_slli_epi32(b, 16), 16));
}
PEREGRINE_INLINE void store_halves(void* p, Vector x) {
  auto* h = static_cast<__m128i*>(p);
  _mm_storeu_si128(h, pack_halves(_mm_castps_si128(x.v[0]), _mm_castps_si128(x.v[1])));
  _mm_storeu_si128(h + 1, pack_halves(_mm_castps_si128(x.v[2]), _mm_castps_si128(x.v[3])));
}
/// The algorithm of core::to_float16, kept apart so that no shared inline function is used here.
PEREGRINE_INLINE std::uint32_t narrow_f16(float x) {
  std::uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) return sign | 0x7E00u;
  if (magnitude >= 0x477FF000u) return sign | 0x7C00u;
  if (magnitude < 0x38800000u) {
    float aligned;
    __builtin_memcpy(&aligned, &magnitude, 4);
    aligned += 0.5f;
    __builtin_memcpy(&bits, &aligned, 4);
    return sign | (bits - 0x3F000000u);
  }
  return sign | ((magnitude + 0xC8000FFFu + ((magnitude >> 13) & 1u)) >> 13);
}
PEREGRINE_INLINE void store_f16(void* p, Vector x) {
  float lanes[16];
  store(lanes, x);
  std::uint16_t halves[16];
  for (int i = 0; i < 16; ++i) halves[i] = static_cast<std::uint16_t>(narrow_f16(lanes[i]));
  __builtin_memcpy(p, halves, sizeof halves);
}
/// Rounds to nearest even; keeps denormals and NaNs.
PEREGRINE_INLINE void store_bf16(void* p, Vector x) {
  store_halves(p, map(x, [](__m128 a) PEREGRINE_LAMBDA {
                 const __m128i bits = _mm_castps_si128(a);
                 const __m128i upper = _mm_srli_epi32(bits, 16);
                 const __m128i odd = _mm_and_si128(upper, _mm_set1_epi32(1));
                 const __m128i rounded =
                     _mm_srli_epi32(_mm_add_epi32(_mm_add_epi32(bits, odd), _mm_set1_epi32(0x7FFF)), 16);
                 const __m128 quiet = _mm_castsi128_ps(_mm_or_si128(upper, _mm_set1_epi32(0x40)));
                 return choose(_mm_cmpunord_ps(a, a), quiet, _mm_castsi128_ps(rounded));
               }));
}

PEREGRINE_INLINE Vector load_lanes(const float* p, std::int64_t n) {
  float lanes[16] = {};
  for (int i = 0; i < 16 && i < n; ++i) lanes[i] = p[i];
  return load(lanes);
}
PEREGRINE_INLINE void store_lanes(float* p, Vector x, std::int64_t n) {
  float lanes[16];
  store(lanes, x);
  for (int i = 0; i < 16 && i < n; ++i) p[i] = lanes[i];
}

/// Sixteen 32-bit integers; sums wrap around.
struct IntVector {
  __m128i v[4];
};

template <typename Function>
PEREGRINE_INLINE IntVector map(IntVector x, Function f) {
  return {{f(x.v[0]), f(x.v[1]), f(x.v[2]), f(x.v[3])}};
}
template <typename Function>
PEREGRINE_INLINE IntVector map(IntVector x, IntVector y, Function f) {
  return {{f(x.v[0], y.v[0]), f(x.v[1], y.v[1]), f(x.v[2], y.v[2]), f(x.v[3], y.v[3])}};
}
PEREGRINE_INLINE IntVector splat_ints(std::int32_t x) {
  const __m128i a = _mm_set1_epi32(x);
  return {{a, a, a, a}};
}
PEREGRINE_INLINE IntVector load_ints(const void* p) {
  const auto* i = static_cast<const __m128i*>(p);
  return {{_mm_loadu_si128(i), _mm_loadu_si128(i + 1), _mm_loadu_si128(i + 2), _mm_loadu_si128(i + 3)}};
}
PEREGRINE_INLINE void store(void* p, IntVector x) {
  auto* i = static_cast<__m128i*>(p);
  each<4>([&](auto n) PEREGRINE_LAMBDA { _mm_storeu_si128(i + n, x.v[n]); });
}
PEREGRINE_INLINE IntVector add(IntVector x, IntVector y) {
  return map(x, y, [](__m128i a, __m128i b) PEREGRINE_LAMBDA { return _mm_add_epi32(a, b); });
}
PEREGRINE_INLINE IntVector sub(IntVector x, IntVector y) {
  return map(x, y, [](__m128i a, __m128i b) PEREGRINE_LAMBDA { return _mm_sub_epi32(a, b); });
}
PEREGRINE_INLINE IntVector max(IntVector x, IntVector y) {
  return map(x, y, [](__m128i a, __m128i b) PEREGRINE_LAMBDA {
    const __m128i first = _mm_cmpgt_epi32(a, b);
    return _mm_or_si128(_mm_and_si128(first, a), _mm_andnot_si128(first, b));
  });
}
PEREGRINE_INLINE IntVector bits_of(Vector x) {
  return {{_mm_castps_si128(x.v[0]), _mm_castps_si128(x.v[1]), _mm_castps_si128(x.v[2]),
           _mm_castps_si128(x.v[3])}};
}
PEREGRINE_INLINE Vector to_floats(IntVector x) {
  return {
      {_mm_cvtepi32_ps(x.v[0]), _mm_cvtepi32_ps(x.v[1]), _mm_cvtepi32_ps(x.v[2]), _mm_cvtepi32_ps(x.v[3])}};
}
/// To nearest, ties to even.
PEREGRINE_INLINE IntVector round_to_ints(Vector x) {
  return {
      {_mm_cvtps_epi32(x.v[0]), _mm_cvtps_epi32(x.v[1]), _mm_cvtps_epi32(x.v[2]), _mm_cvtps_epi32(x.v[3])}};
}
/// Stores the lanes, which fit, as 16 bytes.
PEREGRINE_INLINE void store_bytes(void* p, IntVector x) {
  const __m128i low = _mm_packs_epi32(x.v[0], x.v[1]), high = _mm_packs_epi32(x.v[2], x.v[3]);
  _mm_storeu_si128(static_cast<__m128i*>(p), _mm_packs_epi16(low, high));
}
/// The even (lower) and odd (upper) unsigned byte of each 16-bit lane, widened.
PEREGRINE_INLINE IntVector even_bytes(IntVector x) {
  return map(x, [](__m128i a) PEREGRINE_LAMBDA { return _mm_and_si128(a, _mm_set1_epi16(0xFF)); });
}
PEREGRINE_INLINE IntVector odd_bytes(IntVector x) {
  return map(x, [](__m128i a) PEREGRINE_LAMBDA { return _mm_srli_epi16(a, 8); });
}
/// sum + the two products of each lane's 16-bit halves.
PEREGRINE_INLINE IntVector add_products(IntVector sum, IntVector x, IntVector y) {
  return add(sum, map(x, y, [](__m128i a, __m128i b) PEREGRINE_LAMBDA { return _mm_madd_epi16(a, b); }));
}

/// Halves added (or compared) pairwise: lanes i and i + 8, then i and i + 4, and so on.
template <typename Combine>
PEREGRINE_INLINE float reduce(Vector x, Combine combine) {
  x = combine(x, {{x.v[2], x.v[3], x.v[0], x.v[1]}});
  x = combine(x, {{x.v[1], x.v[0], x.v[2], x.v[3]}});
  x = combine(x, {{_mm_shuffle_ps(x.v[0], x.v[0], 0x4E), x.v[1], x.v[2], x.v[3]}});
  x = combine(x, {{_mm_shuffle_ps(x.v[0], x.v[0], 0xB1), x.v[1], x.v[2], x.v[3]}});
  return _mm_cvtss_f32(x.v[0]);
}

}  // namespace
}  // namespace peregrine::ops::cpu::PEREGRINE_ISA
