// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <span>

#include "ops/cpu/compute.h"
#include "ops/device.h"

namespace peregrine::ops::cpu {

/// A packed weight.
///
/// kLinear: panels of 16 output rows one after the other, the last padded with zeros. Within a panel, for
/// each k the 16 rows' elements side by side; in bfloat16 for each pair of k, row by row the two elements, in
/// int8 for each four of k, row by row the four. K is padded to even (int8: to a multiple of 4). kRows: plain
/// row-major.
///
/// int8 elements are stored plus 128, without a sign, as the dot products of bytes want one of their
/// operands; behind the elements lies one float32 scale for each row, padding included.
class CpuWeight final : public Weight {
 public:
  CpuWeight(std::int64_t rows, std::int64_t cols, core::DType dtype, WeightUse use);

  std::size_t bytes() const override { return memory_.size(); }
  std::byte* data() const { return memory_.data(); }
  std::int64_t panels() const;
  std::int64_t panel_bytes() const;
  /// Of each row, where the elements are int8.
  float* scales() const { return reinterpret_cast<float*>(memory_.data() + scales_at_); }

 private:
  std::size_t scales_at_;
  Region memory_;
};

/// See Device::pack. Runs on all threads of `compute`.
std::unique_ptr<CpuWeight> pack_weight(Compute& compute, std::span<const HostMatrix> parts, core::DType dtype,
                                       WeightUse use);

/// Writes row `row` of `weight`, widened and times `scale`, to out[0 .. cols), or adds it.
void read_row(const CpuWeight& weight, std::int64_t row, float scale, bool accumulate, float* out);

}  // namespace peregrine::ops::cpu
