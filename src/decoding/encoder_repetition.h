// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "decoding/processors.h"

namespace peregrine::decoding {

/// Makes tokens of the encoder's text more likely (penalty > 1) or less (< 1): the inverse of the repetition
/// penalty, on other tokens (transformers' EncoderRepetitionPenaltyLogitsProcessor, against made-up content).
class EncoderRepetition : public LogitsProcessor {
 public:
  EncoderRepetition(float penalty, std::span<const std::int32_t> encoder_ids);
  void apply(std::span<float> logits, std::span<const std::int32_t> tokens) const override;

 private:
  float factor_;                   ///< 1 / penalty.
  std::vector<std::int32_t> ids_;  ///< Each once.
};

}  // namespace peregrine::decoding
