// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/decoder.h"
#include "ops/device.h"

namespace peregrine::engine {

/// The model's logits for a text: float32 [positions, vocab_size], row by row, for every position of `ids`,
/// or for the last one only. The text is computed in chunks of at most `chunk` tokens (>= 1), which the
/// result does not depend on, in a KV cache of its own. Throws Error(kInvalidArgument) where `ids` is empty,
/// longer than the model's context, or holds an id outside the vocabulary.
std::vector<float> compute_logits(ops::Device& device, const model::Decoder& model,
                                  std::span<const std::int32_t> ids, bool all_positions,
                                  std::int32_t chunk = 512);

}  // namespace peregrine::engine
