// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>

namespace peregrine::core {

/// a + b, or nothing where the sum does not fit. For sizes and offsets that come from files and requests.
inline std::optional<std::uint64_t> checked_add(std::uint64_t a, std::uint64_t b) {
  std::uint64_t sum = 0;
  if (__builtin_add_overflow(a, b, &sum)) return std::nullopt;
  return sum;
}

/// a * b, or nothing where the product does not fit.
inline std::optional<std::uint64_t> checked_mul(std::uint64_t a, std::uint64_t b) {
  std::uint64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

/// The smallest multiple of `unit` (> 0) that is not below `value`.
template <typename Integer>
constexpr Integer round_up(Integer value, Integer unit) {
  return (value + unit - 1) / unit * unit;
}

/// value / unit, rounded up.
template <typename Integer>
constexpr Integer ceil_div(Integer value, Integer unit) {
  return (value + unit - 1) / unit;
}

}  // namespace peregrine::core
