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
/// each k the 16 rows' elements side by side; in bfloat16 for each pair of k, row by row the two elements. K
/// is padded to even. kRows: plain row-major.
class CpuWeight final : public Weight {
 public:
  CpuWeight(std::int64_t rows, std::int64_t cols, core::DType dtype, WeightUse use);

  std::size_t bytes() const override { return memory_.size(); }
  std::byte* data() const { return memory_.data(); }
  std::int64_t panels() const;
  std::int64_t panel_bytes() const;

 private:
  Region memory_;
};

/// See Device::pack. Runs on all threads of `compute`.
std::unique_ptr<CpuWeight> pack_weight(Compute& compute, std::span<const HostMatrix> parts, core::DType dtype,
                                       WeightUse use);

/// Writes row `row` of `weight`, widened and times `scale`, to out[0 .. cols), or adds it.
void read_row(const CpuWeight& weight, std::int64_t row, float scale, bool accumulate, float* out);

}  // namespace peregrine::ops::cpu
