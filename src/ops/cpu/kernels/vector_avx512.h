// SPDX-License-Identifier: Apache-2.0
// Part of a kernel source: sixteen floats as one 512-bit register. Needs AVX-512 F, BW, VL and DQ.
#pragma once

namespace peregrine::ops::cpu::PEREGRINE_ISA {
namespace {

struct Vector {
  __m512 v;
};
struct Mask {
  __mmask16 m;
};

PEREGRINE_INLINE Vector zero() { return {_mm512_setzero_ps()}; }
PEREGRINE_INLINE Vector splat(float x) { return {_mm512_set1_ps(x)}; }
PEREGRINE_INLINE Vector load(const void* p) { return {_mm512_loadu_ps(p)}; }
PEREGRINE_INLINE void store(void* p, Vector a) { _mm512_storeu_ps(p, a.v); }
PEREGRINE_INLINE Vector add(Vector a, Vector b) { return {_mm512_add_ps(a.v, b.v)}; }
PEREGRINE_INLINE Vector sub(Vector a, Vector b) { return {_mm512_sub_ps(a.v, b.v)}; }
PEREGRINE_INLINE Vector mul(Vector a, Vector b) { return {_mm512_mul_ps(a.v, b.v)}; }
PEREGRINE_INLINE Vector div(Vector a, Vector b) { return {_mm512_div_ps(a.v, b.v)}; }
PEREGRINE_INLINE Vector sqrt(Vector a) { return {_mm512_sqrt_ps(a.v)}; }
/// a * b + c, rounded once.
PEREGRINE_INLINE Vector fma(Vector a, Vector b, Vector c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
/// b where either is not a number.
PEREGRINE_INLINE Vector min(Vector a, Vector b) { return {_mm512_min_ps(a.v, b.v)}; }
PEREGRINE_INLINE Vector max(Vector a, Vector b) { return {_mm512_max_ps(a.v, b.v)}; }
PEREGRINE_INLINE Mask less(Vector a, Vector b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)}; }
PEREGRINE_INLINE Mask first_lanes(std::int64_t n) {
  return {n >= 16 ? static_cast<__mmask16>(0xFFFF) : static_cast<__mmask16>((1u << n) - 1u)};
}
PEREGRINE_INLINE Vector select(Mask m, Vector a, Vector b) { return {_mm512_mask_blend_ps(m.m, b.v, a.v)}; }
PEREGRINE_INLINE Vector abs(Vector a) { return {_mm512_abs_ps(a.v)}; }

/// Treats lanes as 32-bit integers: (a + add) << 23.
PEREGRINE_INLINE Vector add_shift_23(Vector a, int n) {
  return {_mm512_castsi512_ps(
      _mm512_slli_epi32(_mm512_add_epi32(_mm512_castps_si512(a.v), _mm512_set1_epi32(n)), 23))};
}
/// The even (lower) and odd (upper) bfloat16 of each 32-bit lane, widened.
PEREGRINE_INLINE Vector widen_even(Vector pairs) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(pairs.v), 16))};
}
PEREGRINE_INLINE Vector widen_odd(Vector pairs) {
  return {_mm512_castsi512_ps(
      _mm512_and_si512(_mm512_castps_si512(pairs.v), _mm512_set1_epi32(static_cast<int>(0xFFFF0000u))))};
}

PEREGRINE_INLINE Vector load_f16(const void* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)))};
}
PEREGRINE_INLINE Vector load_bf16(const void* p) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(wide, 16))};
}
PEREGRINE_INLINE void store_f16(void* p, Vector a) {
  _mm256_storeu_si256(static_cast<__m256i*>(p), _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT));
}
/// Rounds to nearest even; keeps denormals (unlike the instruction of AVX512_BF16) and NaNs.
PEREGRINE_INLINE void store_bf16(void* p, Vector a) {
  const __m512i bits = _mm512_castps_si512(a.v);
  const __m512i upper = _mm512_srli_epi32(bits, 16);
  const __m512i odd = _mm512_and_si512(upper, _mm512_set1_epi32(1));
  __m512i rounded =
      _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(bits, odd), _mm512_set1_epi32(0x7FFF)), 16);
  const __mmask16 nan = _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q);
  rounded = _mm512_mask_or_epi32(rounded, nan, upper, _mm512_set1_epi32(0x40));
  _mm256_storeu_si256(static_cast<__m256i*>(p), _mm512_cvtepi32_epi16(rounded));
}

PEREGRINE_INLINE Vector load_lanes(const float* p, std::int64_t n) {
  return {_mm512_maskz_loadu_ps(first_lanes(n).m, p)};
}
PEREGRINE_INLINE void store_lanes(float* p, Vector a, std::int64_t n) {
  _mm512_mask_storeu_ps(p, first_lanes(n).m, a.v);
}

/// Sixteen 32-bit integers; sums wrap around.
struct IntVector {
  __m512i v;
};

PEREGRINE_INLINE IntVector splat_ints(std::int32_t x) { return {_mm512_set1_epi32(x)}; }
PEREGRINE_INLINE IntVector load_ints(const void* p) { return {_mm512_loadu_si512(p)}; }
PEREGRINE_INLINE void store(void* p, IntVector a) { _mm512_storeu_si512(p, a.v); }
PEREGRINE_INLINE IntVector add(IntVector a, IntVector b) { return {_mm512_add_epi32(a.v, b.v)}; }
PEREGRINE_INLINE IntVector sub(IntVector a, IntVector b) { return {_mm512_sub_epi32(a.v, b.v)}; }
PEREGRINE_INLINE IntVector max(IntVector a, IntVector b) { return {_mm512_max_epi32(a.v, b.v)}; }
PEREGRINE_INLINE IntVector bits_of(Vector a) { return {_mm512_castps_si512(a.v)}; }
PEREGRINE_INLINE Vector to_floats(IntVector a) { return {_mm512_cvtepi32_ps(a.v)}; }
/// To nearest, ties to even.
PEREGRINE_INLINE IntVector round_to_ints(Vector a) { return {_mm512_cvtps_epi32(a.v)}; }
/// Stores the lanes, which fit, as 16 bytes.
PEREGRINE_INLINE void store_bytes(void* p, IntVector a) {
  _mm_storeu_si128(static_cast<__m128i*>(p), _mm512_cvtepi32_epi8(a.v));
}
/// The even (lower) and odd (upper) unsigned byte of each 16-bit lane, widened.
PEREGRINE_INLINE IntVector even_bytes(IntVector a) {
  return {_mm512_and_si512(a.v, _mm512_set1_epi16(0xFF))};
}
PEREGRINE_INLINE IntVector odd_bytes(IntVector a) { return {_mm512_srli_epi16(a.v, 8)}; }
/// sum + the two products of each lane's 16-bit halves.
PEREGRINE_INLINE IntVector add_products(IntVector sum, IntVector a, IntVector b) {
  return {_mm512_add_epi32(sum.v, _mm512_madd_epi16(a.v, b.v))};
}

/// Halves added (or compared) pairwise: lanes i and i + 8, then i and i + 4, and so on.
template <typename Combine>
PEREGRINE_INLINE float reduce(Vector a, Combine combine) {
  a = combine(a, {_mm512_shuffle_f32x4(a.v, a.v, 0x4E)});
  a = combine(a, {_mm512_shuffle_f32x4(a.v, a.v, 0xB1)});
  a = combine(a, {_mm512_permute_ps(a.v, 0x4E)});
  a = combine(a, {_mm512_permute_ps(a.v, 0xB1)});
  return _mm512_cvtss_f32(a.v);
}

}  // namespace
}  // namespace peregrine::ops::cpu::PEREGRINE_ISA
