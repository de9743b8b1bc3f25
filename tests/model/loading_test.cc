// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "model/support.h"
#include "support/test_data.h"

namespace peregrine::model {
namespace {

using core::DType;
using core::ErrorKind;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr const char* kFalcon =
    R"({"architectures": ["FalconForCausalLM"], "model_type": "falcon", "vocab_size": 20,
  "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "alibi": true, "bias": true,
  "parallel_attn": false, "multi_query": false})";
constexpr const char* kLlama =
    R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 20,
  "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2,
  "intermediate_size": 12, "torch_dtype": "float32"})";
constexpr const char* kNeox =
    R"({"architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox", "vocab_size": 20,
  "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12, "rotary_pct": 0.5})";

class Loading : public ::testing::Test {
 protected:
  LoadedModel load(const DirectoryMaker& maker, LoadOptions options = {}) {
    testing::TemporaryDirectory directory;
    maker.write(directory.path());
    return load_model(directory.path(), *device_, options);
  }

  std::vector<float> logits(const DirectoryMaker& maker) {
    testing::TemporaryDirectory directory;
    maker.write(directory.path());
    Bench bench(ops::create_device("reference", {}),
                [&](ops::Device& device) { return load_model(directory.path(), device, {}); });
    return bench.run_prompt(std::vector<std::int32_t>{1, 7, 3}, 3);
  }

  std::unique_ptr<ops::Device> device_ = ops::create_device("reference", {});
};

TEST_F(Loading, ReportsProgressInBytes) {
  std::vector<std::pair<std::uint64_t, std::uint64_t>> calls;
  LoadOptions options;
  options.progress = [&calls](std::uint64_t done, std::uint64_t total) { calls.emplace_back(done, total); };
  const DirectoryMaker maker(kFalcon);
  const auto model = load(maker, options);
  std::uint64_t bytes = 0;
  for (const auto& tensor : maker.tensors) {
    std::uint64_t size = 4;
    for (const auto dimension : tensor.shape) size *= static_cast<std::uint64_t>(dimension);
    bytes += size;
  }
  ASSERT_GT(calls.size(), 10u);
  EXPECT_EQ(calls.front(), std::pair(std::uint64_t{0}, bytes));
  EXPECT_EQ(calls.back(), std::pair(bytes, bytes));
  for (std::size_t i = 1; i < calls.size(); ++i) EXPECT_GT(calls[i].first, calls[i - 1].first);
  EXPECT_GE(model.decoder->weight_bytes(), bytes);
  const auto spec = model.decoder->kv_cache_spec();
  EXPECT_EQ(spec.layers, 2);
  EXPECT_EQ(spec.kv_heads, 2);
  EXPECT_EQ(spec.head_dim, 4);
  EXPECT_EQ(spec.blocks, 0);
}

TEST_F(Loading, EveryMissingTensorIsNamedBeforeAnythingIsPacked) {
  for (const char* config : {kFalcon, kLlama, kNeox}) {
    const DirectoryMaker whole(config);
    for (const auto& tensor : whole.tensors) {
      DirectoryMaker maker = whole;
      maker.erase(tensor.name);
      LoadOptions options;
      options.progress = [](std::uint64_t, std::uint64_t) { ADD_FAILURE() << "packing had begun"; };
      const auto error = caught([&] { load(maker, options); });
      EXPECT_EQ(error.kind, ErrorKind::kNotFound) << tensor.name << ": " << error.message;
      EXPECT_THAT(error.message, HasSubstr(tensor.name));
    }
  }
}

TEST_F(Loading, EveryWrongShapeIsNamedWithExpectedAndFound) {
  for (const char* config : {kFalcon, kLlama, kNeox}) {
    const DirectoryMaker whole(config);
    for (const auto& tensor : whole.tensors) {
      DirectoryMaker maker = whole;
      auto& shape = maker.at(tensor.name).shape;
      shape.back() += 1;
      const std::string found = fmt::format("[{}]", fmt::join(shape, ", "));
      const std::string expected = fmt::format("[{}]", fmt::join(tensor.shape, ", "));
      const auto error = caught([&] { load(maker); });
      EXPECT_EQ(error.kind, ErrorKind::kInvalidArgument) << tensor.name << ": " << error.message;
      EXPECT_THAT(error.message, AllOf(HasSubstr(tensor.name), HasSubstr(expected), HasSubstr(found)));
    }
  }
}

TEST_F(Loading, AVectorForAMatrixIsRefused) {
  DirectoryMaker maker(kLlama);
  maker.at("model.norm.weight").shape = {1, 8};
  EXPECT_EQ(caught([&] { load(maker); }).kind, ErrorKind::kInvalidArgument);
  maker = DirectoryMaker(kLlama);
  maker.at("model.layers.0.self_attn.o_proj.weight").shape = {64};
  EXPECT_EQ(caught([&] { load(maker); }).kind, ErrorKind::kInvalidArgument);
}

TEST_F(Loading, OtherElementTypesAreRefusedByName) {
  for (const auto dtype : {DType::kI8, DType::kI32, DType::kF64, DType::kBool, DType::kF8E4M3}) {
    for (const char* name : {"lm_head.weight", "model.norm.weight", "model.layers.0.mlp.up_proj.weight"}) {
      DirectoryMaker maker(kLlama);
      maker.at(name).dtype = dtype;
      const auto error = caught([&] { load(maker); });
      EXPECT_EQ(error.kind, ErrorKind::kUnsupported);
      EXPECT_THAT(error.message,
                  AllOf(HasSubstr(name), HasSubstr(core::to_string(dtype)), HasSubstr("bfloat16")));
    }
  }
}

TEST_F(Loading, ExtraTensorsAreFine) {
  DirectoryMaker maker(kFalcon);
  const auto expected = logits(maker);
  maker.tensors.push_back({"lm_head.weight", {20, 8}});  // stored although it is tied
  maker.tensors.push_back({"transformer.h.0.self_attention.masked_bias", {}, DType::kI64});
  EXPECT_EQ(logits(maker), expected);
}

TEST_F(Loading, NamesWithoutTheFirstPrefixAreFound) {
  for (const auto& [config, prefix] : std::vector<std::pair<const char*, std::string>>{
           {kFalcon, "transformer."}, {kLlama, "model."}, {kNeox, "gpt_neox."}}) {
    DirectoryMaker maker(config);
    const auto expected = logits(maker);
    for (auto& tensor : maker.tensors) {
      if (tensor.name.starts_with(prefix)) tensor.name.erase(0, prefix.size());
    }
    EXPECT_EQ(logits(maker), expected) << prefix;
    // The error tells the full name, and shapes are compared all the same.
    const std::string victim = maker.tensors.back().name;
    maker.at(victim).shape.back() += 1;
    EXPECT_THAT(caught([&] { logits(maker); }).message, HasSubstr(victim));
    maker.erase(victim);
    EXPECT_THAT(caught([&] { logits(maker); }).message, HasSubstr(prefix + victim));
  }
}

TEST_F(Loading, DataTypesFollowTheCheckpointUnlessTold) {
  const auto types = [&](const std::string& torch_dtype, DType stored, LoadOptions options = {}) {
    std::string text = kNeox;
    if (!torch_dtype.empty()) text.insert(1, fmt::format("\"torch_dtype\": \"{}\", ", torch_dtype));
    DirectoryMaker maker(text);
    for (auto& tensor : maker.tensors) tensor.dtype = stored;
    return load(maker, options).decoder->types();
  };
  auto found = types("", DType::kBF16);
  EXPECT_EQ(found.weights, DType::kBF16);
  EXPECT_EQ(found.compute, DType::kBF16);
  EXPECT_EQ(found.cache, DType::kBF16);
  found = types("float16", DType::kF16);
  EXPECT_EQ(found.weights, DType::kF16);
  EXPECT_EQ(found.compute, DType::kF32);
  EXPECT_EQ(found.cache, DType::kF32);
  found = types("bfloat16", DType::kF32);
  EXPECT_EQ(found.weights, DType::kBF16);
  LoadOptions options;
  options.weights = DType::kF32;
  found = types("bfloat16", DType::kBF16, options);
  EXPECT_EQ(found.weights, DType::kF32);
  EXPECT_EQ(found.compute, DType::kF32);
  options = {};
  options.compute = DType::kF32;
  options.cache = DType::kBF16;
  found = types("bfloat16", DType::kBF16, options);
  EXPECT_EQ(found.weights, DType::kBF16);
  EXPECT_EQ(found.compute, DType::kF32);
  EXPECT_EQ(found.cache, DType::kBF16);
}

TEST_F(Loading, DataTypesThatCannotBeServedAreRefused) {
  const DirectoryMaker maker(kLlama);
  LoadOptions options;
  options.weights = DType::kI8;
  auto error = caught([&] { load(maker, options); });
  EXPECT_EQ(error.kind, ErrorKind::kUnsupported);
  EXPECT_THAT(error.message, AllOf(HasSubstr("option.dtype"), HasSubstr("int8")));
  options = {};
  options.compute = DType::kF16;
  error = caught([&] { load(maker, options); });
  EXPECT_EQ(error.kind, ErrorKind::kUnsupported);
  EXPECT_THAT(error.message, HasSubstr("arithmetic in float16"));
  options = {};
  options.cache = DType::kF16;
  error = caught([&] { load(maker, options); });
  EXPECT_THAT(error.message, HasSubstr("KV cache of type float16"));
}

}  // namespace
}  // namespace peregrine::model
