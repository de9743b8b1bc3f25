// SPDX-License-Identifier: Apache-2.0
#include "support/rounding_bound.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <map>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "numerics/support.h"
#include "support/golden.h"
#include "support/oracle_adjoint.h"
#include "support/test_data.h"

namespace peregrine::testing {
namespace {

/// One of each kind: parallel with one norm and two, sequential, ALiBi, gated, partial rotary, with biases,
/// with norms of the heads.
const std::vector<std::string> kKinds = {
    "falcon_7b",       "falcon_40b", "falcon_rw_many_heads", "llama_bias",
    "llama_rope_yarn", "gpt_neox",   "gpt_neox_sequential",  "stablelm_parallel_qkln"};

std::vector<std::int32_t> all_ids(const Oracle& oracle) {
  std::vector<std::int32_t> ids(static_cast<std::size_t>(oracle.config().vocab_size));
  std::iota(ids.begin(), ids.end(), 0);
  return ids;
}

/// What rounding changed at each place of a pass.
struct Injected {
  OracleTrace trace;
  std::map<std::pair<std::int32_t, Place>, Rows> errors;
};

/// A pass in which every place's values are changed by `change`, and by how much they were.
template <typename Change>
Injected inject(const Oracle& oracle, std::span<const std::int32_t> tokens, Change change) {
  Injected out;
  out.trace = oracle.forward(tokens, static_cast<std::int64_t>(tokens.size()),
                             [&](std::int32_t layer, Place place, Rows& values) {
                               Rows& errors = out.errors[{layer, place}];
                               errors = values;
                               change(layer, place, values);
                               for (std::size_t i = 0; i < values.values.size(); ++i) {
                                 errors.values[i] = values.values[i] - errors.values[i];
                               }
                             });
  return out;
}

/// The change of every logit at `position` to first order: the sum of gradient times change.
std::vector<double> first_order(const Oracle& oracle, const OracleTrace& exact, const Injected& injected,
                                std::int64_t position) {
  std::vector<double> sums(static_cast<std::size_t>(oracle.config().vocab_size));
  pull_back(oracle, exact, position, all_ids(oracle),
            [&](std::int32_t layer, Place place, std::int64_t first, const Adjoint& gradients) {
              const Rows& errors = injected.errors.at({layer, place});
              const Rows& shares = values_at(exact, layer, place);
              for (std::int64_t r = 0; r < gradients.rows; ++r) {
                // Exponentials were changed before the division by their sum; the largest of them is 1.
                std::vector<double> scale(static_cast<std::size_t>(gradients.cols), 1.0);
                if (place == Place::kProbability) {
                  const std::int64_t keys = shares.rows;
                  for (std::int64_t i = 0; i < gradients.cols; ++i) {
                    const double* head = shares.row(first + r) + i / keys * keys;
                    scale[static_cast<std::size_t>(i)] = *std::max_element(head, head + keys);
                  }
                }
                for (std::int64_t d = 0; d < gradients.directions; ++d) {
                  for (std::int64_t i = 0; i < gradients.cols; ++i) {
                    sums[static_cast<std::size_t>(d)] +=
                        gradients.at(r, d)[i] * errors.row(first + r)[i] * scale[static_cast<std::size_t>(i)];
                  }
                }
              }
            });
  return sums;
}

double largest(const std::vector<double>& values) {
  double out = 0.0;
  for (const double value : values) out = std::max(out, std::abs(value));
  return out;
}

std::vector<double> change_of_logits(const OracleTrace& exact, const OracleTrace& changed,
                                     std::int64_t position) {
  std::vector<double> out;
  for (std::int64_t i = 0; i < exact.logits.cols; ++i) {
    out.push_back(changed.logits.row(position)[i] - exact.logits.row(position)[i]);
  }
  return out;
}

// Every place of every layer is changed a little, one place at a time and then all: the adjoints must tell
// what that does. A wrong derivative of anything shows at once.
TEST(RoundingBound, AdjointsAreTheDerivatives) {
  PEREGRINE_REQUIRE_TEST_DATA("golden");
  for (const std::string& fixture : kKinds) {
    SCOPED_TRACE(fixture);
    const Oracle oracle = golden_oracle(fixture, core::DType::kF32);
    const GoldenDecoder golden = read_golden_decoder(test_data() / "golden" / fixture);
    const std::vector<std::int32_t>& tokens = golden.prompts.at(1);
    const auto position = static_cast<std::int64_t>(tokens.size()) - 1;
    const OracleTrace exact = oracle.forward(tokens, position + 1);
    for (int only = -1; only < kPlaces; ++only) {
      const auto wobble = [&](std::int32_t, Place place, Rows& values) {
        if (only >= 0 && only != static_cast<int>(place)) return;
        for (std::size_t i = 0; i < values.values.size(); ++i) {
          values.values[i] *= 1.0 + 1e-7 * std::sin(12.9898 * static_cast<double>(i + 1));
        }
      };
      const Injected changed = inject(oracle, tokens, wobble);
      const std::vector<double> found = change_of_logits(exact, changed.trace, position);
      const std::vector<double> predicted = first_order(oracle, exact, changed, position);
      for (std::size_t i = 0; i < found.size(); ++i) {
        EXPECT_NEAR(predicted[i], found[i], 1e-5 * largest(found) + 1e-13)
            << "place " << only << " logit " << i;
      }
    }
  }
}

/// The largest of all that expect_bounded() saw.
struct Largest {
  double error = 0.0;
  double bound = 0.0;
  double worst = 0.0;
  double remainder = 0.0;  ///< As a share of the bound.
};

/// Holds one rounded pass against the parts of the bound.
void expect_bounded(const Oracle& oracle, const OracleTrace& exact, const Injected& rounded,
                    const LogitBounds& bounds, Largest& all) {
  const std::int64_t position = exact.logits.rows - 1;
  const std::vector<double> found = change_of_logits(exact, rounded.trace, position);
  const std::vector<double> predicted = first_order(oracle, exact, rounded, position);
  for (std::size_t i = 0; i < found.size(); ++i) {
    EXPECT_LE(std::abs(found[i]), bounds.error[i]) << "logit " << i;
    EXPECT_LE(std::abs(predicted[i]), bounds.worst[i]) << "logit " << i;
    EXPECT_LE(std::abs(found[i] - found[0]), bounds.lead[i]) << "logit " << i;
    EXPECT_LE(std::abs(found[i] - predicted[i]), kRemainder / (1.0 + kRemainder) * bounds.error[i])
        << "logit " << i;
    all.remainder = std::max(all.remainder, std::abs(found[i] - predicted[i]) / bounds.error[i]);
  }
  all.error = std::max(all.error, largest(found));
  all.bound = std::max(all.bound, largest(bounds.error));
  all.worst = std::max(all.worst, largest(bounds.worst));
}

// The parts of the bound, against rounding in float64 at the same places: what is left after the first order
// is well within kRemainder, and the whole within the bound.
TEST(RoundingBound, HoldsForRoundingInFloat64) {
  PEREGRINE_REQUIRE_TEST_DATA("golden");
  fmt::print("{:24} {:>9} {:>9} {:>9} {:>12}\n", "rounded in float64", "error", "bound", "worst",
             "second order");
  for (const std::string& fixture : kKinds) {
    SCOPED_TRACE(fixture);
    const Oracle oracle = golden_oracle(fixture, core::DType::kBF16);
    const GoldenDecoder golden = read_golden_decoder(test_data() / "golden" / fixture);
    const NarrowTypes types;
    Largest all;
    for (const std::size_t prompt : {std::size_t{1}, std::size_t{2}}) {
      const std::vector<std::int32_t>& tokens = golden.prompts.at(prompt);
      const auto position = static_cast<std::int64_t>(tokens.size()) - 1;
      const OracleTrace exact = oracle.forward(tokens, position + 1);
      const LogitBounds bounds = bound_logits(oracle, exact, position, all_ids(oracle), 0, types);
      for (const auto sum : {ProbabilitySum::kUnrounded, ProbabilitySum::kRounded}) {
        expect_bounded(oracle, exact, inject(oracle, tokens, bfloat16_rounding(types, sum)), bounds, all);
      }
    }
    EXPECT_GT(all.error, all.bound / 20.0) << "the bound says nothing";
    fmt::print("{:24} {:9.4f} {:9.4f} {:9.4f} {:11.1f}%\n", fixture, all.error, all.bound, all.worst,
               100.0 * all.remainder);
  }
}

// The same for rows that are quantized to int8, with as many rows alike as there may be, too.
TEST(RoundingBound, HoldsForInt8InFloat64) {
  PEREGRINE_REQUIRE_TEST_DATA("golden");
  fmt::print("{:24} {:>9} {:>9} {:>9} {:>12}\n", "quantized in float64", "error", "bound", "worst",
             "second order");
  const NarrowTypes types = {.compute = false, .cache = false, .int8 = true};
  for (const std::string& fixture : kKinds) {
    SCOPED_TRACE(fixture);
    const Oracle oracle = golden_oracle(fixture, core::DType::kI8);
    const GoldenDecoder golden = read_golden_decoder(test_data() / "golden" / fixture);
    std::vector<std::vector<std::int32_t>> prompts = {golden.prompts.at(1), golden.prompts.at(2)};
    for (std::int32_t token = 3; token < 90; token += 22) prompts.emplace_back(12, token);
    Largest all;
    for (const std::vector<std::int32_t>& tokens : prompts) {
      const auto position = static_cast<std::int64_t>(tokens.size()) - 1;
      const OracleTrace exact = oracle.forward(tokens, position + 1);
      const LogitBounds bounds = bound_logits(oracle, exact, position, all_ids(oracle), 0, types);
      expect_bounded(oracle, exact, inject(oracle, tokens, int8_rounding()), bounds, all);
    }
    EXPECT_GT(all.error, all.bound / 40.0) << "the bound says nothing";
    fmt::print("{:24} {:9.4f} {:9.4f} {:9.4f} {:11.1f}%\n", fixture, all.error, all.bound, all.worst,
               100.0 * all.remainder);
  }
}

// Equal tokens round alike: a prompt of one token repeated has the same errors in every row, and treating
// them as independent would promise too much.
TEST(RoundingBound, HoldsForRepeatedTokens) {
  PEREGRINE_REQUIRE_TEST_DATA("golden");
  for (const std::string& fixture : kKinds) {
    SCOPED_TRACE(fixture);
    const Oracle oracle = golden_oracle(fixture, core::DType::kBF16);
    Largest all;
    for (std::int32_t token = 3; token < 90; token += 22) {
      const std::vector<std::int32_t> tokens(12, token);
      const OracleTrace exact = oracle.forward(tokens, 12);
      const LogitBounds bounds = bound_logits(oracle, exact, 11, all_ids(oracle), 0, {});
      expect_bounded(oracle, exact, inject(oracle, tokens, bfloat16_rounding({}, ProbabilitySum::kUnrounded)),
                     bounds, all);
    }
    EXPECT_GT(all.error, all.bound / 40.0) << "the bound says nothing";
  }
}

/// Root mean square of the errors of all logits at the ends of the prompts, in units of LogitBounds::spread.
template <typename Round>
double spread_of_errors(const Oracle& oracle, const GoldenDecoder& golden, Round round) {
  double squares = 0.0;
  double logits = 0.0;
  for (const std::vector<std::int32_t>& tokens : golden.prompts) {
    const auto position = static_cast<std::int64_t>(tokens.size()) - 1;
    const OracleTrace exact = oracle.forward(tokens, position + 1);
    const LogitBounds bounds = bound_logits(oracle, exact, position, all_ids(oracle), 0, {});
    const OracleTrace narrow =
        oracle.forward(tokens, position + 1, [&](std::int32_t, Place place, Rows& values) {
          for (double& value : values.values) value = round(place, value);
        });
    const std::vector<double> found = change_of_logits(exact, narrow, position);
    for (std::size_t i = 0; i < found.size(); ++i) {
      squares += found[i] * found[i] / (bounds.spread[i] * bounds.spread[i]);
      logits += 1.0;
    }
  }
  return std::sqrt(squares / logits);
}

// Arithmetic that is a little wrong can stay within the bound of every logit; the spread of all gives it
// away.
TEST(RoundingBound, SpreadTellsWrongArithmetic) {
  PEREGRINE_REQUIRE_TEST_DATA("golden");
  for (const std::string fixture : {"falcon_7b_bf16", "gpt_neox_bf16"}) {
    SCOPED_TRACE(fixture);
    const Oracle oracle = golden_oracle(fixture, core::DType::kBF16);
    const GoldenDecoder golden = read_golden_decoder(test_data() / "golden" / fixture);
    const auto rounded = [](Place, double value) { return round_to_bfloat16(value); };
    const auto truncated = [](Place, double value) {
      const auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(value));
      return static_cast<double>(std::bit_cast<float>(bits & 0xFFFF0000u));
    };
    const auto scaled = [](Place place, double value) {
      return round_to_bfloat16(place == Place::kHidden ? 1.02 * value : value);
    };
    EXPECT_GT(spread_of_errors(oracle, golden, rounded), kLeastSpread);
    EXPECT_LT(spread_of_errors(oracle, golden, rounded), kMostSpread);
    EXPECT_GT(spread_of_errors(oracle, golden, truncated), kMostSpread);
    EXPECT_GT(spread_of_errors(oracle, golden, scaled), kMostSpread);
  }
}

TEST(RoundingBound, HalfAUnitIsReached) {
  // 1 + 2^-8 lies half-way between two neighbours; just above it, it is rounded by nearly half a unit.
  EXPECT_EQ(half_unit(1.0), 0x1p-8);
  EXPECT_EQ(half_unit(-1.5), 0x1p-8);
  EXPECT_EQ(half_unit(1.99), 0x1p-7);  // within 1/32 of 2, where units are twice as large
  EXPECT_EQ(half_unit(0.0), 0.0);
  for (double value = 0.5; value < 4.0; value += 0.00137) {
    EXPECT_LE(std::abs(round_to_bfloat16(value) - value), half_unit(value));
  }
  EXPECT_GT(round_to_bfloat16(1.0 + 0x1.01p-8) - 1.0 - 0x1.01p-8, 0x1.fp-9);
}

}  // namespace
}  // namespace peregrine::testing
