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
};

/// Most KV blocks that a group holds at once: the prompt's full blocks once, what follows for each sequence.
/// The last token drawn is never computed and takes no room.
std::int64_t blocks_needed(std::int64_t prompt_tokens, std::int64_t new_tokens, std::int32_t sequences);

/// Throws Error(kInvalidArgument, or kUnsupported for beams) with the numbers where the request can never
/// run. Returns how many tokens each sequence may have after the prompt: max_new_tokens, or fewer where the
/// context ends before.
std::int32_t check_request(const Request& request, const BatchLimits& limits);

}  // namespace peregrine::engine
