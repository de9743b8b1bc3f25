// SPDX-License-Identifier: Apache-2.0
// The passes, compiled by each file that includes this once, for its instruction set. No inline functions
// from elsewhere: a linker might keep this file's copy of one for all. Fused multiply-adds are off, and
// vectors are wide or narrow without any sum changing its order: see passes.h.

#ifndef PEREGRINE_PASSES
#error "define PEREGRINE_PASSES, the namespace, before including this"
#endif

#include <immintrin.h>

#include "decoding/passes/passes.h"

namespace peregrine::decoding::PEREGRINE_PASSES {
namespace {

using std::size_t;

constexpr float kInfinity = __builtin_inff();
constexpr float kLargest = __FLT_MAX__;

#ifdef __AVX512F__
constexpr size_t kBytes = 64;
#elif defined(__AVX2__)
constexpr size_t kBytes = 32;
#else
constexpr size_t kBytes = 16;
#endif
constexpr size_t kWidth = kBytes / sizeof(float);
constexpr size_t kLanes = 16;
constexpr size_t kVectors = kLanes / kWidth;  ///< Of the 16 lanes.

using Floats = float __attribute__((vector_size(kBytes)));
using Words = std::uint32_t __attribute__((vector_size(kBytes)));

inline Floats load(const float* from) {
  Floats vector;
  __builtin_memcpy(&vector, from, sizeof vector);
  return vector;
}
inline void store(float* to, Floats vector) { __builtin_memcpy(to, &vector, sizeof vector); }
inline Floats all(float value) { return Floats{} + value; }
// The instructions choose as a < b ? a : b and a > b ? a : b do, which the compiler may not assume the
// reverse of.
#if defined(__AVX512F__)
inline Floats lower(Floats a, Floats b) { return (Floats)_mm512_min_ps((__m512)a, (__m512)b); }
inline Floats higher(Floats a, Floats b) { return (Floats)_mm512_max_ps((__m512)a, (__m512)b); }
#elif defined(__AVX2__)
inline Floats lower(Floats a, Floats b) { return (Floats)_mm256_min_ps((__m256)a, (__m256)b); }
inline Floats higher(Floats a, Floats b) { return (Floats)_mm256_max_ps((__m256)a, (__m256)b); }
#else
inline Floats lower(Floats a, Floats b) { return (Floats)_mm_min_ps((__m128)a, (__m128)b); }
inline Floats higher(Floats a, Floats b) { return (Floats)_mm_max_ps((__m128)a, (__m128)b); }
#endif

/// exp(x) for x <= 0.
inline Floats exp_of(Floats x) {
  // Below -87 the result would leave the normal range; nothing that small is ever seen in a sum with exp(0).
  x = higher(x, all(-87.0f));
  // Adding 1.5 * 2^23 rounds to the nearest integer and leaves it in the low bits of the mantissa.
  constexpr float kRound = 12582912.0f;
  const Floats rounded = x * 1.44269504088896341f + kRound;
  const Floats power = rounded - kRound;
  // log(2) in two parts: the first has few enough bits that the product with `power` is exact.
  const Floats rest = (x - power * 0.693359375f) + power * 2.12194440e-4f;
  Floats sum = all(1.9875691500e-4f);
  sum = sum * rest + 1.3981999507e-3f;
  sum = sum * rest + 8.3334519073e-3f;
  sum = sum * rest + 4.1665795894e-2f;
  sum = sum * rest + 1.6666665459e-1f;
  sum = sum * rest + 5.0000001201e-1f;
  sum = sum * rest * rest + rest + 1.0f;
  // The integer's low bits go to the exponent, which stays above zero: the sum is above 1 where it is -126.
  return (Floats)((Words)sum + ((Words)rounded << 23));
}

inline Floats quotient_of(Floats logits, Floats temperature) {
  return higher(lower(logits / temperature, all(kLargest)), all(-kLargest));
}

inline std::uint64_t weight_of(float exponential) {
  // A sum with 2^12 rounds to multiples of 2^-40, and leaves their number in the low bits of the mantissa.
  constexpr double kRound = 4096.0;
  const double rounded = static_cast<double>(exponential) + kRound;
  return __builtin_bit_cast(std::uint64_t, rounded) - __builtin_bit_cast(std::uint64_t, kRound);
}

inline std::uint16_t bucket_of(float distance, float buckets_per_unit) {
  const float scaled = distance * buckets_per_unit;
  constexpr float kLast = static_cast<float>(kBuckets - 1);
  return static_cast<std::uint16_t>(static_cast<std::int32_t>(scaled < kLast ? scaled : kLast));
}

// ---- Logits ----

#if defined(__AVX512F__)
using Mask = __mmask16;
inline Mask at_most(Floats x, Floats most) { return _mm512_cmp_ps_mask((__m512)x, (__m512)most, _CMP_LE_OQ); }
inline bool whole(Mask mask) { return mask == 0xffff; }
inline float highest(Floats x) { return _mm512_reduce_max_ps((__m512)x); }
#else
using Mask = Words;
inline Mask at_most(Floats x, Floats most) { return (Words)(x <= most); }
#if defined(__AVX2__)
inline bool whole(Mask mask) { return _mm256_movemask_ps((__m256)mask) == 0xff; }
#else
inline bool whole(Mask mask) { return _mm_movemask_ps((__m128)mask) == 0xf; }
#endif
inline float highest(Floats x) {
  float lanes[kWidth];
  store(lanes, x);
  for (size_t half = kWidth / 2; half > 0; half /= 2) {
    for (size_t i = 0; i < half; ++i) lanes[i] = lanes[i + half] > lanes[i] ? lanes[i + half] : lanes[i];
  }
  return lanes[0];
}
#endif

inline float sanitized(float logit) {
  const float value = logit >= -kInfinity ? logit : -kInfinity;  // A comparison with NaN is false.
  return value < kLargest ? value : kLargest;
}

float sanitize_slowly(float* logits, size_t count, bool* nan) {
  float maximum = -kInfinity;
  for (size_t i = 0; i < count; ++i) {
    if (__builtin_isnan(logits[i])) *nan = true;
    logits[i] = sanitized(logits[i]);
    maximum = logits[i] > maximum ? logits[i] : maximum;
  }
  return maximum;
}

float sanitize(float* logits, size_t count, float* block_maxima, bool* nan) {
  float maximum = -kInfinity;
  for (size_t start = 0, block = 0; start < count; start += kPassBlock, ++block) {
    float found;
    if (start + kPassBlock <= count) {
      Floats maxima = load(logits + start);
      Mask good = at_most(maxima, all(kLargest));
#pragma GCC unroll 16
      for (size_t i = kWidth; i < kPassBlock; i += kWidth) {
        const Floats x = load(logits + start + i);
        good &= at_most(x, all(kLargest));
        maxima = higher(x, maxima);
      }
      // Nothing is written where all is well, as it is.
      found = whole(good) ? highest(maxima) : sanitize_slowly(logits + start, kPassBlock, nan);
    } else {
      found = sanitize_slowly(logits + start, count - start, nan);
    }
    found += 0.0f;  // -0 + 0 is +0: it does not matter which of the two was found.
    block_maxima[block] = found;
    maximum = found > maximum ? found : maximum;
  }
  return maximum;
}

/// Calls function(vector, lane) for all values, `lane` the first of its lanes; the last vectors may be partly
/// `rest`.
template <typename Function>
inline void for_vectors(const float* values, size_t count, float rest, Function function) {
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
#pragma GCC unroll 4
    for (size_t v = 0; v < kVectors; ++v) function(load(values + i + v * kWidth), i + v * kWidth, v);
  }
  if (i == count) return;
  float last[kLanes];
  for (size_t lane = 0; lane < kLanes; ++lane) last[lane] = i + lane < count ? values[i + lane] : rest;
#pragma GCC unroll 4
  for (size_t v = 0; v < kVectors; ++v) function(load(last + v * kWidth), i + v * kWidth, v);
}

inline void store_some(float* to, Floats vector, size_t at, size_t count) {
  if (at + kWidth <= count) return store(to + at, vector);
  for (size_t i = at; i < count; ++i) to[i] = vector[i - at];
}

void exponentials(const float* values, size_t count, float maximum, float* out) {
  for_vectors(values, count, 0.0f,
              [=](Floats x, size_t at, size_t) { store_some(out, exp_of(x - maximum), at, count); });
}

double sum_of_exponentials(const float* values, size_t count, float maximum) {
  constexpr size_t kChunk = 256;
  double lanes[kLanes] = {};
  for (size_t start = 0; start < count; start += kChunk) {
    Floats sums[kVectors] = {};
    const size_t here = count - start < kChunk ? count - start : kChunk;
    // What is not there is so far below that it adds nothing: 1e-38 is nothing to a sum that has the maximum.
    for_vectors(values + start, here, -kInfinity,
                [&](Floats x, size_t, size_t v) { sums[v] += exp_of(x - maximum); });
    float chunk[kLanes];
    for (size_t v = 0; v < kVectors; ++v) store(chunk + v * kWidth, sums[v]);
    for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += static_cast<double>(chunk[lane]);
  }
  double total = 0;
  for (const double lane : lanes) total += lane;
  return total;
}

void subtract(float* values, size_t count, double log_total) {
  constexpr double kLowest = -static_cast<double>(kLargest);
  for (size_t i = 0; i < count; ++i) {
    const double exact = static_cast<double>(values[i]) - log_total;
    const auto difference = static_cast<float>(exact > kLowest ? exact : kLowest);
    values[i] = values[i] > -kInfinity ? difference : -kInfinity;
  }
}

// ---- Candidates ----

#if defined(__AVX512F__)
/// Appends the elements of 16 that `mask` names; writes 16 of each.
inline void append(__mmask16 mask, __m512i ids, Floats logits, std::int32_t* to_ids, float* to_logits) {
  _mm512_storeu_si512(to_ids, _mm512_maskz_compress_epi32(mask, ids));
  _mm512_storeu_ps(to_logits, _mm512_maskz_compress_ps(mask, (__m512)logits));
}
inline __m512i ids_from(std::int32_t first) {
  return _mm512_add_epi32(_mm512_set1_epi32(first),
                          _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
}
inline __mmask16 first_of(size_t count) {
  return count >= 16 ? 0xffff : static_cast<__mmask16>((1u << count) - 1);
}
#endif

size_t gather(const float* logits, size_t count, std::int32_t first_id, float temperature, float least,
              std::int32_t* ids, float* quotients) {
  size_t kept = 0;
#if defined(__AVX512F__)
  for (size_t i = 0; i < count; i += 16) {
    const __mmask16 there = first_of(count - i);
    const __m512 logit = _mm512_maskz_loadu_ps(there, logits + i);
    const Floats quotient = quotient_of((Floats)logit, all(temperature));
    // Minus infinity has become the lowest finite number, so it is told by the logit.
    __mmask16 mask = _mm512_mask_cmp_ps_mask(there, logit, _mm512_set1_ps(-kInfinity), _CMP_GT_OQ);
    mask = _mm512_mask_cmp_ps_mask(mask, (__m512)quotient, _mm512_set1_ps(least), _CMP_GE_OQ);
    append(mask, ids_from(first_id + static_cast<std::int32_t>(i)), quotient, ids + kept, quotients + kept);
    kept += static_cast<size_t>(__builtin_popcount(mask));
  }
#else
  float all_quotients[kPassBlock];
  for_vectors(logits, count, 0.0f, [&](Floats x, size_t at, size_t) {
    store(all_quotients + at, quotient_of(x, all(temperature)));
  });
  for (size_t i = 0; i < count; ++i) {
    ids[kept] = first_id + static_cast<std::int32_t>(i);
    quotients[kept] = all_quotients[i];
    kept += ((all_quotients[i] >= least) & (logits[i] > -kInfinity)) ? 1 : 0;
  }
#endif
  return kept;
}

std::uint64_t weigh(const float* quotients, size_t count, float maximum, std::uint64_t* weights) {
  std::uint64_t total = 0;
  for (size_t start = 0; start < count; start += kPassBlock) {
    const size_t here = count - start < kPassBlock ? count - start : kPassBlock;
    float values[kPassBlock];
    for_vectors(quotients + start, here, -kInfinity,
                [&](Floats x, size_t at, size_t) { store(values + at, exp_of(x - maximum)); });
    if (here == kPassBlock) {
      std::uint64_t* __restrict to = weights + start;
      for (size_t i = 0; i < kPassBlock; ++i) {
        to[i] = weight_of(values[i]);
        total += to[i];
      }
    } else {
      for (size_t i = 0; i < here; ++i) total += weights[start + i] = weight_of(values[i]);
    }
  }
  return total;
}

void weigh_blocks(const float* logits, size_t count, float temperature, float maximum, std::uint64_t* sums) {
  const Floats divisor = all(temperature);
  for (size_t start = 0, block = 0; start < count; start += kPassBlock, ++block) {
    const size_t here = count - start < kPassBlock ? count - start : kPassBlock;
    float values[kPassBlock];
    // The lowest finite number has weight zero where there is any other, and minus infinity must have it.
    for_vectors(logits + start, here, -kInfinity, [&](Floats x, size_t at, size_t) {
      const Floats value = exp_of(quotient_of(x, divisor) - maximum);
      store(values + at, x > -kInfinity ? value : all(0.0f));
    });
    std::uint64_t sum = 0;
    if (here == kPassBlock) {
      for (size_t i = 0; i < kPassBlock; ++i) sum += weight_of(values[i]);
    } else {
      for (size_t i = 0; i < here; ++i) sum += weight_of(values[i]);
    }
    sums[block] = sum;
  }
}

void spread(const float* logits, size_t count, float temperature, float maximum, float buckets_per_unit,
            float* quotients, float* exponentials_out, std::uint16_t* buckets, std::uint64_t* tables) {
  alignas(64) float values[kPassBlock];
  alignas(64) float distances_here[kPassBlock];
  alignas(64) std::uint64_t weights[kPassBlock];
  const Floats divisor = all(temperature);
  for_vectors(logits, count, -kInfinity, [&](Floats x, size_t at, size_t) {
    const Floats finite = quotient_of(x, divisor);
    const Floats quotient = x > -kInfinity ? finite : all(-kInfinity);
    const Floats distance = maximum - quotient;
    const Floats value = exp_of(-distance);
    store(values + at, x > -kInfinity ? value : all(0.0f));
    store(distances_here + at, distance);
    store_some(quotients, quotient, at, count);
    store_some(exponentials_out, x > -kInfinity ? value : all(0.0f), at, count);
  });
  if (count == kPassBlock) {
    for (size_t i = 0; i < kPassBlock; ++i) weights[i] = weight_of(values[i]);
    for (size_t i = 0; i < kPassBlock; ++i) buckets[i] = bucket_of(distances_here[i], buckets_per_unit);
    for (size_t i = 0; i < kPassBlock; i += kBucketTables) {
      for (size_t t = 0; t < kBucketTables; ++t) tables[buckets[i + t] * kBucketTables + t] += weights[i + t];
    }
    return;
  }
  for (size_t i = 0; i < count; ++i) {
    buckets[i] = bucket_of(distances_here[i], buckets_per_unit);
    tables[buckets[i] * kBucketTables] += weight_of(values[i]);
  }
}

void spread_weights(const float* distances_in, const std::uint64_t* weights, size_t count,
                    float buckets_per_unit, std::uint16_t* buckets, std::uint64_t* tables) {
  for (size_t i = 0; i < count; ++i) buckets[i] = bucket_of(distances_in[i], buckets_per_unit);
  for (size_t i = 0; i < count; ++i) tables[buckets[i] * kBucketTables + i % kBucketTables] += weights[i];
}

size_t find(const std::uint16_t* buckets, size_t count, std::uint32_t first, std::uint16_t bucket,
            std::uint32_t* indices) {
  size_t found = 0;
#if defined(__AVX512F__)
  for (size_t i = 0; i < count; i += 32) {
    const __mmask32 there = count - i >= 32 ? ~__mmask32{0} : (__mmask32{1} << (count - i)) - 1;
    const __m512i here = _mm512_maskz_loadu_epi16(there, buckets + i);
    __mmask32 mask = _mm512_mask_cmpeq_epi16_mask(there, here, _mm512_set1_epi16(static_cast<short>(bucket)));
    for (; mask != 0; mask &= mask - 1) {
      indices[found++] =
          first + static_cast<std::uint32_t>(i) + static_cast<std::uint32_t>(__builtin_ctz(mask));
    }
  }
#else
  for (size_t i = 0; i < count; ++i) {
    indices[found] = first + static_cast<std::uint32_t>(i);
    found += buckets[i] == bucket ? 1 : 0;
  }
#endif
  return found;
}

#if defined(__AVX512F__)
/// Eight weights each of the lower and upper half of 16 exponentials.
inline __m512i weights_of(__m256 values) {
  const __m512d round = _mm512_set1_pd(4096.0);
  const __m512d rounded = _mm512_add_pd(_mm512_cvtps_pd(values), round);
  return _mm512_sub_epi64(_mm512_castpd_si512(rounded), _mm512_castpd_si512(round));
}

/// Appends those of 16 weights that `mask` names, and adds them to `total`.
inline void append_weights(__mmask16 mask, __m512i low, __m512i high, std::uint64_t* to, __m512i& total) {
  const auto first = static_cast<__mmask8>(mask), second = static_cast<__mmask8>(mask >> 8);
  _mm512_storeu_si512(to, _mm512_maskz_compress_epi64(first, low));
  _mm512_storeu_si512(to + __builtin_popcount(first), _mm512_maskz_compress_epi64(second, high));
  total = _mm512_mask_add_epi64(total, first, total, low);
  total = _mm512_mask_add_epi64(total, second, total, high);
}
#endif

size_t weigh_between(const float* logits, size_t count, float temperature, float maximum, float possible,
                     float sure, std::uint64_t* sums, std::uint64_t* total, std::int32_t* ids,
                     float* quotients, std::uint64_t* weights) {
  const Floats divisor = all(temperature);
  size_t kept = 0;
  std::uint64_t all_weights = 0;
  for (size_t start = 0, block = 0; start < count; start += kPassBlock, ++block) {
    const size_t here = count - start < kPassBlock ? count - start : kPassBlock;
    const float* from = logits + start;
#if defined(__AVX512F__)
    __m512i sum_all = _mm512_setzero_si512(), sum_sure = _mm512_setzero_si512(), ignored = sum_all;
    for (size_t i = 0; i < here; i += 16) {
      const __mmask16 there = first_of(here - i);
      const __m512 logit = _mm512_maskz_loadu_ps(there, from + i);
      const __mmask16 some = _mm512_mask_cmp_ps_mask(there, logit, _mm512_set1_ps(-kInfinity), _CMP_GT_OQ);
      const Floats quotient = quotient_of((Floats)logit, divisor);
      const __m512 value = _mm512_maskz_mov_ps(some, (__m512)exp_of(quotient - maximum));
      const __m512i low = weights_of(_mm512_castps512_ps256(value));
      const __m512i high = weights_of(_mm512_extractf32x8_ps(value, 1));
      sum_all = _mm512_add_epi64(sum_all, _mm512_add_epi64(low, high));
      const __mmask16 above =
          _mm512_mask_cmp_ps_mask(some, (__m512)quotient, _mm512_set1_ps(sure), _CMP_GT_OQ);
      sum_sure = _mm512_mask_add_epi64(sum_sure, static_cast<__mmask8>(above), sum_sure, low);
      sum_sure = _mm512_mask_add_epi64(sum_sure, static_cast<__mmask8>(above >> 8), sum_sure, high);
      const __mmask16 between = _mm512_mask_cmp_ps_mask(
          static_cast<__mmask16>(some & ~above), (__m512)quotient, _mm512_set1_ps(possible), _CMP_GE_OQ);
      if (between == 0) continue;
      append(between, ids_from(static_cast<std::int32_t>(start + i)), quotient, ids + kept, quotients + kept);
      append_weights(between, low, high, weights + kept, ignored);
      kept += static_cast<size_t>(__builtin_popcount(between));
    }
    sums[block] = static_cast<std::uint64_t>(_mm512_reduce_add_epi64(sum_sure));
    all_weights += static_cast<std::uint64_t>(_mm512_reduce_add_epi64(sum_all));
#else
    float found[kPassBlock], values[kPassBlock];
    for_vectors(from, here, -kInfinity, [&](Floats x, size_t at, size_t) {
      const Floats quotient = quotient_of(x, divisor);
      const Floats value = exp_of(quotient - maximum);
      store(found + at, x > -kInfinity ? quotient : all(-kInfinity));
      store(values + at, x > -kInfinity ? value : all(0.0f));
    });
    std::uint64_t sum_sure = 0;
    for (size_t i = 0; i < here; ++i) {
      const std::uint64_t weight = weight_of(values[i]);
      const auto above = static_cast<std::uint64_t>(found[i] > sure);
      all_weights += weight;
      sum_sure += weight & (0 - above);
      ids[kept] = static_cast<std::int32_t>(start + i);
      quotients[kept] = found[i];
      weights[kept] = weight;
      kept += (above ^ 1) & static_cast<std::uint64_t>(found[i] >= possible);
    }
    sums[block] = sum_sure;
#endif
  }
  *total = all_weights;
  return kept;
}

size_t take(const float* quotients, const float* exponentials_in, size_t count, std::int32_t first_id,
            float least, std::int32_t last_id, std::int32_t* ids, float* out, std::uint64_t* weights,
            std::uint64_t* total) {
  size_t kept = 0;
#if defined(__AVX512F__)
  __m512i sum = _mm512_setzero_si512();
  for (size_t i = 0; i < count; i += 16) {
    const __mmask16 there = first_of(count - i);
    const __m512 quotient = _mm512_maskz_loadu_ps(there, quotients + i);
    const __m512i id = ids_from(first_id + static_cast<std::int32_t>(i));
    const __mmask16 equal = _mm512_mask_cmp_ps_mask(there, quotient, _mm512_set1_ps(least), _CMP_EQ_OQ);
    const __mmask16 mask = _mm512_mask_cmp_ps_mask(there, quotient, _mm512_set1_ps(least), _CMP_GT_OQ) |
                           _mm512_mask_cmple_epi32_mask(equal, id, _mm512_set1_epi32(last_id));
    if (mask == 0) continue;
    const __m512 value = _mm512_maskz_loadu_ps(there, exponentials_in + i);
    append(mask, id, (Floats)quotient, ids + kept, out + kept);
    append_weights(mask, weights_of(_mm512_castps512_ps256(value)),
                   weights_of(_mm512_extractf32x8_ps(value, 1)), weights + kept, sum);
    kept += static_cast<size_t>(__builtin_popcount(mask));
  }
  *total += static_cast<std::uint64_t>(_mm512_reduce_add_epi64(sum));
#else
  std::uint64_t sum = 0;
  for (size_t i = 0; i < count; ++i) {
    const auto id = first_id + static_cast<std::int32_t>(i);
    const float quotient = quotients[i];
    // Without branches: what stays is as good as random.
    const auto above = static_cast<std::uint64_t>(quotient > least);
    const auto equal = static_cast<std::uint64_t>(quotient == least);
    const std::uint64_t stays = above | (equal & static_cast<std::uint64_t>(id <= last_id));
    const std::uint64_t weight = weight_of(exponentials_in[i]);
    ids[kept] = id;
    out[kept] = quotient;
    weights[kept] = weight;
    sum += weight & (0 - stays);
    kept += stays;
  }
  *total += sum;
#endif
  return kept;
}

float distances(const float* logits, size_t count, double log_total, double entropy, float* out) {
  for (size_t i = 0; i < count; ++i) {
    out[i] = static_cast<float>(__builtin_fabs(log_total - static_cast<double>(logits[i]) - entropy));
  }
  Floats largest = all(0.0f);
  for_vectors(out, count, 0.0f, [&](Floats x, size_t, size_t) { largest = higher(x, largest); });
  return highest(largest);
}

double weighted_surprise(const float* logits, const std::uint64_t* weights, size_t count, double log_total) {
  constexpr size_t kSums = 8;
  double sums[kSums] = {};
  size_t i = 0;
  for (; i + kSums <= count; i += kSums) {
    for (size_t lane = 0; lane < kSums; ++lane) {
      // Weights are below 2^52, so that they convert as signed numbers do.
      const auto weight = static_cast<double>(static_cast<std::int64_t>(weights[i + lane]));
      sums[lane] += weight * (log_total - static_cast<double>(logits[i + lane]));
    }
  }
  for (; i < count; ++i) {
    const auto weight = static_cast<double>(static_cast<std::int64_t>(weights[i]));
    sums[i % kSums] += weight * (log_total - static_cast<double>(logits[i]));
  }
  double sum = 0;
  for (const double lane : sums) sum += lane;
  return sum;
}

size_t compact(const std::uint8_t* keep, size_t count, const Passes::List& from, const Passes::List& to,
               std::uint64_t* total) {
  size_t kept = 0;
#if defined(__AVX512F__)
  __m512i sum = _mm512_setzero_si512();
  for (size_t i = 0; i < count; i += 16) {
    const __mmask16 there = first_of(count - i);
    const __m128i flags = _mm_maskz_loadu_epi8(there, keep + i);
    const __mmask16 mask = _mm_test_epi8_mask(flags, flags);
    const __m512i id = _mm512_maskz_loadu_epi32(there, from.ids + i);
    const __m512 logit = _mm512_maskz_loadu_ps(there, from.logits + i);
    if (from.weights != nullptr) {
      const __m512i low = _mm512_maskz_loadu_epi64(static_cast<__mmask8>(there), from.weights + i);
      const __m512i high = _mm512_maskz_loadu_epi64(static_cast<__mmask8>(there >> 8), from.weights + i + 8);
      append_weights(mask, low, high, to.weights + kept, sum);
    }
    append(mask, id, (Floats)logit, to.ids + kept, to.logits + kept);
    kept += static_cast<size_t>(__builtin_popcount(mask));
  }
  *total += static_cast<std::uint64_t>(_mm512_reduce_add_epi64(sum));
#else
  std::uint64_t sum = 0;
  for (size_t i = 0; i < count; ++i) {
    to.ids[kept] = from.ids[i];
    to.logits[kept] = from.logits[i];
    if (from.weights != nullptr) {
      const std::uint64_t weight = from.weights[i];
      sum += weight & (0 - static_cast<std::uint64_t>(keep[i]));
      to.weights[kept] = weight;
    }
    kept += keep[i];
  }
  *total += sum;
#endif
  return kept;
}

}  // namespace

// The declaration gives a constant that is not inline its outside name.
extern const Passes kPasses;
#define PEREGRINE_PASSES_TEXT(name) #name
#define PEREGRINE_PASSES_NAME(name) PEREGRINE_PASSES_TEXT(name)
constexpr Passes kPasses = {PEREGRINE_PASSES_NAME(PEREGRINE_PASSES),
                            sanitize,
                            exponentials,
                            sum_of_exponentials,
                            subtract,
                            gather,
                            weigh,
                            weigh_blocks,
                            weigh_between,
                            spread,
                            spread_weights,
                            find,
                            take,
                            distances,
                            weighted_surprise,
                            compact};

}  // namespace peregrine::decoding::PEREGRINE_PASSES
