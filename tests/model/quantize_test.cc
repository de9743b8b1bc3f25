// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "model/decoder_weights.h"
#include "model/encoder_family.h"
#include "model/encoder_weights.h"
#include "model/random_models.h"
#include "model/support.h"
#include "weights/random_source.h"

// Which weights are int8 with option.quantize=int8, and which stay what they are.

namespace peregrine::model {
namespace {

using core::DType;
using core::Quantization;
using ops::WeightUse;

class Quantize : public ::testing::Test {
 protected:
  static constexpr StoredTypes kTypes = {DType::kBF16, Quantization::kInt8};

  DecoderWeights load(std::string_view config_text, StoredTypes types = kTypes) {
    const auto directory = model_info::ModelDirectory::parse("test", config_text, std::nullopt);
    const Family& family = find_family(directory.info().architecture, directory.info().model_type);
    return load_weights(family.read_config(directory.config()), family, source_, *device_, types, {});
  }

  std::unique_ptr<ops::Device> device_ = ops::create_device("reference", {});
  weights::RandomSource source_{7, DType::kF32};
};

/// Expects an int8 weight whose bytes count the scales.
void expect_int8(const std::unique_ptr<ops::Weight>& weight, WeightUse use, const std::string& what) {
  ASSERT_TRUE(weight) << what;
  EXPECT_EQ(weight->dtype(), DType::kI8) << what;
  EXPECT_EQ(weight->use(), use) << what;
  EXPECT_EQ(weight->bytes(), static_cast<std::size_t>(weight->rows() * (weight->cols() + 4))) << what;
}

TEST_F(Quantize, AllProductsOfADecoder) {
  const DecoderWeights weights = load(
      R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 50, "hidden_size": 24,
          "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 36})");
  expect_int8(weights.embedding, WeightUse::kRows, "embedding");
  expect_int8(weights.head.weight, WeightUse::kLinear, "head");
  for (const LayerWeights& layer : weights.layers) {
    expect_int8(layer.qkv.weight, WeightUse::kLinear, "qkv");
    expect_int8(layer.attention_out.weight, WeightUse::kLinear, "attention out");
    expect_int8(layer.mlp_up.weight, WeightUse::kLinear, "up");
    expect_int8(layer.mlp_down.weight, WeightUse::kLinear, "down");
    EXPECT_EQ(layer.attention_norm.weight.bytes(), 24 * sizeof(float));
  }
}

// One weight serves both ends, and its bytes count once.
TEST_F(Quantize, ATiedEmbedding) {
  constexpr const char* kFalcon =
      R"({"architectures": ["FalconForCausalLM"], "model_type": "falcon", "vocab_size": 50, "hidden_size": 24,
          "num_hidden_layers": 1, "num_attention_heads": 4, "parallel_attn": true, "multi_query": true})";
  const DecoderWeights weights = load(kFalcon);
  expect_int8(weights.embedding, WeightUse::kLinear, "embedding");
  EXPECT_FALSE(weights.head.weight);
  const DecoderWeights floats = load(kFalcon, {DType::kF32, Quantization::kNone});
  EXPECT_EQ(floats.embedding->dtype(), DType::kF32);
  const std::size_t elements = 50 * 24 + 24 * (24 + 12) + 24 * 24 + 24 * 96 * 2;
  const std::size_t rows = 50 + 36 + 24 + 96 + 24;
  EXPECT_EQ(floats.bytes() - weights.bytes(), 4 * elements - elements - 4 * rows);
}

TEST_F(Quantize, NotPositionsButTheProjectionsBesideThem) {
  const DecoderWeights weights = load(
      R"({"architectures": ["OPTForCausalLM"], "model_type": "opt", "vocab_size": 50, "hidden_size": 24,
          "word_embed_proj_dim": 12, "num_hidden_layers": 1, "num_attention_heads": 4, "ffn_dim": 36,
          "max_position_embeddings": 20, "do_layer_norm_before": false})");
  EXPECT_EQ(weights.positions->dtype(), DType::kBF16);
  expect_int8(weights.embedding, WeightUse::kLinear, "embedding");
  expect_int8(weights.project_in.weight, WeightUse::kLinear, "projection in");
  expect_int8(weights.project_out.weight, WeightUse::kLinear, "projection out");
}

TEST_F(Quantize, ExpertsButNotTheirRouter) {
  const std::string text = random_model_config(
      "qwen1.5-moe-a2.7b:layers=1,vocab=50,hidden=24,heads=4,kv_heads=2,experts=3,experts_per_token=2,expert_"
      "intermediate=20,"
      "shared_intermediate=28");
  const DecoderWeights weights = load(text);
  const LayerWeights& layer = weights.layers.at(0);
  EXPECT_EQ(layer.router.weight->dtype(), DType::kBF16);
  ASSERT_EQ(layer.expert_up.size(), 4u);
  for (std::size_t e = 0; e < 4; ++e) {
    expect_int8(layer.expert_up[e], WeightUse::kLinear, "expert up");
    expect_int8(layer.expert_down[e], WeightUse::kLinear, "expert down");
  }
}

TEST_F(Quantize, CrossAttention) {
  const DecoderWeights weights =
      load(random_model_config("flan-t5-small:layers=1,vocab=50,hidden=24,heads=4,intermediate=36"));
  expect_int8(weights.layers.at(0).cross_query.weight, WeightUse::kLinear, "cross query");
  expect_int8(weights.layers.at(0).cross_key_value.weight, WeightUse::kLinear, "cross key-value");
  expect_int8(weights.layers.at(0).cross_out.weight, WeightUse::kLinear, "cross out");
}

TEST_F(Quantize, AnEncoderWithItsHead) {
  const auto directory = model_info::ModelDirectory::parse(
      "test",
      R"({"architectures": ["BertForSequenceClassification"], "model_type": "bert", "vocab_size": 50,
          "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 36,
          "max_position_embeddings": 20, "type_vocab_size": 2, "id2label": {"0": "a", "1": "b", "2": "c"}})",
      std::nullopt);
  const auto& info = directory.info();
  const EncoderFamily* family = find_encoder_family(info.architecture, info.model_type);
  ASSERT_NE(family, nullptr);
  const EncoderConfig config = family->read_config(directory.config(), info.architecture);
  const EncoderWeights weights =
      load_encoder_weights(config, *family, source_, *device_, kTypes, {}, nullptr);
  expect_int8(weights.embedding, WeightUse::kRows, "embedding");
  EXPECT_EQ(weights.positions->dtype(), DType::kBF16);
  EXPECT_EQ(weights.token_types->dtype(), DType::kBF16);
  const EncoderLayerWeights& layer = weights.layers.at(0);
  for (const Linear* linear : {&layer.qkv, &layer.attention_out, &layer.mlp_up, &layer.mlp_down,
                               &weights.pooler, &weights.classifier}) {
    expect_int8(linear->weight, WeightUse::kLinear, "encoder");
  }
}

// Arithmetic and cache follow the type of the other weights, as without quantization.
TEST_F(Quantize, NothingElseFollows) {
  for (const DType weights : {DType::kBF16, DType::kF16, DType::kF32}) {
    LoadOptions options;
    options.weights = weights;
    options.quantization = Quantization::kInt8;
    const LoadedModel model =
        load_random_model("falcon-7b:layers=1,vocab=50,hidden=24,heads=4", *device_, options);
    const DType compute = weights == DType::kBF16 ? DType::kBF16 : DType::kF32;
    EXPECT_EQ(model.decoder->types().weights, weights);
    EXPECT_EQ(model.decoder->types().quantization, Quantization::kInt8);
    EXPECT_EQ(model.decoder->types().compute, compute);
    EXPECT_EQ(model.decoder->types().cache, compute);
  }
}

}  // namespace
}  // namespace peregrine::model
