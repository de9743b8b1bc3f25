// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include "decoding/processors.h"

namespace peregrine::decoding {

/// Makes end tokens ever more likely (factor > 1) once prompt and output are longer than `start` tokens: adds
/// |logit| * (factor^(tokens beyond start) - 1). transformers' ExponentialDecayLengthPenalty.
class LengthDecay : public LogitsProcessor {
 public:
  LengthDecay(std::size_t start, float factor, std::vector<std::int32_t> end_ids);
  void apply(std::span<float> logits, std::span<const std::int32_t> tokens) const override;

 private:
  std::size_t start_;
  float factor_;
  std::vector<std::int32_t> end_ids_;  ///< Each once.
};

}  // namespace peregrine::decoding
