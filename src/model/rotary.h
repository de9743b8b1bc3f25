// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "model/decoder_config.h"

namespace peregrine::model {

/// Inverse frequencies of rotary positions, [config.dim / 2], with the scaling applied for a request of
/// `prompt_tokens` tokens (only kDynamic and kLongRope depend on it). Pair i turns by position * frequency[i]
/// (Su et al. 2021). The plain frequencies are rounded to float32 before they are scaled, as in transformers.
std::vector<float> rotary_frequencies(const RotaryConfig& config, std::int64_t prompt_tokens);

/// What cosines and sines are multiplied by: the "attention factor" of yarn (Peng et al. 2023, eq. 22) and of
/// longrope (sqrt(1 + ln(factor) / ln(trained length))), otherwise 1.
float rotary_attention_factor(const RotaryConfig& config);

}  // namespace peregrine::model
