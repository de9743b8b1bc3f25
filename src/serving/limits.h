// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace peregrine::serving {

/// What a loaded model can do, as its host said.
struct Limits {
  std::int64_t vocab_size = 0;
  std::int64_t max_model_length = 0;  ///< Prompt and output together, in tokens.
  std::int32_t max_sequences = 0;     ///< That can run at once.
};

}  // namespace peregrine::serving
