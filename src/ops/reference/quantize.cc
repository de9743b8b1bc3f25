// SPDX-License-Identifier: Apache-2.0
#include "ops/reference/quantize.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>

namespace peregrine::ops::reference {
namespace {

/// The largest magnitude. Magnitudes are compared as integers: that is their order, with what is no number
/// above infinity, so that none is lost.
float largest(std::span<const float> row) {
  std::uint32_t bits = 0;
  for (const float value : row) bits = std::max(bits, std::bit_cast<std::uint32_t>(value) & 0x7FFFFFFFu);
  return std::bit_cast<float>(bits);
}

}  // namespace

QuantizedRow quantize(std::span<const float> row) {
  const float most = largest(row);
  QuantizedRow out{std::vector<std::int8_t>(row.size()), most / 127.0f};
  // All zeros where nothing else would be a number: the scale says the rest.
  if (!(most >= 0x1p-120f) || std::isinf(most)) return out;
  const float inverse = 127.0f / most;
  for (std::size_t k = 0; k < row.size(); ++k) {
    out.values[k] = static_cast<std::int8_t>(std::nearbyint(row[k] * inverse));
  }
  return out;
}

float product(const QuantizedRow& a, const QuantizedRow& b) {
  std::int64_t sum = 0;
  for (std::size_t k = 0; k < a.values.size(); ++k) sum += std::int64_t{a.values[k]} * b.values[k];
  return static_cast<float>(sum) * (a.scale * b.scale);
}

}  // namespace peregrine::ops::reference
