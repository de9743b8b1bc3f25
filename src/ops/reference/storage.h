// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "ops/device.h"
#include "ops/reference/quantize.h"
#include "ops/reference/views.h"

namespace peregrine::ops::reference {

/// A weight in the plainest layout: row-major, in its stored type; of int8, all rows' scales lie before them.
class ReferenceWeight final : public Weight {
 public:
  ReferenceWeight(std::int64_t rows, std::int64_t cols, core::DType dtype, WeightUse use, Buffer buffer)
      : Weight(rows, cols, dtype, use), buffer_(std::move(buffer)) {}

  std::size_t bytes() const override { return buffer_.size(); }

  /// The numbers that a row stands for.
  std::vector<float> row(const AddressSpace& memory, std::int64_t index) const;
  /// A row of an int8 weight.
  QuantizedRow quantized_row(const AddressSpace& memory, std::int64_t index) const;

  /// Fills a row with these numbers; there are cols() of them.
  void set_row(const AddressSpace& memory, std::int64_t index, const std::vector<float>& values);

  /// Memory of such a weight.
  static std::size_t bytes_of(std::int64_t rows, std::int64_t cols, core::DType dtype);

  /// The weight that an operation was given. Throws Error(kInternal) where it is none, or another device's.
  static const ReferenceWeight& of(const Weight* weight);

 private:
  std::byte* row_data(const AddressSpace& memory, std::int64_t index) const;
  float* row_scale(const AddressSpace& memory, std::int64_t index) const;

  Buffer buffer_;
};

/// Keys and values as [layer][key, value][block][position in block][kv head][head_dim], in their stored type,
/// and behind all of them, in int8, a float32 scale for each head, in the same order.
class ReferenceKvCache final : public KvCache {
 public:
  ReferenceKvCache(const KvCacheSpec& spec, Buffer buffer) : KvCache(spec), buffer_(std::move(buffer)) {}

  enum class Part { kKeys, kValues };

  /// Where a part of a layer begins, and its scales. Both throw Error(kInternal) where there is no such
  /// layer.
  DeviceAddress elements(std::int32_t layer, Part part) const;
  DeviceAddress scales(std::int32_t layer, Part part) const;

  /// The cache that an operation was given. Throws Error(kInternal) where it is none, or another device's.
  static const ReferenceKvCache& of(const KvCache* cache);

 private:
  /// Heads before a part of a layer.
  std::size_t heads_before(std::int32_t layer, Part part) const;

  Buffer buffer_;
};

}  // namespace peregrine::ops::reference
