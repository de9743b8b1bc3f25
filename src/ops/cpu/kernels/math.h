// SPDX-License-Identifier: Apache-2.0
// Part of a kernel source: elementary functions of sixteen lanes, and conversion of lanes on their way to
// memory. Polynomials interpolate at Chebyshev nodes of the stated range; errors are those of the polynomial
// in exact arithmetic.
#pragma once

namespace peregrine::ops::cpu::PEREGRINE_ISA {
namespace {

inline constexpr float kInfinity = __builtin_inff();

PEREGRINE_INLINE float sum_lanes(Vector a) {
  return reduce(a, [](Vector x, Vector y) PEREGRINE_LAMBDA { return add(x, y); });
}
PEREGRINE_INLINE float max_lanes(Vector a) {
  return reduce(a, [](Vector x, Vector y) PEREGRINE_LAMBDA { return max(x, y); });
}

/// c[0] + c[1] x + ... + c[N-1] x^(N-1), by Horner's rule.
template <int N>
PEREGRINE_INLINE Vector polynomial(const float (&c)[N], Vector x) {
  Vector sum = splat(c[N - 1]);
  each<N - 1>([&](auto i) PEREGRINE_LAMBDA { sum = fma(sum, x, splat(c[N - 2 - i])); });
  return sum;
}

/// e^x for -87.3 <= x <= 88.37, to about 1 ulp; NaN stays NaN.
PEREGRINE_INLINE Vector exp_within(Vector x) {
  // (e^r - 1 - r) / r^2 on |r| <= ln(2) / 2, relative error of e^r 1.0e-8.
  constexpr float kCoefficients[] = {5.000000000e-01f, 1.666657699e-01f, 4.166655462e-02f, 8.363179053e-03f,
                                     1.392618359e-03f};
  // Adding 1.5 * 2^23 rounds to an integer, left in the lowest bits.
  const Vector magic = splat(12582912.0f);
  const Vector biased = fma(x, splat(1.44269504f), magic);
  const Vector n = sub(biased, magic);
  // ln(2) in two parts, the first short enough for an exact product.
  Vector r = fma(n, splat(-0.693359375f), x);
  r = fma(n, splat(2.12194440e-4f), r);
  const Vector tail = fma(mul(r, r), polynomial(kCoefficients, r), r);
  return mul(add(splat(1.0f), tail), add_shift_23(biased, 127));
}

/// e^x to about 1 ulp. Below -87.3 (where the result would be a denormal) exactly 0, so that a masked score
/// of minus infinity weighs nothing; above 88.37 infinity; NaN stays NaN.
PEREGRINE_INLINE Vector exp(Vector x) {
  const Vector low = splat(-87.3f), high = splat(88.37f);
  const Mask under = less(x, low), over = less(high, x);
  const Vector value = exp_within(min(high, max(low, x)));
  return select(under, zero(), select(over, splat(kInfinity), value));
}

/// The same for what is at most 0 or no number.
PEREGRINE_INLINE Vector exp_below(Vector x) {
  const Vector low = splat(-87.3f);
  return select(less(x, low), zero(), exp_within(max(low, x)));
}

/// x * (1 + erf(x / sqrt(2))) / 2. erf below 1 as an odd polynomial (relative error 1.3e-9); beyond, the
/// complement e^(-z^2) t Q(t), t = 1 / (1 + z / 2), for 1 <= z <= 10.4 (relative error 1.2e-8), so that the
/// negative tail keeps its digits.
PEREGRINE_INLINE Vector gelu(Vector x) {
  constexpr float kErf[] = {1.128379166e+00f, -3.761262667e-01f, 1.128359472e-01f, -2.685421201e-02f,
                            5.189087423e-03f, -8.016864283e-04f, 7.875875050e-05f};
  constexpr float kComplement[] = {2.820975988e-01f, 2.820559813e-01f, 2.468272304e-01f,  1.793881714e-01f,
                                   5.943843884e-02f, 8.479940171e-02f, -2.281473387e-01f, 9.412438245e-02f};
  const Vector z = mul(x, splat(0.707106781f));
  const Vector square = mul(z, z);
  const Vector half = splat(0.5f), one = splat(1.0f);
  const Vector near = fma(half, mul(z, polynomial(kErf, square)), half);
  const Vector distance = abs(z);
  const Vector t = div(one, fma(half, min(splat(10.4f), distance), one));
  const Vector tail = mul(half, mul(mul(t, polynomial(kComplement, t)), exp(sub(zero(), square))));
  const Vector far = select(less(x, zero()), tail, sub(one, tail));
  return mul(x, select(less(distance, one), near, far));
}

/// x / (1 + e^(-x))
PEREGRINE_INLINE Vector silu(Vector x) { return div(x, add(splat(1.0f), exp(sub(zero(), x)))); }

/// x (1 + tanh(u)) / 2 = x / (1 + e^(-2u)), u = sqrt(2 / pi) (x + 0.044715 x^3).
PEREGRINE_INLINE Vector gelu_tanh(Vector x) {
  const Vector cubic = mul(mul(x, x), x);
  const Vector u = fma(splat(0.044715f), cubic, x);
  return div(x, add(splat(1.0f), exp(mul(splat(-1.59576912f), u))));
}

/// tanh(x): below 0.625 as an odd polynomial (relative error 1.5e-8), beyond as 1 - 2 / (1 + e^(2 |x|)).
PEREGRINE_INLINE Vector tanh(Vector x) {
  constexpr float kOdd[] = {-3.333332894e-01f, 1.333276974e-01f, -5.385090958e-02f, 2.099717900e-02f,
                            -6.096714166e-03f};
  const Vector square = mul(x, x);
  const Vector near = fma(mul(x, square), polynomial(kOdd, square), x);
  const Vector distance = abs(x);
  const Vector rest = div(splat(2.0f), add(splat(1.0f), exp(add(distance, distance))));
  const Vector far = sub(splat(1.0f), rest);
  const Vector signed_far = select(less(x, zero()), sub(zero(), far), far);
  return select(less(distance, splat(0.625f)), near, signed_far);
}

/// cap * tanh(x / cap)
PEREGRINE_INLINE Vector soft_cap(float cap, Vector x) { return mul(splat(cap), tanh(div(x, splat(cap)))); }

PEREGRINE_INLINE Vector activate(ActivationKind kind, Vector x) {
  switch (kind) {
    case ActivationKind::kNone:
      return x;
    case ActivationKind::kGelu:
      return gelu(x);
    case ActivationKind::kGeluTanh:
      return gelu_tanh(x);
    case ActivationKind::kSilu:
      return silu(x);
    case ActivationKind::kRelu:
      return select(less(x, zero()), zero(), x);
    case ActivationKind::kTanh:
      return tanh(x);
  }
  return x;
}

PEREGRINE_INLINE std::int64_t bytes_of(Number type) { return type == Number::kF32 ? 4 : 2; }
/// Of weights, which may be int8 as well.
PEREGRINE_INLINE std::int64_t stored_bytes(Number type) { return type == Number::kI8 ? 1 : bytes_of(type); }

/// Sixteen numbers of `type`, widened.
PEREGRINE_INLINE Vector load_as(Number type, const std::byte* p) {
  if (type == Number::kF32) return load(p);
  return type == Number::kBF16 ? load_bf16(p) : load_f16(p);
}
/// The first `n` <= 16 of them; other lanes are 0.
PEREGRINE_INLINE Vector load_as(Number type, const std::byte* p, std::int64_t n) {
  if (n >= 16) return load_as(type, p);
  alignas(64) std::byte lanes[64] = {};
  __builtin_memcpy(lanes, p, static_cast<std::size_t>(n * bytes_of(type)));
  return load_as(type, lanes);
}
/// Rounds to nearest even.
PEREGRINE_INLINE void store_as(Number type, std::byte* p, Vector a) {
  if (type == Number::kF32) {
    store(p, a);
  } else if (type == Number::kBF16) {
    store_bf16(p, a);
  } else {
    store_f16(p, a);
  }
}
PEREGRINE_INLINE void store_as(Number type, std::byte* p, Vector a, std::int64_t n) {
  if (n >= 16) {
    store_as(type, p, a);
    return;
  }
  alignas(64) std::byte lanes[64];
  store_as(type, lanes, a);
  __builtin_memcpy(p, lanes, static_cast<std::size_t>(n * bytes_of(type)));
}

PEREGRINE_INLINE float widen_bf16(std::uint16_t bits) {
  const std::uint32_t wide = static_cast<std::uint32_t>(bits) << 16;
  float value;
  __builtin_memcpy(&value, &wide, 4);
  return value;
}
/// Rounds to nearest even.
PEREGRINE_INLINE std::uint16_t narrow_bf16(float value) {
  std::uint32_t bits;
  __builtin_memcpy(&bits, &value, 4);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return static_cast<std::uint16_t>((bits >> 16) | 0x40u);
  return static_cast<std::uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}
/// The value rounded to bfloat16, as float32.
PEREGRINE_INLINE Vector round_to_bf16(Vector a) {
  alignas(64) std::uint16_t lanes[16];
  store_bf16(lanes, a);
  return load_bf16(lanes);
}

}  // namespace
}  // namespace peregrine::ops::cpu::PEREGRINE_ISA
