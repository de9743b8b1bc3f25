// SPDX-License-Identifier: Apache-2.0
#include "decoding/forced_tokens.h"

#include <algorithm>
#include <limits>

namespace peregrine::decoding {

void ForcedTokens::apply(std::span<float> logits, std::span<const std::int32_t> tokens) const {
  if (tokens.size() != size_) return;
  std::ranges::fill(logits, -std::numeric_limits<float>::infinity());
  for (const std::int32_t id : ids_) logits[static_cast<std::size_t>(id)] = 0.0f;
}

}  // namespace peregrine::decoding
