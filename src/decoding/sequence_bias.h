// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "decoding/processors.h"

namespace peregrine::decoding {

/// Adds a bias to the last token of each listed sequence wherever the tokens before it stand at the end of
/// prompt and output (transformers' SequenceBiasLogitsProcessor). As there, a sequence of n > 1 tokens is
/// only looked at once there are at least n tokens, and of equal sequences the last one counts.
class SequenceBiases : public LogitsProcessor {
 public:
  explicit SequenceBiases(const std::vector<generation::SequenceBias>& biases);
  void apply(std::span<float> logits, std::span<const std::int32_t> tokens) const override;

 private:
  std::vector<generation::SequenceBias> single_;
  std::vector<generation::SequenceBias> long_;  ///< Sorted by their last token but one.
};

}  // namespace peregrine::decoding
