// SPDX-License-Identifier: Apache-2.0
// The executor alone, without the engine, against values computed by transformers: float32 arithmetic and
// cache, every stored type.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <tuple>

#include "model/support.h"
#include "support/golden.h"
#include "support/test_data.h"

namespace peregrine::model {
namespace {

using testing::DeviceCase;

constexpr float kTolerance = 2e-4f;

class GoldenLogits : public ::testing::TestWithParam<std::tuple<std::string, DeviceCase>> {
 protected:
  void SetUp() override {
    PEREGRINE_REQUIRE_TEST_DATA("golden");
    const auto& [fixture, device] = GetParam();
    golden_ = testing::read_golden_decoder(testing::test_data() / "golden" / fixture);
    bench_.emplace(golden_bench(device, fixture));
    vocab_ = static_cast<std::size_t>(bench_->decoder().config().vocab_size);
  }

  void expect_near(std::span<const float> found, std::span<const float> expected,
                   const std::string& what) const {
    ASSERT_EQ(found.size(), expected.size()) << what;
    float worst = 0;
    for (std::size_t i = 0; i < found.size(); ++i) {
      // Written so that NaN fails.
      ASSERT_TRUE(std::abs(found[i] - expected[i]) <= kTolerance)
          << what << ", element " << i << ": " << found[i] << ", expected " << expected[i];
      worst = std::max(worst, std::abs(found[i] - expected[i]));
    }
    RecordProperty("worst", std::to_string(worst));
  }

  testing::GoldenDecoder golden_;
  std::optional<Bench> bench_;
  std::size_t vocab_ = 0;
};

TEST_P(GoldenLogits, LastPositionOfEveryPrompt) {
  ASSERT_GE(golden_.prompts.size(), 4u);
  for (std::size_t p = 0; p < golden_.prompts.size(); ++p) {
    expect_near(bench_->run_prompt(golden_.prompts[p], 1), golden_.last_logits[p],
                "prompt " + std::to_string(p));
  }
}

TEST_P(GoldenLogits, EveryPositionOfOnePrompt) {
  const auto& prompt = golden_.prompts[golden_.all_logits_prompt];
  const auto found = bench_->run_prompt(prompt, static_cast<std::int32_t>(prompt.size()));
  ASSERT_EQ(golden_.all_logits.size(), prompt.size());
  for (std::size_t i = 0; i < prompt.size(); ++i) {
    expect_near(std::span(found).subspan(i * vocab_, vocab_), golden_.all_logits[i],
                "position " + std::to_string(i));
  }
}

TEST_P(GoldenLogits, ChunksChangeNothing) {
  const auto& prompt = golden_.prompts.back();
  ASSERT_GE(prompt.size(), 17u);
  const auto whole = bench_->run_prompt(prompt, 1);
  EXPECT_EQ(bench_->run_prompt(prompt, 1, 1), whole);
  EXPECT_EQ(bench_->run_prompt(prompt, 1, 7), whole);
}

/// Fixtures with a prompt beyond the trained length.
class GoldenLongPrompt : public GoldenLogits {};

TEST_P(GoldenLongPrompt, LogitsAndBestTokens) {
  const auto& prompt = golden_.long_prompt;
  ASSERT_GT(prompt.size(), 60u);
  const auto found = bench_->run_prompt(prompt, static_cast<std::int32_t>(prompt.size()));
  const auto last = std::span(found).last(vocab_);
  expect_near(last, golden_.long_last_logits, "last position");
  for (std::size_t i = 0; i < prompt.size(); ++i) {
    const auto row = std::span(found).subspan(i * vocab_, vocab_);
    EXPECT_EQ(std::max_element(row.begin(), row.end()) - row.begin(), golden_.long_argmax[i])
        << "position " << i;
  }
}

std::string case_name(const ::testing::TestParamInfo<std::tuple<std::string, DeviceCase>>& info) {
  return std::get<0>(info.param) + "_" + std::get<1>(info.param).name();
}

// Named one by one, so that a fixture that is missing fails.
INSTANTIATE_TEST_SUITE_P(
    Fixtures, GoldenLogits,
    ::testing::Combine(
        ::testing::Values("falcon_7b", "falcon_7b_bf16", "falcon_7b_fp16", "falcon_7b_sharded",
                          "falcon_7b_rope_linear", "falcon_40b", "falcon_11b", "falcon_mha_parallel",
                          "falcon_new_alibi", "falcon_rw", "falcon_rw_many_heads", "falcon_rw_pow2",
                          "falcon_seq_mq", "llama_bias", "llama_gqa", "llama_gqa_sharded",
                          "llama_rope_dynamic", "llama_rope_linear", "llama_rope_linear_legacy_key",
                          "llama_rope_llama3", "llama_rope_yarn", "llama_tied", "gpt_neox", "gpt_neox_bf16",
                          "gpt_neox_fp16", "gpt_neox_hub_layout", "gpt_neox_sequential", "gpt_neox_sharded",
                          "bloom", "bloom_hub_layout", "bloom_post_ln_residual", "gemma", "gemma2", "gpt2",
                          "gpt2_hub_layout", "gpt2_scaled", "gpt_bigcode", "gpt_bigcode_mha", "gptj",
                          "mistral_full", "mistral_sliding", "mixtral", "mpt", "mpt_clip", "opt_125m",
                          "opt_125m_hub_layout", "opt_350m", "phi", "phi_gqa", "phi3", "phi3_longrope",
                          "qwen2", "qwen2_tied", "stablelm", "stablelm_parallel_qkln", "starcoder2"),
        ::testing::ValuesIn(testing::all_devices())),
    case_name);

INSTANTIATE_TEST_SUITE_P(Fixtures, GoldenLongPrompt,
                         ::testing::Combine(::testing::Values("llama_rope_dynamic", "llama_rope_llama3",
                                                              "llama_rope_yarn", "phi3_longrope"),
                                            ::testing::ValuesIn(testing::all_devices())),
                         case_name);

/// Every fixture of these families that has safetensors is in the list above. (The pickled ones, which hold
/// the same values, are for the reader of such files and tests/golden.)
TEST(GoldenFixtures, AreAllListed) {
  PEREGRINE_REQUIRE_TEST_DATA("golden");
  const auto all = testing::golden_fixtures({"bloom", "falcon", "gemma", "gpt", "llama", "mistral", "mixtral",
                                             "mpt", "opt", "phi", "qwen2", "stablelm", "starcoder2"});
  const auto is_pickled = [](const std::string& name) { return name.find("_bin") != std::string::npos; };
  EXPECT_EQ(std::count_if(all.begin(), all.end(), std::not_fn(is_pickled)), 56);
}

}  // namespace
}  // namespace peregrine::model
