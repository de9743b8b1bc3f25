// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

namespace peregrine::generation {

struct TokenLogProb {
  std::int32_t id = 0;
  /// Natural logarithm of the softmax probability under the model's own logits, before penalties, temperature
  /// and cuts.
  float log_prob = 0.0f;
};

/// A token drawn for a sequence, with the most likely alternatives where they were asked for (best first,
/// ties to the lower id).
struct SampledToken {
  TokenLogProb token;
  std::vector<TokenLogProb> top;
};

}  // namespace peregrine::generation
