// SPDX-License-Identifier: Apache-2.0
#include "decoding/penalties.h"

namespace peregrine::decoding {

RepetitionPenalty::RepetitionPenalty(float penalty, std::size_t tokens_expected) : penalty_(penalty) {
  seen_.reserve(tokens_expected);
}

void RepetitionPenalty::append(std::span<const std::int32_t> tokens, bool) { seen_.add(tokens.back()); }

void RepetitionPenalty::apply(std::span<float> logits, std::span<const std::int32_t>) const {
  for (const auto& entry : seen_.entries()) {
    float& logit = logits[static_cast<std::size_t>(entry.id)];
    logit = logit < 0 ? logit * penalty_ : logit / penalty_;
  }
}

PresenceFrequencyPenalty::PresenceFrequencyPenalty(float presence, float frequency,
                                                   std::size_t tokens_expected)
    : presence_(presence), frequency_(frequency) {
  generated_.reserve(tokens_expected);
}

void PresenceFrequencyPenalty::append(std::span<const std::int32_t> tokens, bool generated) {
  if (generated) generated_.add(tokens.back());
}

void PresenceFrequencyPenalty::apply(std::span<float> logits, std::span<const std::int32_t>) const {
  for (const auto& entry : generated_.entries()) {
    logits[static_cast<std::size_t>(entry.id)] -= frequency_ * static_cast<float>(entry.count) + presence_;
  }
}

}  // namespace peregrine::decoding
