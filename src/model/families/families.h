// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "model/family.h"

namespace peregrine::model {

/// Almazrouei et al. 2023: Falcon 7B, 40B, 11B (Falcon 2), RW 1B and 7B.
extern const Family kFalconFamily;
/// Black et al. 2022: GPT-NeoX-20B, Pythia, Dolly.
extern const Family kGptNeoxFamily;
/// Touvron et al. 2023: Llama 1 to 3.2.
extern const Family kLlamaFamily;

}  // namespace peregrine::model
