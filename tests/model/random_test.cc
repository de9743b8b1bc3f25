// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "core/float16.h"
#include "model/random_models.h"
#include "model/support.h"
#include "weights/random_source.h"

namespace peregrine::model {
namespace {

using core::DType;
using core::ErrorKind;
using ::testing::AllOf;
using ::testing::HasSubstr;
using Shape = std::vector<std::int64_t>;

std::vector<float> values_of(const weights::StoredTensor& tensor) {
  const std::size_t size = core::size_of(tensor.dtype);
  std::vector<float> out(tensor.data.size() / size);
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (tensor.dtype == DType::kF32) {
      std::memcpy(&out[i], tensor.data.data() + 4 * i, 4);
    } else {
      std::uint16_t bits = 0;
      std::memcpy(&bits, tensor.data.data() + 2 * i, 2);
      out[i] = tensor.dtype == DType::kBF16 ? core::to_float(core::BFloat16{bits})
                                            : core::to_float(core::Float16{bits});
    }
  }
  return out;
}

TEST(RandomSource, DependsOnSeedAndNameOnly) {
  const Shape shape = {37, 53};
  weights::RandomSource one(7, DType::kBF16, 1), two(7, DType::kBF16, 3), other(8, DType::kBF16, 1);
  const auto a = values_of(one.require("a.weight", shape));
  two.require("b.weight", shape);
  EXPECT_EQ(values_of(two.require("a.weight", shape)), a);
  EXPECT_NE(values_of(two.require("b.weight", shape)), a);
  EXPECT_NE(values_of(other.require("a.weight", shape)), a);
  one.release(one.require("a.weight", shape));
  EXPECT_EQ(values_of(one.require("a.weight", shape)), a);
  EXPECT_EQ(one.require("a.weight", shape).dtype, DType::kBF16);
  EXPECT_EQ(one.require("a.weight", shape).shape, shape);
}

TEST(RandomSource, HasTheMomentsOfANormalDistribution) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    weights::RandomSource source(1, dtype);
    const Shape shape = {1000, 1001};
    const auto values = values_of(source.require("w.weight", shape));
    double sum = 0, squares = 0, fourths = 0, neighbours = 0, largest = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double x = values[i] / 0.02;
      sum += x;
      squares += x * x;
      fourths += x * x * x * x;
      if (i > 0) neighbours += x * (values[i - 1] / 0.02);
      largest = std::max(largest, std::abs(x));
    }
    const auto n = static_cast<double>(values.size());
    // Five standard errors; the fourth moment's is sqrt(96 / n). bfloat16 rounds by up to 2^-9.
    EXPECT_NEAR(sum / n, 0.0, 0.005) << core::to_string(dtype);
    EXPECT_NEAR(squares / n, 1.0, 0.008);
    EXPECT_NEAR(fourths / n, 3.0, 0.06);
    EXPECT_NEAR(neighbours / n, 0.0, 0.005);
    EXPECT_GT(largest, 4.0);
    EXPECT_LT(largest, 4.5);
  }
}

TEST(RandomSource, NormsAreAboutOneAndBiasesAboutZero) {
  weights::RandomSource source(1, DType::kF32);
  const Shape shape = {4544};
  const auto mean = [](const std::vector<float>& values) {
    double sum = 0;
    for (const float value : values) sum += value;
    return sum / static_cast<double>(values.size());
  };
  EXPECT_NEAR(mean(values_of(source.require("h.0.ln_attn.weight", shape))), 1.0, 0.002);
  EXPECT_NEAR(mean(values_of(source.require("h.0.ln_attn.bias", shape))), 0.0, 0.002);
}

TEST(RandomSource, RefusesWhatItCannotMake) {
  EXPECT_EQ(caught([] { weights::RandomSource(1, DType::kI8); }).kind, ErrorKind::kUnsupported);
  weights::RandomSource source(1, DType::kF32);
  const Shape huge = {std::int64_t{1} << 40, std::int64_t{1} << 40};
  EXPECT_EQ(caught([&] { source.check("w", huge); }).kind, ErrorKind::kInvalidArgument);
  const Shape one = {1}, two = {2};
  source.require("w", one);
  EXPECT_EQ(caught([&] { source.require("w", two); }).kind, ErrorKind::kInternal);
}

TEST(RandomModel, NamedShapesAreThoseOfThePublishedModels) {
  const auto falcon = read_config(random_model_config("falcon-7b"));
  EXPECT_EQ(falcon.hidden_size, 4544);
  EXPECT_EQ(falcon.heads, 71);
  EXPECT_EQ(falcon.kv_heads, 1);
  EXPECT_EQ(falcon.intermediate_size, 18176);
  const auto forty = read_config(random_model_config("falcon-40b"));
  EXPECT_EQ(forty.kv_heads, 8);
  EXPECT_EQ(forty.residual, ResidualOrder::kParallelTwoNorms);
  const auto one = read_config(random_model_config("llama-3.2-1b"));
  EXPECT_EQ(one.head_dim, 64);
  EXPECT_EQ(one.rotary.scaling, RotaryScaling::kLlama3);
  EXPECT_TRUE(one.tied_head);
  EXPECT_EQ(read_config(random_model_config("llama-3.1-8b")).intermediate_size, 14336);
  EXPECT_EQ(read_config(random_model_config("gpt-neox-20b")).rotary.dim, 24);
  EXPECT_EQ(read_config(random_model_config("pythia-1b")).head_dim, 256);
  const auto mixtral = read_config(random_model_config("mixtral-8x7b"));
  EXPECT_EQ(mixtral.experts.count, 8);
  EXPECT_EQ(mixtral.experts.intermediate_size, 14336);
  EXPECT_EQ(read_config(random_model_config("qwen3-0.6b")).head_dim, 128);
  const auto qwen = read_config(random_model_config("qwen1.5-moe-a2.7b"));
  EXPECT_EQ(qwen.experts.count, 60);
  EXPECT_EQ(qwen.experts.shared_intermediate_size, 5632);
}

TEST(RandomModel, OverridesAreAppliedInOrder) {
  const auto config =
      read_config(random_model_config("falcon-7b:layers=4,vocab=1000,intermediate=64,positions=77"));
  EXPECT_EQ(config.layers, 4);
  EXPECT_EQ(config.vocab_size, 1000);
  EXPECT_EQ(config.intermediate_size, 64);
  EXPECT_EQ(config.max_positions, 77);
  const auto llama = read_config(random_model_config("llama-3.2-1b:hidden=64,heads=8,kv_heads=2,layers=2"));
  EXPECT_EQ(llama.head_dim, 8);
  EXPECT_EQ(llama.kv_heads, 2);
  EXPECT_EQ(read_config(random_model_config("falcon-40b:kv_heads=16")).kv_heads, 16);
  EXPECT_EQ(read_config(random_model_config("mixtral-8x7b:experts=4,intermediate=64")).experts.count, 4);
  const auto qwen = read_config(random_model_config(
      "qwen1.5-moe-a2.7b:experts=6,experts_per_token=3,expert_intermediate=48,shared_intermediate=80"));
  EXPECT_EQ(qwen.experts.count, 6);
  EXPECT_EQ(qwen.experts.per_token, 3);
  EXPECT_EQ(qwen.experts.intermediate_size, 48);
  EXPECT_EQ(qwen.experts.shared_intermediate_size, 80);
}

TEST(RandomModel, WrongSpecificationsAreRefusedWithWhatThereIs) {
  const auto message = [](const char* spec) {
    const auto error = caught([spec] { random_model_config(spec); });
    EXPECT_EQ(error.kind, ErrorKind::kInvalidArgument) << spec;
    return error.message;
  };
  EXPECT_THAT(message("falcon-8b"),
              AllOf(HasSubstr("falcon-8b"), HasSubstr("falcon-7b"), HasSubstr("pythia-1b")));
  EXPECT_THAT(message(""), HasSubstr("falcon-7b"));
  EXPECT_THAT(message("falcon-7b:"), HasSubstr("layers, hidden"));
  EXPECT_THAT(message("falcon-7b:layers"), HasSubstr("layers, hidden"));
  EXPECT_THAT(message("falcon-7b:layer=4"), AllOf(HasSubstr("layer=4"), HasSubstr("layers, hidden")));
  EXPECT_THAT(message("falcon-7b:layers=4,"), HasSubstr("layers, hidden"));
  EXPECT_THAT(message("falcon-7b:layers=x"), HasSubstr("positive integer"));
  EXPECT_THAT(message("falcon-7b:layers=0"), HasSubstr("positive integer"));
  EXPECT_THAT(message("falcon-7b:layers=4x"), HasSubstr("positive integer"));
  EXPECT_THAT(message("falcon-7b:layers=99999999999999999999"), HasSubstr("positive integer"));
  EXPECT_THAT(message("falcon-7b:kv_heads=4"), HasSubstr("no kv_heads"));
  // Sizes that do not fit together are the family's to refuse, and the message names the model.
  EXPECT_THAT(caught([] {
                auto device = ops::create_device("reference", {});
                load_random_model("falcon-7b:heads=70", *device, {});
              }).message,
              AllOf(HasSubstr("falcon-7b:heads=70"), HasSubstr("multiple of num_attention_heads (70)")));
}

TEST(RandomModel, LoadsAndRuns) {
  const std::string spec = "llama-3.2-1b:layers=2,hidden=64,heads=8,kv_heads=2,intermediate=96,vocab=200";
  const auto run = [&spec](std::uint64_t seed, std::optional<DType> dtype) {
    Bench bench(ops::create_device("reference", {}), [&](ops::Device& device) {
      LoadOptions options;
      options.random_seed = seed;
      options.weights = dtype;
      auto model = load_random_model(spec, device, options);
      EXPECT_EQ(model.decoder->types().weights, dtype.value_or(DType::kBF16));
      EXPECT_EQ(model.directory.info().torch_dtype, DType::kBF16);
      return model;
    });
    return bench.run_prompt(std::vector<std::int32_t>{1, 2, 3, 4, 5}, 1);
  };
  const auto logits = run(1, std::nullopt);
  ASSERT_EQ(logits.size(), 200u);
  for (const float logit : logits) EXPECT_TRUE(std::isfinite(logit));
  EXPECT_EQ(run(1, std::nullopt), logits);
  EXPECT_NE(run(2, std::nullopt), logits);
  EXPECT_NE(run(1, DType::kF32), logits);
}

}  // namespace
}  // namespace peregrine::model
