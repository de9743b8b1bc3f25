// SPDX-License-Identifier: Apache-2.0
#include "decoding/forbidden_tokens.h"

#include <limits>

namespace peregrine::decoding {
namespace {

void forbid(std::span<float> logits, std::span<const std::int32_t> ids) {
  for (const std::int32_t id : ids) {
    logits[static_cast<std::size_t>(id)] = -std::numeric_limits<float>::infinity();
  }
}

}  // namespace

void MinimumSize::apply(std::span<float> logits, std::span<const std::int32_t> tokens) const {
  if (tokens.size() < size_) forbid(logits, end_ids_);
}

void SuppressAtBegin::apply(std::span<float> logits, std::span<const std::int32_t> tokens) const {
  if (tokens.size() == size_) forbid(logits, ids_);
}

void SuppressTokens::apply(std::span<float> logits, std::span<const std::int32_t>) const {
  forbid(logits, ids_);
}

}  // namespace peregrine::decoding
