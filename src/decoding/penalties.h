// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "decoding/processors.h"
#include "decoding/token_counts.h"

namespace peregrine::decoding {

/// Makes tokens of the prompt and the output less likely (penalty > 1) or more (< 1): a positive logit is
/// divided by the penalty, a negative one multiplied, once however often the token occurred. N. Keskar et
/// al., "CTRL", arXiv:1909.05858, section 4.1, with transformers' rule for negative logits.
class RepetitionPenalty : public StatefulProcessor<RepetitionPenalty> {
 public:
  RepetitionPenalty(float penalty, std::size_t tokens_expected);
  void append(std::span<const std::int32_t> tokens, bool generated) override;
  void apply(std::span<float> logits, std::span<const std::int32_t> tokens) const override;

 private:
  float penalty_;
  TokenCounts seen_;
};

/// Subtracts `frequency` times the number of a token's occurrences in the output, and `presence` where there
/// is one. OpenAI API reference, "frequency and presence penalties".
class PresenceFrequencyPenalty : public StatefulProcessor<PresenceFrequencyPenalty> {
 public:
  PresenceFrequencyPenalty(float presence, float frequency, std::size_t tokens_expected);
  void append(std::span<const std::int32_t> tokens, bool generated) override;
  void apply(std::span<float> logits, std::span<const std::int32_t> tokens) const override;

 private:
  float presence_;
  float frequency_;
  TokenCounts generated_;
};

}  // namespace peregrine::decoding
