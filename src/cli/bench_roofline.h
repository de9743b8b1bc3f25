// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "model/load.h"

namespace peregrine::cli {

/// What a token costs, from the model's shape: the matrices a decode step must read, and the layers'
/// multiplications.
struct Work {
  double layer_weights = 0;  ///< Elements of the matrices of all layers that a token goes through.
  double head_weights = 0;
  double text_weights = 0;  ///< The same for a token of an encoder-decoder's text.

  /// `model` has a decoder.
  explicit Work(const model::LoadedModel& model);

  /// Operations (an addition and a multiplication for each weight) of a prompt or text whose last position
  /// alone needs logits; attention left out.
  double prefill_operations(std::int32_t tokens) const;
  /// Of one decoded token.
  double decode_operations() const { return 2 * (layer_weights + head_weights); }
  /// What a decode step reads of weights of this type.
  double decode_bytes(core::DType dtype) const;
};

/// Measured limits of the machine, for arithmetic in the model's type.
struct Roofline {
  double bytes_per_second = 0;
  double operations_per_second = 0;

  /// The most sequences' tokens a second that decoding `batch` sequences allows: whichever of reading every
  /// matrix once a step and the arithmetic takes longer.
  double decode_rate(const Work& work, core::DType dtype, std::int32_t batch) const;
};

}  // namespace peregrine::cli
