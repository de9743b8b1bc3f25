// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "generation/sampled_token.h"

namespace peregrine::decoding {

/// The `count` highest logits as log-probabilities, best first, ties to the lower id. `block_maxima` as by
/// sanitize(), `log_total` as by log_sum_exp(). Allocates only where `top` has never been so long.
void find_top(std::span<const float> logits, std::span<const float> block_maxima, double log_total,
              std::size_t count, std::vector<generation::TokenLogProb>& top);

}  // namespace peregrine::decoding
