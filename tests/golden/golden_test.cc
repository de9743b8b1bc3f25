// SPDX-License-Identifier: Apache-2.0
// Models that generate against values computed by Hugging Face transformers, with arithmetic and cache in
// float32, on every device: logits (an encoder-decoder's are in seq2seq_golden_test.cc), greedy tokens with
// log-probabilities, and all `generate` cases, beams with their scores among them.

#include "support/golden.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <tuple>

#include "engine/engine.h"
#include "engine/score.h"
#include "generation/parameter_set.h"
#include "model/load.h"
#include "support/collect.h"
#include "support/devices.h"
#include "support/test_data.h"

namespace peregrine {
namespace {

using testing::Answer;
using testing::DeviceCase;
using testing::GoldenCase;

// From the fixtures' README: float32 arithmetic in any reasonable order stays within these.
constexpr float kLogitTolerance = 2e-4f;
constexpr float kLogProbTolerance = 1e-4f;

class Golden : public ::testing::TestWithParam<std::tuple<std::string, DeviceCase>> {
 protected:
  void SetUp() override {
    const auto& [fixture, device] = GetParam();
    const auto folder = testing::test_data() / "golden" / fixture;
    golden_ = testing::read_golden_decoder(folder);
    device_ = device.create();
    model_.emplace(model::load_model(folder, *device_,
                                     {.weights = {},
                                      .compute = core::DType::kF32,
                                      .cache = core::DType::kF32,
                                      .progress = {},
                                      .random_seed = 0}));
    ASSERT_EQ(model_->decoder->types().compute, core::DType::kF32);
    ASSERT_EQ(model_->decoder->types().cache, core::DType::kF32);
  }

  std::size_t vocab() const { return static_cast<std::size_t>(model_->decoder->config().vocab_size); }

  static void expect_near(std::span<const float> found, std::span<const float> expected,
                          const std::string& what) {
    ASSERT_EQ(found.size(), expected.size()) << what;
    for (std::size_t i = 0; i < found.size(); ++i)
      ASSERT_NEAR(found[i], expected[i], kLogitTolerance) << what << ", token " << i;
  }

  engine::Request request(engine::RequestId id, const std::vector<std::int32_t>& prompt,
                          const boost::json::object& parameters) const {
    generation::ParameterSet set;
    for (const auto& [name, value] : parameters) EXPECT_TRUE(set.set(name, value, true)) << name;
    engine::Request request;
    request.id = id;
    if (model_->encoder) {
      request.prompt_ids = {golden_.decoder_start};
      request.encoder_ids = prompt;
    } else {
      request.prompt_ids = prompt;
    }
    request.parameters = set.resolve(model_->directory.info(), model_->decoder->config().vocab_size,
                                     static_cast<std::int64_t>(request.prompt_ids.size()));
    return request;
  }

  testing::GoldenDecoder golden_;
  std::unique_ptr<ops::Device> device_;
  std::optional<model::LoadedModel> model_;
};

TEST_P(Golden, Logits) {
  if (model_->encoder) return;
  for (std::size_t p = 0; p < golden_.prompts.size(); ++p) {
    const auto last = engine::compute_logits(*device_, *model_->decoder, golden_.prompts[p], false);
    expect_near(last, golden_.last_logits[p], "prompt " + std::to_string(p));
  }
  const auto all =
      engine::compute_logits(*device_, *model_->decoder, golden_.prompts[golden_.all_logits_prompt], true);
  ASSERT_EQ(all.size(), golden_.all_logits.size() * vocab());
  for (std::size_t i = 0; i < golden_.all_logits.size(); ++i) {
    expect_near(std::span(all).subspan(i * vocab(), vocab()), golden_.all_logits[i],
                "position " + std::to_string(i));
  }
}

TEST_P(Golden, LongPrompt) {
  if (golden_.long_prompt.empty()) return;  // only some rotary-scaling fixtures have one
  const auto all = engine::compute_logits(*device_, *model_->decoder, golden_.long_prompt, true);
  ASSERT_EQ(all.size(), golden_.long_prompt.size() * vocab());
  expect_near(std::span(all).last(vocab()), golden_.long_last_logits, "last position");
  for (std::size_t i = 0; i < golden_.long_argmax.size(); ++i) {
    const auto row = std::span(all).subspan(i * vocab(), vocab());
    EXPECT_EQ(std::max_element(row.begin(), row.end()) - row.begin(), golden_.long_argmax[i])
        << "position " << i;
  }
}

TEST_P(Golden, GreedyInOneBatch) {
  std::vector<engine::Request> requests;
  for (std::size_t p = 0; p < golden_.prompts.size(); ++p) {
    requests.push_back(
        request(p, golden_.prompts[p],
                {{"eos_token_id", nullptr},
                 {"max_new_tokens", static_cast<std::int64_t>(golden_.greedy[p].new_ids.size())}}));
  }
  engine::Engine engine(*device_, *model_->decoder, {}, model_->encoder.get());
  const auto answers = testing::run_to_end(engine, requests);
  for (std::size_t p = 0; p < golden_.prompts.size(); ++p) {
    const Answer& answer = answers.at(p).at(0);
    EXPECT_EQ(answer.ids, golden_.greedy[p].new_ids) << "prompt " << p;
    EXPECT_EQ(answer.finish, generation::FinishReason::kLength);
    ASSERT_EQ(answer.logprobs.size(), golden_.greedy[p].logprobs.size());
    for (std::size_t i = 0; i < answer.logprobs.size(); ++i) {
      EXPECT_NEAR(answer.logprobs[i], golden_.greedy[p].logprobs[i], kLogProbTolerance)
          << "prompt " << p << ", token " << i;
    }
  }
}

TEST_P(Golden, GenerateCases) {
  std::vector<GoldenCase> cases = golden_.cases;
  cases.insert(cases.end(), golden_.generation_config_stop.begin(), golden_.generation_config_stop.end());
  ASSERT_GE(cases.size(), 20u);
  std::vector<engine::Request> requests;
  for (std::size_t i = 0; i < cases.size(); ++i)
    requests.push_back(request(i, golden_.prompts[cases[i].prompt], cases[i].parameters));
  engine::Engine engine(*device_, *model_->decoder, {}, model_->encoder.get());
  const auto answers = testing::run_to_end(engine, requests);
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const auto& found = answers.at(i);
    const std::string what = cases[i].name + ", prompt " + std::to_string(cases[i].prompt);
    ASSERT_EQ(found.size(), cases[i].new_ids.size()) << what;
    const auto& eos = requests[i].parameters.eos_token_ids;
    for (std::size_t s = 0; s < found.size(); ++s) {
      EXPECT_EQ(found[s].ids, cases[i].new_ids[s]) << what << ", sequence " << s;
      const bool ended = std::find(eos.begin(), eos.end(), found[s].ids.back()) != eos.end();
      EXPECT_EQ(found[s].finish,
                ended ? generation::FinishReason::kEosToken : generation::FinishReason::kLength)
          << what << ", sequence " << s;
      if (cases[i].scores.empty()) continue;
      ASSERT_TRUE(found[s].score.has_value()) << what;
      EXPECT_NEAR(*found[s].score, cases[i].scores.at(s), kLogProbTolerance) << what << ", sequence " << s;
    }
  }
}

/// What the fixtures of each family begin with; "phi" is Phi-3 as well, "gemma" Gemma 2.
const std::vector<std::string> kFixtures = {
    "bloom",   "falcon", "gemma", "gpt2", "gpt_bigcode", "gpt_neox", "gptj",       "llama", "mistral",
    "mixtral", "mpt",    "opt",   "phi",  "qwen2",       "stablelm", "starcoder2", "t5",
};

INSTANTIATE_TEST_SUITE_P(Decoders, Golden,
                         ::testing::Combine(::testing::ValuesIn(testing::golden_fixtures(kFixtures)),
                                            ::testing::ValuesIn(testing::all_devices())),
                         [](const auto& info) {
                           return std::get<0>(info.param) + "_" + std::get<1>(info.param).name();
                         });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Golden);

TEST(GoldenData, IsThere) {
  PEREGRINE_REQUIRE_TEST_DATA("golden");
  EXPECT_GE(testing::golden_fixtures(kFixtures).size(), 64u);
  for (const std::string& prefix : kFixtures) {
    EXPECT_GE(testing::golden_fixtures({prefix}).size(), 1u) << prefix;
  }
}

}  // namespace
}  // namespace peregrine
