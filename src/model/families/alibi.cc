// SPDX-License-Identifier: Apache-2.0
#include "model/families/alibi.h"

#include <bit>
#include <cmath>

namespace peregrine::model {

std::vector<float> alibi_slopes(std::int32_t heads) {
  std::vector<float> slopes;
  const auto power = static_cast<std::int32_t>(std::bit_floor(static_cast<std::uint32_t>(heads)));
  const auto add = [&slopes](std::int32_t of_heads, std::int32_t exponent) {
    const auto base = static_cast<float>(std::exp2(-8.0 / of_heads));
    slopes.push_back(static_cast<float>(std::pow(static_cast<double>(base), exponent)));
  };
  for (std::int32_t i = 1; i <= power; ++i) add(power, i);
  for (std::int32_t i = 0; i < heads - power; ++i) add(2 * power, 2 * i + 1);
  return slopes;
}

std::vector<float> mpt_alibi_slopes(std::int32_t heads, double largest) {
  std::vector<float> slopes;
  const auto power = static_cast<std::int32_t>(std::bit_ceil(static_cast<std::uint32_t>(heads)));
  const auto add = [&](std::int32_t place) {
    if (static_cast<std::int32_t>(slopes.size()) == heads) return;
    slopes.push_back(static_cast<float>(std::exp2(-largest * (place + 1) / power)));
  };
  if (power == heads) {
    for (std::int32_t i = 0; i < power; ++i) add(i);
  } else {
    for (std::int32_t i = 1; i < power; i += 2) add(i);
    for (std::int32_t i = 0; i < power; i += 2) add(i);
  }
  return slopes;
}

}  // namespace peregrine::model
