// SPDX-License-Identifier: Apache-2.0
#include "support/oracle.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <string>
#include <vector>

#include "core/float16.h"
#include "numerics/support.h"
#include "support/golden.h"
#include "support/test_data.h"

namespace peregrine::testing {
namespace {

const std::vector<std::string> kFamilies = {"falcon", "llama", "gpt_neox", "mixtral", "qwen2", "stablelm"};

double largest_difference(const double* found, const std::vector<float>& expected) {
  double largest = 0.0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    largest = std::max(largest, std::abs(found[i] - static_cast<double>(expected[i])));
  }
  return largest;
}

// transformers 4.45, which computed the golden values, adds ALiBi's bias twice in Falcon's plain ("eager")
// attention: it is in the causal mask already, and is added to the scores again. (Its other attention,
// earlier versions and the code the models were published with add it once.) To judge all the rest of such a
// model, its golden values need twice the bias here.
void as_the_golden_values_have_it(model::DecoderConfig& config) {
  if (config.positions == model::PositionKind::kAlibi) config.alibi.scale = 2.0f * config.attention_scale;
}

// The golden values are float32 arithmetic, 2e-5 off at most (fixtures' float64_check); the oracle is not.
TEST(Oracle, AgreesWithEveryGoldenModel) {
  PEREGRINE_REQUIRE_TEST_DATA("golden");
  const auto fixtures = golden_fixtures(kFamilies);
  ASSERT_GE(fixtures.size(), 30u);
  for (const std::string& fixture : fixtures) {
    SCOPED_TRACE(fixture);
    const GoldenDecoder golden = read_golden_decoder(test_data() / "golden" / fixture);
    const Oracle oracle = golden_oracle(fixture, core::DType::kF32, as_the_golden_values_have_it);
    for (std::size_t p = 0; p < golden.prompts.size(); ++p) {
      std::vector<std::int32_t> tokens = golden.prompts[p];
      const auto prompt_tokens = static_cast<std::int64_t>(tokens.size());
      const std::vector<std::int32_t>& new_ids = golden.greedy[p].new_ids;
      tokens.insert(tokens.end(), new_ids.begin(), new_ids.end());
      const OracleTrace trace = oracle.forward(tokens, prompt_tokens);
      EXPECT_LT(largest_difference(trace.logits.row(prompt_tokens - 1), golden.last_logits[p]), 2e-5);
      if (p == golden.all_logits_prompt) {
        for (std::int64_t r = 0; r < prompt_tokens; ++r) {
          EXPECT_LT(largest_difference(trace.logits.row(r), golden.all_logits[static_cast<std::size_t>(r)]),
                    2e-5);
        }
      }
      for (std::size_t i = 0; i < new_ids.size(); ++i) {
        EXPECT_EQ(top_id(trace.logits, prompt_tokens - 1 + static_cast<std::int64_t>(i)), new_ids[i])
            << "step " << i;
      }
    }
    if (!golden.long_prompt.empty()) {
      const auto length = static_cast<std::int64_t>(golden.long_prompt.size());
      const OracleTrace trace = oracle.forward(golden.long_prompt, length);
      EXPECT_LT(largest_difference(trace.logits.row(length - 1), golden.long_last_logits), 2e-5);
    }
  }
}

TEST(Oracle, RoundsToBfloat16AsTheStandardDoes) {
  // Against the bit manipulation that the devices use, on every float32 whose upper half is anything and
  // whose lower half decides the rounding.
  for (std::uint32_t high = 0; high < 0x10000; ++high) {
    if ((high & 0x7F80u) == 0x7F80u) continue;  // infinities and NaN
    for (const std::uint32_t low : {0x0000u, 0x0001u, 0x7FFFu, 0x8000u, 0x8001u, 0xFFFFu}) {
      const float value = std::bit_cast<float>(high << 16 | low);
      const float expected = core::to_float(core::to_bfloat16(value));
      if (std::isinf(expected)) continue;
      ASSERT_EQ(round_to_bfloat16(value), static_cast<double>(expected)) << std::hexfloat << value;
    }
  }
}

TEST(Oracle, ActivationSlopesAreDerivatives) {
  for (const auto activation : {ops::Activation::kNone, ops::Activation::kGelu, ops::Activation::kGeluTanh,
                                ops::Activation::kSilu, ops::Activation::kRelu, ops::Activation::kTanh}) {
    for (double x = -6.05; x < 6.0; x += 0.1) {
      const double step = 1e-5;
      const double slope =
          (oracle_activation(activation, x + step) - oracle_activation(activation, x - step)) / (2.0 * step);
      EXPECT_NEAR(oracle_activation_slope(activation, x), slope, 1e-8)
          << "activation " << static_cast<int>(activation) << " at " << x;
    }
  }
}

}  // namespace
}  // namespace peregrine::testing
