// SPDX-License-Identifier: Apache-2.0
// Encoder-decoders against values computed by Hugging Face transformers, with arithmetic and cache in
// float32, on every device: the encoder's hidden states and the decoder's logits.

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "core/error.h"
#include "engine/score.h"
#include "model/load.h"
#include "support/devices.h"
#include "support/golden.h"
#include "support/test_data.h"

namespace peregrine {
namespace {

using testing::DeviceCase;

// From the fixtures' README.
constexpr float kTolerance = 2e-4f;

void expect_near(std::span<const float> found, std::span<const float> expected, const std::string& what) {
  ASSERT_EQ(found.size(), expected.size()) << what;
  for (std::size_t i = 0; i < found.size(); ++i)
    ASSERT_NEAR(found[i], expected[i], kTolerance) << what << ", element " << i;
}

class Seq2SeqGolden : public ::testing::TestWithParam<std::tuple<std::string, DeviceCase>> {
 protected:
  void SetUp() override {
    const auto& [fixture, device] = GetParam();
    const auto folder = testing::test_data() / "golden" / fixture;
    golden_ = testing::read_golden_seq2seq(folder);
    device_ = device.create();
    model_.emplace(model::load_model(folder, *device_,
                                     {.weights = {},
                                      .compute = core::DType::kF32,
                                      .cache = core::DType::kF32,
                                      .progress = {},
                                      .random_seed = 0}));
    ASSERT_NE(model_->decoder, nullptr);
    ASSERT_NE(model_->encoder, nullptr);
    ASSERT_EQ(model_->decoder->types().compute, core::DType::kF32);
    ASSERT_EQ(model_->encoder->types().output, core::DType::kF32);
  }

  std::size_t vocab() const { return static_cast<std::size_t>(model_->decoder->config().vocab_size); }

  std::vector<float> logits(std::size_t prompt, bool all, std::int32_t chunk = 512) const {
    return engine::compute_logits(*device_, *model_,
                                  {golden_.decoder_inputs[prompt], golden_.prompts[prompt]}, all, chunk);
  }

  testing::GoldenSeq2Seq golden_;
  std::unique_ptr<ops::Device> device_;
  std::optional<model::LoadedModel> model_;
};

TEST_P(Seq2SeqGolden, EncoderLastHiddenState) {
  const model::Encoder& encoder = *model_->encoder;
  const auto& prompt = golden_.prompts[golden_.hidden_prompt];
  const auto stream = device_->create_stream();
  const auto buffers = encoder.create_buffers({static_cast<std::int32_t>(prompt.size()), 1});
  const model::EncoderSequence text{.tokens = prompt};
  encoder.begin(*stream, *buffers, {&text, 1});
  encoder.run_layers(*stream, *buffers, 0, encoder.config().layers);
  const ops::Matrix hidden = encoder.finish(*stream, *buffers).hidden;
  ASSERT_EQ(hidden.rows, std::ssize(golden_.encoder_hidden));
  std::vector<float> row(static_cast<std::size_t>(hidden.cols));
  for (std::size_t i = 0; i < golden_.encoder_hidden.size(); ++i) {
    stream->download(row.data(), hidden.data + i * static_cast<std::size_t>(hidden.stride) * sizeof(float),
                     row.size() * sizeof(float));
    stream->wait(stream->record());
    expect_near(row, golden_.encoder_hidden[i], "position " + std::to_string(i));
  }
}

TEST_P(Seq2SeqGolden, Logits) {
  ASSERT_GE(golden_.prompts.size(), 4u);
  for (std::size_t p = 0; p < golden_.prompts.size(); ++p) {
    expect_near(logits(p, false), golden_.last_logits[p], "prompt " + std::to_string(p));
  }
  const auto all = logits(golden_.all_logits_prompt, true);
  ASSERT_EQ(all.size(), golden_.all_logits.size() * vocab());
  for (std::size_t i = 0; i < golden_.all_logits.size(); ++i) {
    expect_near(std::span(all).subspan(i * vocab(), vocab()), golden_.all_logits[i],
                "position " + std::to_string(i));
  }
  for (const std::int32_t chunk : {1, 7}) EXPECT_EQ(logits(golden_.all_logits_prompt, true, chunk), all);
}

INSTANTIATE_TEST_SUITE_P(T5, Seq2SeqGolden,
                         ::testing::Combine(::testing::ValuesIn(testing::golden_fixtures({"t5"})),
                                            ::testing::ValuesIn(testing::all_devices())),
                         [](const auto& info) {
                           return std::get<0>(info.param) + "_" + std::get<1>(info.param).name();
                         });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Seq2SeqGolden);

TEST(Seq2SeqGoldenData, IsThere) {
  PEREGRINE_REQUIRE_TEST_DATA("golden");
  EXPECT_GE(testing::golden_fixtures({"t5"}).size(), 8u);
}

TEST(Seq2SeqLogits, NeedBothTexts) {
  PEREGRINE_REQUIRE_TEST_DATA("golden");
  const auto device = ops::create_device("reference", {});
  const auto model = model::load_model(testing::test_data() / "golden" / "t5_v1_0", *device, {});
  const std::vector<std::int32_t> ids = {0, 5}, none, beyond = {0, 129};
  EXPECT_THROW(engine::compute_logits(*device, *model.decoder, ids, true), core::Error);
  EXPECT_THROW(engine::compute_logits(*device, model, {ids, none}, true), core::Error);
  EXPECT_THROW(engine::compute_logits(*device, model, {none, ids}, true), core::Error);
  EXPECT_THROW(engine::compute_logits(*device, model, {ids, beyond}, true), core::Error);
  EXPECT_THROW(engine::compute_logits(*device, model, {beyond, ids}, true), core::Error);
  const auto plain = model::load_model(testing::test_data() / "golden" / "llama_gqa", *device, {});
  EXPECT_THROW(engine::compute_logits(*device, plain, {ids, ids}, true), core::Error);
}

}  // namespace
}  // namespace peregrine
