// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <cmath>
#include <ostream>
#include <string>

#include "core/float16.h"
#include "model/support.h"

namespace peregrine::model {
namespace {

using core::ErrorKind;
using ::testing::HasSubstr;

constexpr const char* kFalcon =
    R"({"architectures": ["FalconForCausalLM"], "model_type": "falcon", "vocab_size": 100,
  "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 6})";
constexpr const char* kLlama =
    R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 100,
  "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 6, "intermediate_size": 96})";
constexpr const char* kNeox =
    R"({"architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox", "vocab_size": 100,
  "hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 6, "intermediate_size": 96})";

/// `base` with members set (or, where the value is the string "<erase>", removed).
std::string with(const char* base, const char* changes) {
  auto config = boost::json::parse(base).as_object();
  const auto changed = boost::json::parse(changes);
  for (const auto& [key, value] : changed.get_object()) {
    if (value.is_string() && value.get_string() == "<erase>") {
      config.erase(key);
    } else {
      config[key] = value;
    }
  }
  return boost::json::serialize(config);
}

TEST(FalconConfig, DefaultsAreThoseOfTheSevenBillionForm) {
  const auto config = read_config(kFalcon);
  EXPECT_EQ(config.family, "falcon");
  EXPECT_EQ(config.heads, 6);
  EXPECT_EQ(config.kv_heads, 1);
  EXPECT_EQ(config.head_dim, 8);
  EXPECT_EQ(config.intermediate_size, 192);
  EXPECT_EQ(config.max_positions, 2048);
  EXPECT_EQ(config.residual, ResidualOrder::kParallelOneNorm);
  EXPECT_EQ(config.norm, ops::NormKind::kLayer);
  EXPECT_EQ(config.activation, ops::Activation::kGelu);
  EXPECT_EQ(config.positions, PositionKind::kRotary);
  EXPECT_EQ(config.rotary.dim, 8);
  EXPECT_EQ(config.rotary.theta, 10000.0);
  EXPECT_FLOAT_EQ(config.attention_scale, 1.0f / std::sqrt(8.0f));
  EXPECT_TRUE(config.tied_head);
  EXPECT_TRUE(config.norm_bias);
  EXPECT_FALSE(config.gated_mlp || config.qkv_bias || config.attention_out_bias || config.mlp_up_bias ||
               config.mlp_down_bias);
}

TEST(FalconConfig, NewDecoderHasTwoNormsUnlessToldOne) {
  const auto two = read_config(with(kFalcon, R"({"new_decoder_architecture": true, "num_kv_heads": 2})"));
  EXPECT_EQ(two.residual, ResidualOrder::kParallelTwoNorms);
  EXPECT_EQ(two.kv_heads, 2);
  const auto one = read_config(with(
      kFalcon,
      R"({"new_decoder_architecture": true, "num_ln_in_parallel_attn": 1, "tie_word_embeddings": false})"));
  EXPECT_EQ(one.residual, ResidualOrder::kParallelOneNorm);
  EXPECT_EQ(one.kv_heads, 6);
  EXPECT_FALSE(one.tied_head);
}

TEST(FalconConfig, RwIsSequentialWithAlibiAndBiases) {
  const auto config = read_config(
      with(kFalcon, R"({"alibi": true, "bias": true, "parallel_attn": false, "multi_query": false})"));
  EXPECT_EQ(config.residual, ResidualOrder::kSequential);
  EXPECT_EQ(config.kv_heads, 6);
  EXPECT_EQ(config.positions, PositionKind::kAlibi);
  EXPECT_TRUE(config.qkv_bias && config.attention_out_bias && config.mlp_up_bias && config.mlp_down_bias);
  EXPECT_TRUE(config.alibi.in_bfloat16);
  EXPECT_EQ(config.alibi.scale, config.attention_scale);
  // Four heads take 2^-2, 2^-4, ...; the other two every second of 2^-1, 2^-2, ...: 2^-1 and 2^-3.
  const std::vector<float> expected = {0.25f, 0.0625f, 0.015625f, 0.00390625f, 0.5f, 0.125f};
  EXPECT_EQ(config.alibi.slopes, expected);
}

TEST(FalconConfig, AlibiCountsAsTheVersionThatWroteTheFileCountsIt) {
  const auto times = [](const std::string& version) {
    const auto config = read_config(
        with(kFalcon, (R"({"alibi": true, "transformers_version": ")" + version + "\"}").c_str()));
    return config.alibi.scale / config.attention_scale;
  };
  for (const char* once : {"4.27.0.dev0", "4.44.2", "4.9", "3.99.1", "", "next", "4"})
    EXPECT_EQ(times(once), 1.0f) << once;
  for (const char* twice : {"4.45.0.dev0", "4.45", "4.100.1", "5.0.0"})
    EXPECT_EQ(times(twice), 2.0f) << twice;
}

TEST(FalconConfig, SlopesAreRoundedToBfloat16) {
  const auto config = read_config(with(kFalcon, R"({"alibi": true, "num_attention_heads": 16})"));
  ASSERT_EQ(config.alibi.slopes.size(), 16u);
  EXPECT_EQ(config.alibi.slopes[0], core::to_float(core::to_bfloat16(std::sqrt(0.5f))));
  EXPECT_NE(config.alibi.slopes[0], std::sqrt(0.5f));
}

TEST(FalconConfig, FirstPublishedFilesAreRead) {
  const auto seven = read_config(R"({"alibi": false, "apply_residual_connection_post_layernorm": false,
    "architectures": ["RWForCausalLM"], "attention_dropout": 0.0, "bias": false, "hidden_size": 4544,
    "layer_norm_epsilon": 1e-05, "model_type": "RefinedWebModel", "multi_query": true, "n_head": 71, "n_layer": 32,
    "parallel_attn": true, "torch_dtype": "bfloat16", "vocab_size": 65024})");
  EXPECT_EQ(seven.layers, 32);
  EXPECT_EQ(seven.heads, 71);
  EXPECT_EQ(seven.kv_heads, 1);
  EXPECT_EQ(seven.head_dim, 64);
  EXPECT_EQ(seven.intermediate_size, 18176);
  const auto forty = read_config(R"({"alibi": false, "apply_residual_connection_post_layernorm": false,
    "architectures": ["RWForCausalLM"], "bias": false, "n_embed": 8192, "layer_norm_epsilon": 1e-05,
    "model_type": "RefinedWeb", "n_head": 128, "n_head_kv": 8, "n_layer": 60, "vocab_size": 65024})");
  EXPECT_EQ(forty.hidden_size, 8192);
  EXPECT_EQ(forty.kv_heads, 8);
  EXPECT_EQ(forty.residual, ResidualOrder::kParallelTwoNorms);
}

TEST(LlamaConfig, DefaultsAndOptions) {
  const auto config = read_config(kLlama);
  EXPECT_EQ(config.kv_heads, 6);
  EXPECT_EQ(config.head_dim, 8);
  EXPECT_EQ(config.norm, ops::NormKind::kRms);
  EXPECT_FLOAT_EQ(config.norm_epsilon, 1e-6f);
  EXPECT_FALSE(config.norm_bias || config.qkv_bias || config.mlp_up_bias || config.tied_head);
  EXPECT_TRUE(config.gated_mlp);
  EXPECT_EQ(config.activation, ops::Activation::kSilu);
  EXPECT_EQ(config.residual, ResidualOrder::kSequential);

  const auto other =
      read_config(with(kLlama, R"({"head_dim": 32, "num_key_value_heads": 2, "attention_bias": true,
    "mlp_bias": true, "tie_word_embeddings": true, "rope_theta": 500000, "hidden_act": "gelu_pytorch_tanh"})"));
  EXPECT_EQ(other.head_dim, 32);
  EXPECT_EQ(other.rotary.dim, 32);
  EXPECT_EQ(other.kv_heads, 2);
  EXPECT_TRUE(other.qkv_bias && other.attention_out_bias && other.mlp_up_bias && other.mlp_down_bias &&
              other.tied_head);
  EXPECT_EQ(other.rotary.theta, 500000.0);
  EXPECT_EQ(other.activation, ops::Activation::kGeluTanh);
  // A hidden size that heads do not divide is fine where the head size is given.
  EXPECT_EQ(read_config(with(kLlama, R"({"head_dim": 8, "hidden_size": 50})")).hidden_size, 50);
}

TEST(LlamaConfig, NewerFilesKeepRotaryParametersInOneObject) {
  const auto config = read_config(
      with(kLlama, R"({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 25000}})"));
  EXPECT_EQ(config.rotary.theta, 25000.0);
  EXPECT_EQ(config.rotary.scaling, RotaryScaling::kLinear);
}

TEST(GptNeoxConfig, DefaultsAndOptions) {
  const auto config = read_config(kNeox);
  EXPECT_EQ(config.rotary.dim, 4);  // a quarter of 16
  EXPECT_EQ(config.residual, ResidualOrder::kParallelTwoNorms);
  EXPECT_TRUE(config.qkv_bias && config.attention_out_bias && config.mlp_up_bias && config.mlp_down_bias);
  EXPECT_FALSE(config.tied_head);
  const auto other = read_config(with(kNeox, R"({"use_parallel_residual": false, "rotary_pct": 1.0,
    "attention_bias": false, "rotary_emb_base": 25000, "hidden_act": "gelu_fast"})"));
  EXPECT_EQ(other.residual, ResidualOrder::kSequential);
  EXPECT_EQ(other.rotary.dim, 16);
  EXPECT_EQ(other.rotary.theta, 25000.0);
  EXPECT_EQ(other.activation, ops::Activation::kGeluTanh);
  EXPECT_FALSE(other.qkv_bias || other.attention_out_bias);
  EXPECT_TRUE(other.mlp_up_bias);
}

TEST(RopeScaling, TypesAndTheLengthTheyReach) {
  const auto scaled = [](const char* rope) {
    return read_config(with(
        kLlama, fmt::format(R"({{"max_position_embeddings": 1000, "rope_scaling": {}}})", rope).c_str()));
  };
  EXPECT_EQ(scaled("null").rotary.scaling, RotaryScaling::kNone);
  EXPECT_EQ(scaled("null").max_positions, 1000);
  EXPECT_EQ(scaled(R"({"rope_type": "default"})").rotary.scaling, RotaryScaling::kNone);
  const auto linear = scaled(R"({"type": "linear", "factor": 2.5})");
  EXPECT_EQ(linear.rotary.scaling, RotaryScaling::kLinear);
  EXPECT_EQ(linear.rotary.factor, 2.5);
  EXPECT_EQ(linear.max_positions, 2500);
  const auto dynamic = scaled(R"({"rope_type": "dynamic", "factor": 2})");
  EXPECT_EQ(dynamic.rotary.original_max_positions, 1000);
  EXPECT_EQ(dynamic.max_positions, 2000);
  const auto yarn = scaled(R"({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 500,
                               "beta_fast": 16, "attention_factor": 1.5})");
  EXPECT_EQ(yarn.rotary.original_max_positions, 500);
  EXPECT_EQ(yarn.rotary.beta_fast, 16.0);
  EXPECT_EQ(yarn.rotary.beta_slow, 1.0);
  EXPECT_EQ(yarn.rotary.attention_factor, 1.5);
  EXPECT_EQ(yarn.max_positions, 2000);
  const auto llama3 = scaled(R"({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                                 "high_freq_factor": 4.0, "original_max_position_embeddings": 250})");
  EXPECT_EQ(llama3.rotary.original_max_positions, 250);
  EXPECT_EQ(llama3.max_positions, 1000);
}

struct Refusal {
  std::string name;
  const char* base;
  const char* changes;
  ErrorKind kind;
  std::string message;  ///< What it must contain.
};

void PrintTo(const Refusal& refusal, std::ostream* out) { *out << refusal.changes; }

class RefusedConfig : public ::testing::TestWithParam<Refusal> {};

TEST_P(RefusedConfig, NamesTheKeyAndWhatIsAllowed) {
  const auto error = caught([] { read_config(with(GetParam().base, GetParam().changes)); });
  ASSERT_TRUE(error.kind) << error.message;
  EXPECT_EQ(*error.kind, GetParam().kind) << error.message;
  EXPECT_THAT(error.message, HasSubstr(GetParam().message));
}

constexpr auto kInvalid = ErrorKind::kInvalidArgument;
constexpr auto kUnsupported = ErrorKind::kUnsupported;

INSTANTIATE_TEST_SUITE_P(
    Sizes, RefusedConfig,
    ::testing::Values(
        Refusal{"no_vocabulary", kFalcon, R"({"vocab_size": "<erase>"})", kInvalid,
                "'vocab_size' is missing"},
        Refusal{"no_hidden", kLlama, R"({"hidden_size": "<erase>"})", kInvalid, "'hidden_size' is missing"},
        Refusal{"no_layers", kNeox, R"({"num_hidden_layers": null})", kInvalid,
                "'num_hidden_layers' is missing"},
        Refusal{"no_heads", kNeox, R"({"num_attention_heads": "<erase>"})", kInvalid,
                "'num_attention_heads' is missing"},
        Refusal{"no_intermediate", kLlama, R"({"intermediate_size": "<erase>"})", kInvalid,
                "'intermediate_size' is missing"},
        Refusal{"vocabulary_text", kFalcon, R"({"vocab_size": "100"})", kInvalid,
                "'vocab_size' must be an integer"},
        Refusal{"vocabulary_huge", kFalcon, R"({"vocab_size": 16777217})", kInvalid, "from 1 to 16777216"},
        Refusal{"hidden_zero", kFalcon, R"({"hidden_size": 0})", kInvalid,
                "'hidden_size' must be an integer from 1"},
        Refusal{"hidden_huge", kFalcon, R"({"hidden_size": 1048577})", kInvalid, "from 1 to 1048576"},
        Refusal{"hidden_float", kFalcon, R"({"hidden_size": 48.5})", kInvalid,
                "'hidden_size' must be an integer"},
        Refusal{"hidden_two_names", kFalcon, R"({"n_embed": 64})", kInvalid,
                "'n_embed' are two names of one thing"},
        Refusal{"layers_negative", kLlama, R"({"num_hidden_layers": -1})", kInvalid, "from 1 to 1024"},
        Refusal{"layers_huge", kLlama, R"({"num_hidden_layers": 1025})", kInvalid,
                "from 1 to 1024, found 1025"},
        Refusal{"layers_beyond_64_bits", kLlama, R"({"num_hidden_layers": 18446744073709551615})", kInvalid,
                "from 1 to 1024"},
        Refusal{"heads_do_not_divide", kFalcon, R"({"num_attention_heads": 7})", kInvalid,
                "hidden_size (48) must be a multiple of num_attention_heads (7)"},
        Refusal{"head_size_huge", kLlama, R"({"hidden_size": 1048576, "num_attention_heads": 1})", kInvalid,
                "must be at most 16384"},
        Refusal{"head_dim_list", kLlama, R"({"head_dim": [8]})", kInvalid, "'head_dim' must be an integer"},
        Refusal{"head_odd", kFalcon, R"({"hidden_size": 42})", kInvalid, "must be even"},
        Refusal{"kv_heads_do_not_divide", kLlama, R"({"num_key_value_heads": 4})", kInvalid,
                "num_key_value_heads (4) must divide num_attention_heads (6)"},
        Refusal{"kv_heads_too_many", kLlama, R"({"num_key_value_heads": 12})", kInvalid, "from 1 to 6"},
        Refusal{"falcon_kv_heads_do_not_divide", kFalcon,
                R"({"new_decoder_architecture": true, "num_kv_heads": 4})", kInvalid,
                "num_kv_heads (4) must divide"},
        Refusal{"falcon_kv_heads_differ", kFalcon, R"({"multi_query": false, "num_kv_heads": 3})", kInvalid,
                "num_kv_heads (3) must equal"},
        Refusal{"intermediate_huge", kNeox, R"({"intermediate_size": 5000000})", kInvalid,
                "'intermediate_size' must be"},
        Refusal{"positions_zero", kNeox, R"({"max_position_embeddings": 0})", kInvalid,
                "'max_position_embeddings'"},
        Refusal{"epsilon_negative", kLlama, R"({"rms_norm_eps": -1e-5})", kInvalid,
                "'rms_norm_eps' must be a number"},
        Refusal{"epsilon_text", kFalcon, R"({"layer_norm_epsilon": "small"})", kInvalid,
                "'layer_norm_epsilon' must be a number"}),
    [](const auto& info) { return info.param.name; });

INSTANTIATE_TEST_SUITE_P(
    Choices, RefusedConfig,
    ::testing::Values(
        Refusal{"activation_unknown", kLlama, R"({"hidden_act": "mish"})", kUnsupported,
                "'hidden_act' is 'mish'; supported are gelu, gelu_new"},
        Refusal{"activation_number", kFalcon, R"({"activation": 1})", kInvalid,
                "'activation' must be a string"},
        Refusal{"falcon_flag_text", kFalcon, R"({"bias": "no"})", kInvalid, "'bias' must be true or false"},
        Refusal{"falcon_post_norm", kFalcon, R"({"apply_residual_connection_post_layernorm": true})",
                kUnsupported, "'apply_residual_connection_post_layernorm' is true"},
        Refusal{"falcon_new_sequential", kFalcon,
                R"({"new_decoder_architecture": true, "parallel_attn": false})", kUnsupported,
                "'parallel_attn' is false"},
        Refusal{"falcon_old_two_norms", kFalcon, R"({"num_ln_in_parallel_attn": 2})", kUnsupported,
                "'num_ln_in_parallel_attn' is 2"},
        Refusal{"falcon_three_norms", kFalcon,
                R"({"new_decoder_architecture": true, "num_ln_in_parallel_attn": 3})", kInvalid,
                "from 1 to 2"},
        Refusal{"quantized", kLlama, R"({"quantization_config": {"quant_method": "gptq"}})", kUnsupported,
                "'quantization_config'"},
        Refusal{"llama_partial_rotary", kLlama, R"({"partial_rotary_factor": 0.5})", kUnsupported,
                "'partial_rotary_factor' must be 1"},
        Refusal{"neox_no_rotary", kNeox, R"({"rotary_pct": 0.0})", kInvalid, "at least 2"},
        Refusal{"neox_rotary_beyond", kNeox, R"({"rotary_pct": 1.5})", kInvalid,
                "'rotary_pct' must be a number from 0 to 1"},
        Refusal{"theta_zero", kLlama, R"({"rope_theta": 0})", kInvalid, "'rope_theta' must be a number"},
        Refusal{"rope_list", kLlama, R"({"rope_scaling": []})", kInvalid,
                "'rope_scaling' must be an object or null"},
        Refusal{"rope_unknown", kLlama, R"({"rope_scaling": {"type": "xpos", "factor": 2}})", kUnsupported,
                "'type' is 'xpos'; supported are default, linear, dynamic, yarn, llama3 and longrope"},
        Refusal{
            "rope_longrope_factors", kLlama,
            R"({"rope_scaling": {"type": "longrope", "short_factor": [1, 1, 1], "long_factor": [1, 1, 1]}})",
            kInvalid, "'short_factor' must have 4 numbers"},
        Refusal{"rope_longrope_mscale", kLlama,
                R"({"rope_scaling": {"type": "longrope", "short_mscale": 1.1}})", kUnsupported,
                "'short_mscale' is not supported"},
        Refusal{"rope_no_type", kLlama, R"({"rope_scaling": {"factor": 2.0}})", kInvalid,
                "'rope_type' is missing"},
        Refusal{"rope_no_factor", kLlama, R"({"rope_scaling": {"type": "linear"}})", kInvalid,
                "'factor' is missing"},
        Refusal{"rope_small_factor", kLlama, R"({"rope_scaling": {"type": "linear", "factor": 0.5}})",
                kInvalid, "'factor' must be a number from 1"},
        Refusal{"rope_dynamic_narrow", kNeox,
                R"({"rotary_pct": 0.125, "rope_scaling": {"type": "dynamic", "factor": 2}})", kInvalid,
                "needs a rotary width above 2"},
        Refusal{"rope_yarn_betas", kLlama,
                R"({"rope_scaling": {"type": "yarn", "factor": 2, "beta_fast": 1, "beta_slow": 32}})",
                kInvalid, "beta_fast (1) must be greater than beta_slow (32)"},
        Refusal{"rope_yarn_mscale", kLlama,
                R"({"rope_scaling": {"type": "yarn", "factor": 2, "mscale": 0.7}})", kUnsupported,
                "'mscale' is not supported"},
        Refusal{"rope_llama3_incomplete", kLlama, R"({"rope_scaling": {"rope_type": "llama3", "factor": 8,
                "low_freq_factor": 1, "high_freq_factor": 4}})",
                kInvalid, "'original_max_position_embeddings' is missing"},
        Refusal{"rope_llama3_factors", kLlama, R"({"rope_scaling": {"rope_type": "llama3", "factor": 8,
                "low_freq_factor": 4, "high_freq_factor": 4, "original_max_position_embeddings": 64}})",
                kInvalid, "high_freq_factor (4) must be greater than low_freq_factor (4)"}),
    [](const auto& info) { return info.param.name; });

TEST(FindFamily, PrefersTheArchitectureAndListsWhatThereIs) {
  EXPECT_EQ(find_family("LlamaForCausalLM", "falcon").name, "llama");
  EXPECT_EQ(find_family("gpt_neox", "gpt_neox").name, "gpt_neox");
  EXPECT_EQ(find_family("", "RefinedWeb").name, "falcon");
  // Another head on the same body is another model.
  const auto error = caught([] { find_family("LlamaForSequenceClassification", "llama"); });
  EXPECT_EQ(error.kind, ErrorKind::kUnsupported);
  EXPECT_THAT(error.message, HasSubstr("LlamaForSequenceClassification"));
  for (const Family* family : families()) {
    ASSERT_FALSE(family->architectures.empty());
    for (const auto name : family->architectures) EXPECT_THAT(error.message, HasSubstr(std::string(name)));
  }
}

}  // namespace
}  // namespace peregrine::model
