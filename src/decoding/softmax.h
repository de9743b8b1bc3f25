// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace peregrine::decoding {

/// Logits per block maximum: a scan for large logits looks at one number per block and skips the others.
inline constexpr std::size_t kBlockSize = 64;

/// Makes logits comparable: NaN becomes minus infinity and plus infinity the largest finite number. Writes
/// the maximum of each block of kBlockSize logits, and returns the maximum of all; minus infinity where
/// nothing is above it. `block_maxima` holds ceil(logits / kBlockSize) numbers.
float sanitize(std::span<float> logits, std::span<float> block_maxima);

/// The same; sets `nan` where there was a NaN.
float sanitize(std::span<float> logits, std::span<float> block_maxima, bool& nan);

/// The lowest index of `maximum`, which must be the maximum of `logits`.
std::size_t first_index_of(std::span<const float> logits, std::span<const float> block_maxima, float maximum);

/// exp(values[i] - maximum) for values at or below `maximum`, within 2 units in the last place; results below
/// 2e-38 become about 2e-38. exp(0) is exactly 1. The same on every machine: it does not call libm. (Argument
/// reduction after Cody and Waite 1980; polynomial of Cephes' expf.)
void exponentials(std::span<const float> values, float maximum, std::span<float> out);

/// log(sum(exp(values))), in a fixed order of summation. `maximum` is the largest of the values, and finite.
double log_sum_exp(std::span<const float> values, float maximum);

/// A logit above minus infinity as a log-probability; finite even where the difference is not.
float log_probability(float logit, double log_total);

/// The same for all of `logits`; minus infinity stays.
void to_log_probabilities(std::span<float> logits, double log_total);

}  // namespace peregrine::decoding
