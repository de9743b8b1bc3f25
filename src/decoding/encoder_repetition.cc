// SPDX-License-Identifier: Apache-2.0
#include "decoding/encoder_repetition.h"

#include <algorithm>

namespace peregrine::decoding {

EncoderRepetition::EncoderRepetition(float penalty, std::span<const std::int32_t> encoder_ids)
    : factor_(1.0f / penalty), ids_(encoder_ids.begin(), encoder_ids.end()) {
  std::ranges::sort(ids_);
  const auto repeated = std::ranges::unique(ids_);
  ids_.erase(repeated.begin(), repeated.end());
}

void EncoderRepetition::apply(std::span<float> logits, std::span<const std::int32_t>) const {
  for (const std::int32_t id : ids_) {
    float& logit = logits[static_cast<std::size_t>(id)];
    logit = logit < 0 ? logit * factor_ : logit / factor_;
  }
}

}  // namespace peregrine::decoding
