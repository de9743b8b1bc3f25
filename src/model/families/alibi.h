// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

namespace peregrine::model {

/// Slopes of Press et al. 2021, [heads], as Falcon and BLOOM order them: a geometric sequence for the largest
/// power of two of heads, then every second value of the next finer sequence.
std::vector<float> alibi_slopes(std::int32_t heads);

/// The same as MPT orders them: the sequence of the next power of two, its odd places before its even ones
/// where the number of heads is not a power of two. `largest` is the exponent of the last (alibi_bias_max).
std::vector<float> mpt_alibi_slopes(std::int32_t heads, double largest);

}  // namespace peregrine::model
