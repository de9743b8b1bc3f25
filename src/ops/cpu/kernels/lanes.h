// SPDX-License-Identifier: Apache-2.0
// Part of a kernel source: what only attention and its cache ask of sixteen lanes: 8-bit integers, neighbours
// swapped, bfloat16 rounding that stays in the registers.
#pragma once

namespace peregrine::ops::cpu::PEREGRINE_ISA {
namespace {

#if defined(PEREGRINE_AVX512)

/// Sixteen 8-bit integers, as floats.
PEREGRINE_INLINE Vector load_int8(const void* p) {
  return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p))))};
}
/// Lanes 1, 0, 3, 2, ...
PEREGRINE_INLINE Vector swap_pairs(Vector a) { return {_mm512_permute_ps(a.v, 0xB1)}; }
/// As round_to_bf16(), without the way through memory.
PEREGRINE_INLINE Vector bf16_lanes(Vector a) {
  const __m512i bits = _mm512_castps_si512(a.v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i sum = _mm512_add_epi32(_mm512_add_epi32(bits, odd), _mm512_set1_epi32(0x7FFF));
  const __mmask16 nan = _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q);
  const __m512i chosen = _mm512_mask_or_epi32(sum, nan, bits, _mm512_set1_epi32(0x400000));
  return {_mm512_castsi512_ps(_mm512_and_si512(chosen, _mm512_set1_epi32(static_cast<int>(0xFFFF0000u))))};
}

#elif defined(PEREGRINE_AVX2)

PEREGRINE_INLINE Vector load_int8(const void* p) {
  const auto* h = static_cast<const __m128i*>(p);
  const __m128i a = _mm_loadu_si128(h);
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(a)),
          _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_unpackhi_epi64(a, a)))};
}
PEREGRINE_INLINE Vector swap_pairs(Vector x) {
  return {_mm256_permute_ps(x.a, 0xB1), _mm256_permute_ps(x.b, 0xB1)};
}
PEREGRINE_INLINE Vector bf16_lanes(Vector x) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(round_bf16(x.a), 16)),
          _mm256_castsi256_ps(_mm256_slli_epi32(round_bf16(x.b), 16))};
}

#else

PEREGRINE_INLINE Vector load_int8(const void* p) {
  const __m128i a = _mm_loadu_si128(static_cast<const __m128i*>(p));
  // Twice into the upper half of wider lanes, then shifted down with the sign.
  const __m128i low = _mm_srai_epi16(_mm_unpacklo_epi8(a, a), 8);
  const __m128i high = _mm_srai_epi16(_mm_unpackhi_epi8(a, a), 8);
  return {{_mm_cvtepi32_ps(_mm_srai_epi32(_mm_unpacklo_epi16(low, low), 16)),
           _mm_cvtepi32_ps(_mm_srai_epi32(_mm_unpackhi_epi16(low, low), 16)),
           _mm_cvtepi32_ps(_mm_srai_epi32(_mm_unpacklo_epi16(high, high), 16)),
           _mm_cvtepi32_ps(_mm_srai_epi32(_mm_unpackhi_epi16(high, high), 16))}};
}
PEREGRINE_INLINE Vector swap_pairs(Vector x) {
  return map(x, [](__m128 a) PEREGRINE_LAMBDA { return _mm_shuffle_ps(a, a, 0xB1); });
}
PEREGRINE_INLINE Vector bf16_lanes(Vector x) { return round_to_bf16(x); }

#endif

}  // namespace
}  // namespace peregrine::ops::cpu::PEREGRINE_ISA
