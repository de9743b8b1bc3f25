// SPDX-License-Identifier: Apache-2.0
// Part of a kernel source: loops that measure what the processor can do at most.
#pragma once

namespace peregrine::ops::cpu::PEREGRINE_ISA {
namespace {

/// Independent chains that hide the latency of a multiply-add without spilling.
#if defined(PEREGRINE_AVX512)
inline constexpr int kChains = 20;
#elif defined(PEREGRINE_AVX2)
inline constexpr int kChains = 6;
#else
inline constexpr int kChains = 2;
#endif

float read_memory(const std::byte* data, std::size_t bytes) {
  const std::size_t quarter = bytes / 4;
  Vector sums[8];
  each<8>([&](auto i) PEREGRINE_LAMBDA { sums[i] = zero(); });
  for (std::size_t offset = 0; offset < quarter; offset += 128) {
    each<4>([&](auto stream) PEREGRINE_LAMBDA {
      const std::byte* p = data + stream * quarter + offset;
      _mm_prefetch(reinterpret_cast<const char*>(p + 2048), _MM_HINT_T0);
      _mm_prefetch(reinterpret_cast<const char*>(p + 2048 + 64), _MM_HINT_T0);
      sums[stream] = add(sums[stream], load(p));
      sums[stream + 4] = add(sums[stream + 4], load(p + 64));
    });
  }
  each<7>([&](auto i) PEREGRINE_LAMBDA { sums[0] = add(sums[0], sums[i + 1]); });
  return sum_lanes(sums[0]);
}

/// Hides where a value comes from, so that the loops below are neither folded nor hoisted.
PEREGRINE_INLINE Vector opaque(float value) {
  asm volatile("" : "+x"(value));
  return splat(value);
}

template <typename Step>
PEREGRINE_INLINE double spin(std::int64_t iterations, double operations, Step step) {
  Vector sums[kChains];
  const Vector a = opaque(1e-9f), b = opaque(1e-9f);
  each<kChains>([&](auto i) PEREGRINE_LAMBDA { sums[i] = splat(static_cast<float>(i)); });
  for (std::int64_t n = 0; n < iterations; ++n) {
    each<kChains>([&](auto i) PEREGRINE_LAMBDA { sums[i] = step(sums[i], a, b); });
  }
  each<kChains - 1>([&](auto i) PEREGRINE_LAMBDA { sums[0] = add(sums[0], sums[i + 1]); });
  float result = sum_lanes(sums[0]);
  asm volatile("" : "+x"(result));
  return static_cast<double>(iterations) * kChains * operations;
}

double spin_f32(std::int64_t iterations) {
  return spin(iterations, 2 * 16,
              [](Vector sum, Vector a, Vector b) PEREGRINE_LAMBDA { return fma(a, b, sum); });
}

double spin_bf16(std::int64_t iterations) {
#if defined(PEREGRINE_AVX512_BF16)
  return spin(iterations, 4 * 16, [](Vector sum, Vector a, Vector b) PEREGRINE_LAMBDA {
    return Bf16DotPanel::dot(sum, a, _mm512_castps_si512(b.v));
  });
#else
  return spin_f32(iterations);
#endif
}

double spin_int8(std::int64_t iterations) {
  IntVector sums[kChains];
  const IntVector a = bits_of(opaque(1e-9f)), b = bits_of(opaque(1e-9f));
  each<kChains>([&](auto i) PEREGRINE_LAMBDA { sums[i] = splat_ints(i); });
  for (std::int64_t n = 0; n < iterations; ++n) {
    each<kChains>([&](auto i) PEREGRINE_LAMBDA {
#if defined(PEREGRINE_VNNI)
      // Through the intrinsic GCC 12 copies every sum in every round.
      asm volatile("vpdpbusd %2, %1, %0" : "+v"(sums[i].v) : "v"(a.v), "v"(b.v));
#else
      sums[i] = add_products(sums[i], a, b);
#endif
    });
  }
  each<kChains - 1>([&](auto i) PEREGRINE_LAMBDA { sums[0] = add(sums[0], sums[i + 1]); });
  float result = sum_lanes(to_floats(sums[0]));
  asm volatile("" : "+x"(result));
  return static_cast<double>(iterations) * kChains * 16 * (2 * I8Panel::kDepth / I8Panel::kValues);
}

}  // namespace
}  // namespace peregrine::ops::cpu::PEREGRINE_ISA
