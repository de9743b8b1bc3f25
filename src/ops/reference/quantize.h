// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace peregrine::ops::reference {

/// A row as ops/device.h quantizes it: row[k] is about scale * values[k].
struct QuantizedRow {
  std::vector<std::int8_t> values;
  float scale = 0.0f;
};

QuantizedRow quantize(std::span<const float> row);

/// The sum of products of two rows, which have the same length: exact up to its one rounding to float32 and
/// the scales.
float product(const QuantizedRow& a, const QuantizedRow& b);

}  // namespace peregrine::ops::reference
