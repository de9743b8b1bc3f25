// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "engine/request.h"

namespace peregrine::engine {

/// What the rolling batch has; see EngineOptions for the meaning.
struct BatchLimits {
  std::int32_t max_sequences = 0;
  std::int32_t prefill_tokens = 0;
  std::int32_t max_model_length = 0;
  std::int32_t kv_blocks = 0;
  std::int32_t steps_in_flight = 1;
  std::int64_t vocab_size = 0;
  std::int32_t encoder_layers = 0;  ///< Of an encoder-decoder model; 0: decoder only.
  double step_seconds = 0;          ///< See EngineOptions.
};

/// Rows of logits that a step has beside one for each sequence, for prompts whose log-probabilities are
/// wanted.
inline constexpr std::int32_t kPromptLogitRows = 16;

/// Most KV blocks that a group holds at once: the prompt's full blocks once, what follows for each sequence.
/// The last token drawn is never computed and takes no room.
std::int64_t blocks_needed(std::int64_t prompt_tokens, std::int64_t new_tokens, std::int32_t sequences);

/// KV blocks for the cross-attention to a text of so many tokens.
std::int32_t cross_blocks(std::size_t encoder_tokens);

/// Throws Error(kInvalidArgument) with the numbers where the request can never
/// run. Returns how many tokens each sequence may have after the prompt: max_new_tokens, or fewer where the
/// context ends before.
std::int32_t check_request(const Request& request, const BatchLimits& limits);

}  // namespace peregrine::engine
