// SPDX-License-Identifier: Apache-2.0
// Encoders against values computed by Hugging Face transformers, with arithmetic in float32, on every device:
// hidden states, pooled vectors, class scores; texts of a batch as they are alone, bit for bit.

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>

#include "engine/encoder_engine.h"
#include "model/load.h"
#include "support/devices.h"
#include "support/golden.h"
#include "support/test_data.h"

namespace peregrine {
namespace {

using engine::EncodeRequest;
using engine::RequestId;
using generation::EncodeKind;
using generation::Pooling;
using testing::DeviceCase;
using testing::GoldenEncoding;

// From the fixtures' README.
constexpr float kTolerance = 2e-4f;
constexpr double kSumTolerance = 1e-4;

using Vectors = std::map<RequestId, std::vector<float>>;

void expect_near(std::span<const float> found, std::span<const float> expected, const std::string& what) {
  ASSERT_GE(found.size(), expected.size()) << what;
  for (std::size_t i = 0; i < expected.size(); ++i)
    ASSERT_NEAR(found[i], expected[i], kTolerance) << what << ", element " << i;
}

/// The last hidden states of a batch, text by text, row by row, and pooler outputs.
struct Outputs {
  std::vector<std::vector<float>> hidden;
  std::vector<std::vector<float>> pooled;
};

class EncoderGolden : public ::testing::TestWithParam<std::tuple<std::string, DeviceCase>> {
 protected:
  void SetUp() override {
    const auto& [fixture, device] = GetParam();
    const auto folder = testing::test_data() / "golden" / fixture;
    golden_ = testing::read_golden_encoder(folder);
    device_ = device.create();
    model_.emplace(model::load_model(
        folder, *device_,
        {.weights = {}, .compute = core::DType::kF32, .cache = {}, .progress = {}, .random_seed = 0}));
    ASSERT_EQ(model_->decoder, nullptr);
    ASSERT_NE(model_->encoder, nullptr);
    ASSERT_EQ(encoder().types().compute, core::DType::kF32);
    ASSERT_EQ(encoder().types().output, core::DType::kF32);
    width_ = static_cast<std::size_t>(encoder().config().hidden_size);
  }

  const model::Encoder& encoder() const { return *model_->encoder; }
  bool classifies() const { return !encoder().config().head.labels.empty(); }

  std::vector<float> read(ops::Stream& stream, const ops::Matrix& matrix, std::int64_t first,
                          std::int64_t rows) const {
    std::vector<float> out(static_cast<std::size_t>(rows * matrix.cols));
    for (std::int64_t row = 0; row < rows; ++row) {
      stream.download(out.data() + row * matrix.cols,
                      matrix.data + static_cast<std::size_t>((first + row) * matrix.stride) * sizeof(float),
                      static_cast<std::size_t>(matrix.cols) * sizeof(float));
    }
    stream.wait(stream.record());
    return out;
  }

  Outputs run(const std::vector<model::EncoderSequence>& texts) const {
    const auto buffers = encoder().create_buffers({.rows = 64, .sequences = 4});
    const auto stream = device_->create_stream();
    encoder().begin(*stream, *buffers, texts);
    encoder().run_layers(*stream, *buffers, 0, encoder().config().layers);
    const auto encoded = encoder().finish(*stream, *buffers);
    Outputs out;
    std::int64_t row = 0;
    for (const auto& text : texts) {
      out.hidden.push_back(read(*stream, encoded.hidden, row, std::ssize(text.tokens)));
      row += std::ssize(text.tokens);
    }
    if (encoder().config().head.has_pooler) {
      const auto pooled = encoder().pool(*stream, *buffers);
      for (std::int64_t i = 0; i < std::ssize(texts); ++i) out.pooled.push_back(read(*stream, pooled, i, 1));
    }
    return out;
  }

  std::vector<model::EncoderSequence> all_texts() const {
    std::vector<model::EncoderSequence> out;
    for (const auto& prompt : golden_.prompts) out.push_back({.tokens = prompt, .token_types = {}});
    return out;
  }

  /// Requests for the mean, the first position and the scores of one text.
  std::vector<EncodeRequest> requests(RequestId first, const std::vector<std::int32_t>& ids,
                                      const std::vector<std::int32_t>& types) const {
    EncodeRequest request{first, EncodeKind::kEmbed, ids, types, Pooling::kMean, false};
    std::vector<EncodeRequest> out = {request};
    request.id = first + 1;
    request.pooling = Pooling::kCls;
    out.push_back(request);
    request.id = first + 2;
    request.kind = EncodeKind::kClassify;
    if (classifies()) out.push_back(request);
    return out;
  }

  Vectors encode(const std::vector<EncodeRequest>& requests) const {
    engine::EncoderEngine engine(*device_, encoder(), {});
    for (const auto& request : requests) engine.submit(request);
    Vectors out;
    const auto sink = [&](RequestId id, std::span<const float> values) {
      EXPECT_TRUE(out.emplace(id, std::vector<float>(values.begin(), values.end())).second) << id;
    };
    while (engine.step(sink)) {
    }
    EXPECT_TRUE(engine.idle());
    return out;
  }

  void expect_encoding(const Vectors& found, RequestId first, const GoldenEncoding& expected,
                       const std::string& what) const {
    ASSERT_EQ(expected.mean_pooled.size(), width_);
    ASSERT_EQ(expected.cls_hidden.size(), width_);
    expect_near(found.at(first), expected.mean_pooled, what + ": mean");
    expect_near(found.at(first + 1), expected.cls_hidden, what + ": first position");
    ASSERT_EQ(classifies(), !expected.classification_logits.empty());
    if (classifies()) expect_near(found.at(first + 2), expected.classification_logits, what + ": scores");
  }

  testing::GoldenEncoder golden_;
  std::unique_ptr<ops::Device> device_;
  std::optional<model::LoadedModel> model_;
  std::size_t width_ = 0;
};

TEST_P(EncoderGolden, LastHiddenStatesAndPoolerInOneBatchAndAlone) {
  const Outputs together = run(all_texts());
  for (std::size_t p = 0; p < golden_.prompts.size(); ++p) {
    const std::string what = "prompt " + std::to_string(p);
    const auto& expected = golden_.results[p];
    ASSERT_EQ(together.hidden[p].size(), golden_.prompts[p].size() * width_);
    for (std::size_t row = 0; row < golden_.prompts[p].size(); ++row) {
      expect_near(std::span(together.hidden[p]).subspan(row * width_, width_),
                  expected.last_hidden_state[row], what + ", position " + std::to_string(row));
    }
    if (!expected.pooler_output.empty()) expect_near(together.pooled.at(p), expected.pooler_output, what);
    const Outputs alone = run({all_texts()[p]});
    EXPECT_EQ(alone.hidden[0], together.hidden[p]) << what;
    if (!together.pooled.empty()) {
      EXPECT_EQ(alone.pooled[0], together.pooled[p]) << what;
    }
  }
}

TEST_P(EncoderGolden, HiddenStatesOfEveryLayer) {
  ASSERT_EQ(std::ssize(golden_.layers), encoder().config().layers + 1);
  const auto& tokens = golden_.prompts[golden_.layers_prompt];
  const std::vector<model::EncoderSequence> texts = {{.tokens = tokens, .token_types = {}}};
  const auto buffers = encoder().create_buffers({.rows = 64, .sequences = 1});
  const auto stream = device_->create_stream();
  encoder().begin(*stream, *buffers, texts);
  for (std::int32_t layer = 0; layer <= encoder().config().layers; ++layer) {
    if (layer > 0) encoder().run_layers(*stream, *buffers, layer - 1, layer);
    // These models have nothing behind their last layer, so that this reads what there is.
    const auto hidden = read(*stream, encoder().finish(*stream, *buffers).hidden, 0, std::ssize(tokens));
    const auto& expected = golden_.layers[static_cast<std::size_t>(layer)];
    const std::string what = "layer " + std::to_string(layer);
    double sum = 0, abs_sum = 0, square_sum = 0;
    for (const float value : hidden) {
      sum += value;
      abs_sum += std::abs(value);
      square_sum += double{value} * value;
    }
    EXPECT_NEAR(sum, expected.sum, kSumTolerance * expected.abs_sum) << what;
    EXPECT_NEAR(abs_sum, expected.abs_sum, kSumTolerance * expected.abs_sum) << what;
    EXPECT_NEAR(square_sum, expected.square_sum, kSumTolerance * expected.square_sum) << what;
    expect_near(hidden, expected.first_position, what);
    expect_near(std::span(hidden).last(width_), expected.last_position, what);
  }
}

TEST_P(EncoderGolden, PooledVectorsAndScores) {
  std::vector<EncodeRequest> all;
  for (std::size_t p = 0; p < golden_.prompts.size(); ++p) {
    for (auto& request : requests(3 * p, golden_.prompts[p], {})) all.push_back(request);
  }
  const Vectors together = encode(all);
  ASSERT_EQ(together.size(), all.size());
  for (std::size_t p = 0; p < golden_.prompts.size(); ++p) {
    const std::string what = "prompt " + std::to_string(p);
    expect_encoding(together, 3 * p, golden_.results[p], what);
    // Padding there, ragged rows here: the same values.
    expect_encoding(together, 3 * p, golden_.padded[p], what + " of the padded batch");
  }
  for (const auto& request : all)
    EXPECT_EQ(encode({request}).at(request.id), together.at(request.id)) << request.id;
}

TEST_P(EncoderGolden, TokenTypes) {
  const std::string& fixture = std::get<0>(GetParam());
  const bool typed = fixture.starts_with("bert") || fixture.starts_with("electra");
  ASSERT_EQ(typed, !golden_.token_types.empty());
  if (!typed) return;  // the model has no types, or one
  const auto& ids = golden_.prompts[golden_.typed_prompt];
  auto all = requests(0, ids, golden_.token_types);
  // Beside the same text without types, which has other values.
  for (auto& request : requests(10, ids, {})) all.push_back(request);
  const Vectors found = encode(all);
  expect_encoding(found, 0, golden_.typed, "with types");
  expect_encoding(found, 10, golden_.results[golden_.typed_prompt], "without types");
}

/// What the fixtures of each family begin with.
const std::vector<std::string> kFixtures = {"bert", "distilbert", "electra", "roberta"};

INSTANTIATE_TEST_SUITE_P(Encoders, EncoderGolden,
                         ::testing::Combine(::testing::ValuesIn(testing::golden_fixtures(kFixtures)),
                                            ::testing::ValuesIn(testing::all_devices())),
                         [](const auto& info) {
                           return std::get<0>(info.param) + "_" + std::get<1>(info.param).name();
                         });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(EncoderGolden);

TEST(EncoderGoldenData, IsThere) {
  PEREGRINE_REQUIRE_TEST_DATA("golden");
  EXPECT_GE(testing::golden_fixtures(kFixtures).size(), 6u);
  for (const std::string& prefix : kFixtures) {
    EXPECT_GE(testing::golden_fixtures({prefix}).size(), 1u) << prefix;
  }
}

}  // namespace
}  // namespace peregrine
