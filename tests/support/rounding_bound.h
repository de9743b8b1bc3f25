// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "support/oracle.h"

// How far bfloat16 arithmetic may take the logits from exact ones, derived from where it rounds.
//
// bfloat16 has 8 significant bits: rounding x to nearest moves it by at most half a unit in the last place,
// h(x) = 2^(floor(log2 |x|) - 8), that is by at most u |x|, u = 2^-8. Every value at a Place is rounded once,
// by an e_i with |e_i| <= h(x_i); the residual stream, scores, sums and logits stay in float32, whose
// rounding is 2^-16 of that. With g_i = d logit / d x_i, taken exactly by pull_back() with everything that
// follows from x_i,
//
//     error = sum over i of g_i e_i + terms of second order.
//
// Taking the e_i as independent with mean zero (the model of Higham and Mary, A New Approach to Probabilistic
// Rounding Error Analysis, SIAM J. Sci. Comput. 41(5), 2019, section 2; Connolly, Higham and Mary, SIAM J.
// Sci. Comput. 43(1), 2021, show that mean independence is enough), Hoeffding's inequality (1963, theorem 2)
// gives
//
//     P(|sum g_i e_i| >= lambda S) <= 2 exp(-lambda^2 / 2),  S^2 = sum over i of (g_i h(x_i))^2.
//
// Errors that are not independent are taken together first: two rows with the same values (the same token in
// the first layer) round the same way, so that their g_i are added with their signs; rows closer to each
// other than u round in much the same way, so that their |g_i| h(x_i) are added, which covers every
// correlation. kLambda makes the probability 1e-10 for a logit, 1e-4 for the million that tests may look at.
//
// The bound is for every logit; what the errors of many are like says more. An e_i that is uniform within
// +- h(x_i) has the variance h(x_i)^2 / 3, so that an error has the standard deviation S / sqrt(3) and, in
// units of it, a mean square of 1. Truncation instead of rounding, or values that are 2 % off, stay within
// the bound, and show there.
//
// kRemainder is for the second order (the first-order terms are below 2^-8 of the values, through two layers)
// and for float32 (sums of K terms of random sign err by sqrt(K / 2) 2^-24 of their root of squares, at most
// 1/300 of what the rounding of their terms does for K = 18176). A test compares it with what rounding in
// float64 does.

namespace peregrine::testing {

inline constexpr double kLambda = 6.89;  // sqrt(2 ln(2 / 1e-10))
inline constexpr double kRemainder = 0.125;

/// With int8 every value of a row is moved by up to h = (its largest magnitude) / 254, whatever its own: for
/// rows of some thousand normally distributed values, the largest at 3.5 to 4 deviations, that is 1.5 % of a
/// deviation, ten times as much as with bfloat16. What the second order does is still a hundredth of the
/// bound. Rows closer to each other than a step (this share of their size) round in much the same way.
inline constexpr double kInt8Alike = 1.0 / 32.0;

/// Limits on the root mean square of a model's errors in units of LogitBounds::spread: 1, give or take the
/// luck of some hundred logits that share their errors (0.74 to 1.05 for the golden models). Truncation
/// gives 1.8 and more, an MLP that is 2 % off 2.3. Far less than 1 would mean that the bound says nothing.
inline constexpr double kLeastSpread = 0.5;
inline constexpr double kMostSpread = 1.35;

/// Which of a model's types are bfloat16; the others are float32. Or, with `int8`, float32 arithmetic whose
/// products quantize the rows of their inputs to int8 (ops/device.h).
///
/// Or keys and values are 8-bit integers with a scale s for each position and head (see ops::KvCacheSpec),
/// and the arithmetic is float32: then h(x) = s / 2, s = max |x| / 127 over the head, and rows round in much
/// the same way where they are closer to each other than 2^-5, which is about s of what elements of a head of
/// normally distributed ones are.
struct NarrowTypes {
  bool compute = true;
  bool cache = true;
  bool int8 = false;
  bool int8_cache = false;  ///< Without the others.
};

/// Whether a place is rounded: all of them with bfloat16 arithmetic, stored keys and values with a bfloat16
/// cache, inputs of products with int8.
bool is_rounded(NarrowTypes types, Place place);

struct LogitBounds {
  std::vector<std::int32_t> logits;  ///< The ids asked for.
  std::vector<double> error;         ///< Bound on the error of each.
  std::vector<double> worst;         ///< Sum of |g_i| h(x_i): no chance involved, but second order left out.
  std::vector<double> spread;        ///< Standard deviation of the error of each.
  /// Bound on the error of (logit of `top` - this one), much less than the sum of both.
  std::vector<double> lead;
};

/// Bounds for the logits `logits` at `position` of an exact pass. `top` is an index into `logits`.
LogitBounds bound_logits(const Oracle& oracle, const OracleTrace& trace, std::int64_t position,
                         std::span<const std::int32_t> logits, std::size_t top, NarrowTypes types);

/// What rounded probabilities are divided by: the sum of what they were, or their own. Devices differ; the
/// bounds are for both.
enum class ProbabilitySum : std::uint8_t { kUnrounded, kRounded };

/// A hook for Oracle::forward that rounds to bfloat16 at every rounded place.
RoundingHook bfloat16_rounding(NarrowTypes types, ProbabilitySum sum);

/// A hook that quantizes the rows of every product's input, in float64.
RoundingHook int8_rounding();

/// How far at most rounding to bfloat16 moves a number that is within 1/32 of `value`.
double half_unit(double value);

}  // namespace peregrine::testing
