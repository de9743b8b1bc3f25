// SPDX-License-Identifier: Apache-2.0
// Part of a kernel source: sixteen floats as two 256-bit registers. Needs AVX2, FMA and F16C.
#pragma once

namespace peregrine::ops::cpu::PEREGRINE_ISA {
namespace {

struct Vector {
  __m256 a, b;
};
struct Mask {
  __m256 a, b;
};

PEREGRINE_INLINE Vector zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
PEREGRINE_INLINE Vector splat(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
PEREGRINE_INLINE Vector load(const void* p) {
  const auto* f = static_cast<const float*>(p);
  return {_mm256_loadu_ps(f), _mm256_loadu_ps(f + 8)};
}
PEREGRINE_INLINE void store(void* p, Vector x) {
  auto* f = static_cast<float*>(p);
  _mm256_storeu_ps(f, x.a);
  _mm256_storeu_ps(f + 8, x.b);
}
PEREGRINE_INLINE Vector add(Vector x, Vector y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
PEREGRINE_INLINE Vector sub(Vector x, Vector y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
PEREGRINE_INLINE Vector mul(Vector x, Vector y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
PEREGRINE_INLINE Vector div(Vector x, Vector y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
PEREGRINE_INLINE Vector sqrt(Vector x) { return {_mm256_sqrt_ps(x.a), _mm256_sqrt_ps(x.b)}; }
/// x * y + z, rounded once.
PEREGRINE_INLINE Vector fma(Vector x, Vector y, Vector z) {
  return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
/// y where either is not a number.
PEREGRINE_INLINE Vector min(Vector x, Vector y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
PEREGRINE_INLINE Vector max(Vector x, Vector y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
PEREGRINE_INLINE Mask less(Vector x, Vector y) {
  return {_mm256_cmp_ps(x.a, y.a, _CMP_LT_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_LT_OQ)};
}
PEREGRINE_INLINE Mask first_lanes(std::int64_t n) {
  const __m256i limit = _mm256_set1_epi32(static_cast<int>(n < 16 ? n : 16));
  const __m256i low = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i high = _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15);
  return {_mm256_castsi256_ps(_mm256_cmpgt_epi32(limit, low)),
          _mm256_castsi256_ps(_mm256_cmpgt_epi32(limit, high))};
}
PEREGRINE_INLINE Vector select(Mask m, Vector x, Vector y) {
  return {_mm256_blendv_ps(y.a, x.a, m.a), _mm256_blendv_ps(y.b, x.b, m.b)};
}
PEREGRINE_INLINE Vector abs(Vector x) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
}

template <typename Function>
PEREGRINE_INLINE Vector map_bits(Vector x, Function function) {
  return {_mm256_castsi256_ps(function(_mm256_castps_si256(x.a))),
          _mm256_castsi256_ps(function(_mm256_castps_si256(x.b)))};
}
/// Treats lanes as 32-bit integers: (x + n) << 23.
PEREGRINE_INLINE Vector add_shift_23(Vector x, int n) {
  return map_bits(x, [n](__m256i i) PEREGRINE_LAMBDA {
    return _mm256_slli_epi32(_mm256_add_epi32(i, _mm256_set1_epi32(n)), 23);
  });
}
/// The even (lower) and odd (upper) bfloat16 of each 32-bit lane, widened.
PEREGRINE_INLINE Vector widen_even(Vector pairs) {
  return map_bits(pairs, [](__m256i i) PEREGRINE_LAMBDA { return _mm256_slli_epi32(i, 16); });
}
PEREGRINE_INLINE Vector widen_odd(Vector pairs) {
  return map_bits(pairs, [](__m256i i) PEREGRINE_LAMBDA {
    return _mm256_and_si256(i, _mm256_set1_epi32(static_cast<int>(0xFFFF0000u)));
  });
}

PEREGRINE_INLINE Vector load_f16(const void* p) {
  const auto* h = static_cast<const __m128i*>(p);
  return {_mm256_cvtph_ps(_mm_loadu_si128(h)), _mm256_cvtph_ps(_mm_loadu_si128(h + 1))};
}
PEREGRINE_INLINE Vector load_bf16(const void* p) {
  const auto* h = static_cast<const __m128i*>(p);
  const Vector wide = {_mm256_castsi256_ps(_mm256_cvtepu16_epi32(_mm_loadu_si128(h))),
                       _mm256_castsi256_ps(_mm256_cvtepu16_epi32(_mm_loadu_si128(h + 1)))};
  return widen_even(wide);
}
PEREGRINE_INLINE void store_f16(void* p, Vector x) {
  auto* h = static_cast<__m128i*>(p);
  _mm_storeu_si128(h, _mm256_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT));
  _mm_storeu_si128(h + 1, _mm256_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT));
}
PEREGRINE_INLINE __m256i round_bf16(__m256 x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i upper = _mm256_srli_epi32(bits, 16);
  const __m256i odd = _mm256_and_si256(upper, _mm256_set1_epi32(1));
  const __m256i rounded =
      _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(bits, odd), _mm256_set1_epi32(0x7FFF)), 16);
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  return _mm256_blendv_epi8(rounded, _mm256_or_si256(upper, _mm256_set1_epi32(0x40)), nan);
}
/// Rounds to nearest even; keeps denormals and NaNs.
PEREGRINE_INLINE void store_bf16(void* p, Vector x) {
  const __m256i packed = _mm256_packus_epi32(round_bf16(x.a), round_bf16(x.b));
  _mm256_storeu_si256(static_cast<__m256i*>(p), _mm256_permute4x64_epi64(packed, 0xD8));
}

PEREGRINE_INLINE Vector load_lanes(const float* p, std::int64_t n) {
  const Mask m = first_lanes(n);
  return {_mm256_maskload_ps(p, _mm256_castps_si256(m.a)),
          _mm256_maskload_ps(p + 8, _mm256_castps_si256(m.b))};
}
PEREGRINE_INLINE void store_lanes(float* p, Vector x, std::int64_t n) {
  const Mask m = first_lanes(n);
  _mm256_maskstore_ps(p, _mm256_castps_si256(m.a), x.a);
  _mm256_maskstore_ps(p + 8, _mm256_castps_si256(m.b), x.b);
}

/// Sixteen 32-bit integers; sums wrap around.
struct IntVector {
  __m256i a, b;
};

PEREGRINE_INLINE IntVector splat_ints(std::int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
PEREGRINE_INLINE IntVector load_ints(const void* p) {
  const auto* i = static_cast<const __m256i*>(p);
  return {_mm256_loadu_si256(i), _mm256_loadu_si256(i + 1)};
}
PEREGRINE_INLINE void store(void* p, IntVector x) {
  auto* i = static_cast<__m256i*>(p);
  _mm256_storeu_si256(i, x.a);
  _mm256_storeu_si256(i + 1, x.b);
}
PEREGRINE_INLINE IntVector add(IntVector x, IntVector y) {
  return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)};
}
PEREGRINE_INLINE IntVector sub(IntVector x, IntVector y) {
  return {_mm256_sub_epi32(x.a, y.a), _mm256_sub_epi32(x.b, y.b)};
}
PEREGRINE_INLINE IntVector max(IntVector x, IntVector y) {
  return {_mm256_max_epi32(x.a, y.a), _mm256_max_epi32(x.b, y.b)};
}
PEREGRINE_INLINE IntVector bits_of(Vector x) { return {_mm256_castps_si256(x.a), _mm256_castps_si256(x.b)}; }
PEREGRINE_INLINE Vector to_floats(IntVector x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
/// To nearest, ties to even.
PEREGRINE_INLINE IntVector round_to_ints(Vector x) {
  return {_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)};
}
/// Stores the lanes, which fit, as 16 bytes.
PEREGRINE_INLINE void store_bytes(void* p, IntVector x) {
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(x.a, x.b), 0xD8);
  const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  _mm_storeu_si128(static_cast<__m128i*>(p), bytes);
}
/// The even (lower) and odd (upper) unsigned byte of each 16-bit lane, widened.
PEREGRINE_INLINE IntVector even_bytes(IntVector x) {
  const __m256i low = _mm256_set1_epi16(0xFF);
  return {_mm256_and_si256(x.a, low), _mm256_and_si256(x.b, low)};
}
PEREGRINE_INLINE IntVector odd_bytes(IntVector x) {
  return {_mm256_srli_epi16(x.a, 8), _mm256_srli_epi16(x.b, 8)};
}
/// sum + the two products of each lane's 16-bit halves.
PEREGRINE_INLINE IntVector add_products(IntVector sum, IntVector x, IntVector y) {
  return {_mm256_add_epi32(sum.a, _mm256_madd_epi16(x.a, y.a)),
          _mm256_add_epi32(sum.b, _mm256_madd_epi16(x.b, y.b))};
}

/// Halves added (or compared) pairwise: lanes i and i + 8, then i and i + 4, and so on.
template <typename Combine>
PEREGRINE_INLINE float reduce(Vector x, Combine combine) {
  x = combine(x, {x.b, x.a});
  x = combine(x, {_mm256_permute2f128_ps(x.a, x.a, 1), x.b});
  x = combine(x, {_mm256_permute_ps(x.a, 0x4E), x.b});
  x = combine(x, {_mm256_permute_ps(x.a, 0xB1), x.b});
  return _mm256_cvtss_f32(x.a);
}

}  // namespace
}  // namespace peregrine::ops::cpu::PEREGRINE_ISA
