// SPDX-License-Identifier: Apache-2.0
// Real files written by transformers: all of them open, and hold what their config.json implies.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "core/files.h"
#include "core/float16.h"
#include "core/json.h"
#include "fixtures.h"
#include "model_info/model_info.h"
#include "support/test_data.h"
#include "weights/checkpoint.h"

namespace peregrine::weights {
namespace {

using core::DType;
using peregrine::testing::test_data;

namespace fs = std::filesystem;

std::vector<fs::path> models() {
  std::vector<fs::path> out;
  for (const auto& entry : fs::directory_iterator(test_data() / "golden")) {
    if (fs::exists(entry.path() / "config.json")) out.push_back(entry.path());
  }
  std::sort(out.begin(), out.end());
  return out;
}

TEST(GoldenFiles, AllOpenAndHoldWhatTheirConfigImplies) {
  PEREGRINE_REQUIRE_TEST_DATA("golden");
  int opened = 0;
  for (const auto& model : models()) {
    SCOPED_TRACE(model.filename().string());
    const auto directory = model_info::ModelDirectory::open(model);
    ++opened;
    const Checkpoint checkpoint = Checkpoint::open(model);
    const auto names = checkpoint.names();
    EXPECT_GE(names.size(), 10u);
    EXPECT_TRUE(std::is_sorted(names.begin(), names.end()));

    const auto& info = directory.info();
    ASSERT_TRUE(info.torch_dtype.has_value());
    ASSERT_TRUE(info.vocab_size.has_value());
    std::uint64_t total = 0, floats = 0;
    bool embedding = false;
    for (const auto name : names) {
      const StoredTensor& tensor = *checkpoint.find(name);
      total += tensor.data.size();
      EXPECT_EQ(&checkpoint.require(name, tensor.shape), &tensor);
      if (core::is_weight_float(tensor.dtype)) {
        EXPECT_EQ(tensor.dtype, *info.torch_dtype) << name;
        ++floats;
      } else {
        // Causal masks and positions that old checkpoints hold.
        EXPECT_THAT(std::string(name), ::testing::ContainsRegex("att.*bias$|position_ids$"))
            << core::to_string(tensor.dtype);
      }
      embedding = embedding || (tensor.shape.size() == 2 && tensor.shape[0] == *info.vocab_size);
    }
    EXPECT_TRUE(embedding);
    EXPECT_GE(floats, 10u);
    EXPECT_EQ(total, checkpoint.total_bytes());
  }
  EXPECT_GE(opened, 60);
}

/// The fixture with the same weights in one safetensors file; nothing where there is none.
std::string sibling(std::string name) {
  for (const std::string ending : {"_bin_sharded", "_legacy_bin", "_sharded", "_bin"}) {
    if (name.ends_with(ending)) return name.substr(0, name.size() - ending.size());
  }
  return {};
}

/// transformers renames these when it reads a checkpoint of BERT's first days.
std::string first_name(std::string name) {
  for (const auto& [now, then] :
       {std::pair{"LayerNorm.weight", "LayerNorm.gamma"}, {"LayerNorm.bias", "LayerNorm.beta"}}) {
    if (name.ends_with(now)) name.replace(name.size() - std::strlen(now), std::string::npos, then);
  }
  return name;
}

TEST(GoldenFiles, OtherFilesHoldTheSameBytesAsOneSafetensorsFile) {
  PEREGRINE_REQUIRE_TEST_DATA("golden");
  int sharded = 0, pickled = 0;
  for (const auto& model : models()) {
    const std::string name = model.filename().string();
    if (sibling(name).empty()) continue;
    SCOPED_TRACE(name);
    const Checkpoint other = Checkpoint::open(model);
    const Checkpoint single = Checkpoint::open(model.parent_path() / sibling(name));
    const bool legacy = name.ends_with("_legacy_bin");
    for (const auto tensor : single.names()) {
      const StoredTensor& a = *single.find(tensor);
      const StoredTensor* b = other.find(legacy ? first_name(std::string(tensor)) : std::string(tensor));
      ASSERT_NE(b, nullptr) << tensor;
      EXPECT_EQ(a.dtype, b->dtype);
      EXPECT_EQ(a.shape, b->shape);
      ASSERT_EQ(a.data.size(), b->data.size());
      EXPECT_EQ(std::memcmp(a.data.data(), b->data.data(), a.data.size()), 0) << tensor;
    }
    const bool is_bin = name.find("_bin") != std::string::npos;
    // Pickles hold tied output layers and unused tensors too.
    if (is_bin) {
      EXPECT_GE(other.names().size(), single.names().size());
    } else {
      EXPECT_EQ(other.names(), single.names());
    }
    ++(is_bin ? pickled : sharded);
  }
  EXPECT_GE(sharded, 4);
  EXPECT_GE(pickled, 5);
}

float element(const StoredTensor& tensor, std::size_t i) {
  const std::byte* place =
      tensor.data.subspan(i * core::size_of(tensor.dtype), core::size_of(tensor.dtype)).data();
  float wide = 0;
  core::BFloat16 bf16;
  core::Float16 fp16;
  switch (tensor.dtype) {
    case DType::kF32:
      std::memcpy(&wide, place, 4);
      return wide;
    case DType::kBF16:
      std::memcpy(&bf16, place, 2);
      return core::to_float(bf16);
    default:
      std::memcpy(&fp16, place, 2);
      return core::to_float(fp16);
  }
}

/// Falcon's first hidden state is the embedding row of the token, so transformers' values tell what the rows
/// are.
TEST(GoldenFiles, EmbeddingRowsAreWhatTransformersRead) {
  PEREGRINE_REQUIRE_TEST_DATA("golden/falcon_7b_bf16");
  for (const char* name : {"falcon_7b", "falcon_7b_bf16", "falcon_7b_fp16", "falcon_7b_sharded"}) {
    SCOPED_TRACE(name);
    const auto model = test_data() / "golden" / name;
    const Checkpoint checkpoint = Checkpoint::open(model);
    const auto document =
        core::parse_json(core::read_file(model / "expected.json", 10 << 20), "expected.json");
    const core::JsonView expected(document, "expected.json");
    const auto& embed =
        checkpoint.require("transformer.word_embeddings.weight", std::vector<std::int64_t>{131, 50});
    const auto states = expected.at("hidden_states");
    const auto prompt = static_cast<std::size_t>(states.at("prompt").as_int(0, 100));
    const auto tokens = expected.at("prompts").items()[prompt].items();
    const auto layer = states.at("layers").items()[0];
    for (const auto& [key, token] :
         {std::pair{"first_position", tokens.front()}, std::pair{"last_position", tokens.back()}}) {
      const auto row = static_cast<std::size_t>(token.as_int(0, 130));
      const auto values = layer.at(key).items();
      ASSERT_EQ(values.size(), 8u);
      for (std::size_t i = 0; i < 8; ++i) {
        EXPECT_EQ(element(embed, row * 50 + i), static_cast<float>(values[i].as_number()));
      }
    }
  }
}

TEST(GoldenFiles, FalconHasTheTensorsOfItsConfig) {
  PEREGRINE_REQUIRE_TEST_DATA("golden/falcon_7b");
  const Checkpoint checkpoint = Checkpoint::open(test_data() / "golden/falcon_7b");
  const auto shape = [](std::vector<std::int64_t> dimensions) { return dimensions; };
  const StoredTensor& embed = checkpoint.require("transformer.word_embeddings.weight", shape({131, 50}));
  EXPECT_EQ(embed.dtype, DType::kF32);
  checkpoint.require("transformer.h.1.self_attention.query_key_value.weight", shape({50 + 2 * 10, 50}));
  checkpoint.require("transformer.h.0.mlp.dense_h_to_4h.weight", shape({200, 50}));
  checkpoint.require("transformer.ln_f.bias", shape({50}));
  EXPECT_EQ(checkpoint.find("transformer.h.2.mlp.dense_h_to_4h.weight"), nullptr);
}

}  // namespace
}  // namespace peregrine::weights
