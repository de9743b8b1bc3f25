// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include "decoding/sampler.h"
#include "generation/sampled_token.h"

namespace peregrine::decoding {

/// What a token that is given has for a log-probability: fills `out` with token `id` under `logits`
/// [vocab_size] (which are overwritten where they are not finite, as SequenceSampler::sample has it), and
/// with the `top` most likely tokens. `id` is in the vocabulary.
void score(std::span<float> logits, std::int32_t id, std::int32_t top, SamplerScratch& scratch,
           generation::SampledToken& out);

}  // namespace peregrine::decoding
