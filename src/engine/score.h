// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/decoder.h"
#include "model/load.h"
#include "ops/device.h"

namespace peregrine::engine {

/// The model's logits for a text: float32 [positions, vocab_size], row by row, for every position of `ids`,
/// or for the last one only. The text is computed in chunks of at most `chunk` tokens (>= 1), which the
/// result does not depend on, in a KV cache of its own. Throws Error(kInvalidArgument) where `ids` is empty,
/// longer than the model's context, or holds an id outside the vocabulary. Not for encoder-decoders.
std::vector<float> compute_logits(ops::Device& device, const model::Decoder& model,
                                  std::span<const std::int32_t> ids, bool all_positions,
                                  std::int32_t chunk = 512);

/// What compute_logits() is asked about.
struct ScoredText {
  std::span<const std::int32_t> ids;               ///< Of the decoder.
  std::span<const std::int32_t> encoder_ids = {};  ///< The text of an encoder-decoder; empty for others.
};

/// The same for every model that has a decoder; `encoder_ids` is bound as `ids` is. Throws
/// Error(kUnsupported) for one that has none, kInvalidArgument where `encoder_ids` is there and should not
/// be, or is not.
std::vector<float> compute_logits(ops::Device& device, const model::LoadedModel& model,
                                  const ScoredText& text, bool all_positions, std::int32_t chunk = 512);

}  // namespace peregrine::engine
