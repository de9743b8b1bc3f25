// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace peregrine::serving {

/// What a loaded model can do, as its host said.
struct Limits {
  std::int64_t vocab_size = 0;
  std::int64_t max_model_length = 0;  ///< Prompt and output together, in tokens.
  std::int32_t max_sequences = 0;     ///< That can run at once.
  std::int32_t embedding_size = 0;    ///< Of an encoder that stands alone; 0: the model generates.
  std::int32_t labels = 0;            ///< Classes that an encoder tells apart; 0: it has no classifier.
  bool encoder_decoder = false;       ///< A text goes into GenerationRequest::encoder_ids.

  bool generates() const { return embedding_size == 0; }
  bool operator==(const Limits&) const = default;
};

}  // namespace peregrine::serving
