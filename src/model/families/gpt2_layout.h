// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "model/decoder_config.h"
#include "model/slots.h"

namespace peregrine::model {

/// The slots outside of the layers, under the names that GPT-2 gave them and GPTBigCode kept: token and
/// position embeddings, final norm, and the output layer where it is not tied.
std::vector<SlotSource> gpt2_model_slots(const DecoderConfig& config);

}  // namespace peregrine::model
