// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <utility>

#include "decoding/processors.h"

namespace peregrine::decoding {

/// Forbids every token but some where prompt and output have `size` tokens, and gives those the logit 0,
/// which is probability 1 for a single one. transformers' ForcedBOSTokenLogitsProcessor (size 1: behind the
/// decoder's start token) and ForcedEOSTokenLogitsProcessor (the last token that there is room for).
class ForcedTokens : public LogitsProcessor {
 public:
  ForcedTokens(std::size_t size, std::vector<std::int32_t> ids) : size_(size), ids_(std::move(ids)) {}
  void apply(std::span<float> logits, std::span<const std::int32_t> tokens) const override;

 private:
  std::size_t size_;
  std::vector<std::int32_t> ids_;
};

}  // namespace peregrine::decoding
