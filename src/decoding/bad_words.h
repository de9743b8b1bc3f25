// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "decoding/processors.h"

namespace peregrine::decoding {

/// Forbids the last token of each listed sequence wherever the tokens before it stand at the end of prompt
/// and output (transformers' NoBadWordsLogitsProcessor). As there, a sequence of n > 1 tokens is only looked
/// at once there are at least n tokens, and a listed end token alone is passed over.
class BadWords : public LogitsProcessor {
 public:
  BadWords(const std::vector<std::vector<std::int32_t>>& words, std::span<const std::int32_t> eos_token_ids);
  void apply(std::span<float> logits, std::span<const std::int32_t> tokens) const override;

 private:
  std::vector<std::int32_t> single_;             ///< Words of one token: always forbidden.
  std::vector<std::vector<std::int32_t>> long_;  ///< The others, sorted by their last token but one.
};

}  // namespace peregrine::decoding
