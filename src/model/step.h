// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

namespace peregrine::model {

/// Stands in a step's token ids for "the token sampled last in `slot`", which the host may not know yet.
constexpr std::int32_t token_of_slot(std::int32_t slot) { return ~slot; }

/// One sequence's share of a step: consecutive tokens at absolute positions start, start + 1, ... All spans
/// are read by Decoder::forward during the call only.
struct StepSequence {
  std::span<const std::int32_t> tokens;  ///< Ids, or token_of_slot(). Not empty.
  std::int32_t start = 0;
  /// KV blocks of positions [0, start + tokens.size()), kBlockTokens each.
  std::span<const std::int32_t> blocks;
  /// The sequence's rotary frequencies, from Decoder::rotary_frequencies; empty for models without rotary
  /// positions.
  std::span<const float> rotary_frequencies;
  /// How many of the last tokens need logits, 0 to tokens.size().
  std::int32_t logit_rows = 0;
  /// Only with cross_attention: the KV blocks that Decoder::store_cross has filled for this sequence, and the
  /// positions in them.
  std::span<const std::int32_t> cross_blocks = {};
  std::int32_t cross_length = 0;
};

}  // namespace peregrine::model
