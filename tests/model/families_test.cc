// SPDX-License-Identifier: Apache-2.0
// What each family makes of its config.json, and the slots it declares. The mathematics is in the golden
// tests.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <cmath>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "model/support.h"

namespace peregrine::model {
namespace {

using core::ErrorKind;
using ::testing::HasSubstr;

/// A small model of one family: `extra` members after the common ones.
std::string small(const std::string& type, const std::string& extra) {
  return R"({"model_type": ")" + type + R"(", "vocab_size": 100, "hidden_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 6, "intermediate_size": 96)" +
         (extra.empty() ? "" : ", " + extra) + "}";
}

TEST(Family, Bloom) {
  const auto config = read_config(small("bloom", ""));
  EXPECT_EQ(config.positions, PositionKind::kAlibi);
  EXPECT_EQ(config.alibi.scale, 1.0f);
  ASSERT_EQ(config.alibi.slopes.size(), 6u);
  EXPECT_FLOAT_EQ(config.alibi.slopes[0], 0.25f);        // 2^(-8/4)
  EXPECT_FLOAT_EQ(config.alibi.slopes[3], 0.00390625f);  // 2^-8
  EXPECT_FLOAT_EQ(config.alibi.slopes[4], 0.5f);         // 2^(-8/8): the finer sequence's first and third
  EXPECT_FLOAT_EQ(config.alibi.slopes[5], 0.125f);
  EXPECT_TRUE(config.embedding_norm && config.tied_head && config.qkv_bias);
  EXPECT_EQ(config.residual, ResidualOrder::kSequential);
  const auto normed = read_config(small("bloom", R"("apply_residual_connection_post_layernorm": true)"));
  EXPECT_EQ(normed.residual, ResidualOrder::kNormedResidual);
}

TEST(Family, Gemma) {
  const auto config =
      read_config(small("gemma", R"("head_dim": 16, "num_key_value_heads": 1, "hidden_act": "gelu")"));
  EXPECT_EQ(config.head_dim, 16);
  EXPECT_EQ(config.activation, ops::Activation::kGeluTanh) << "hidden_act is ignored";
  EXPECT_EQ(config.norm_weight_offset, 1.0f);
  EXPECT_FLOAT_EQ(config.embedding_scale, std::sqrt(48.0f));
  EXPECT_TRUE(config.tied_head);
  const auto error = caught([] { read_config(small("gemma", "")); });
  EXPECT_THAT(error.message, HasSubstr("'head_dim' is missing"));
}

TEST(Family, Gemma2) {
  const auto config = read_config(small("gemma2", R"("head_dim": 16, "query_pre_attn_scalar": 25,
    "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "sliding_window": 64)"));
  EXPECT_EQ(config.residual, ResidualOrder::kSandwich);
  EXPECT_FLOAT_EQ(config.attention_scale, 0.2f);
  EXPECT_EQ(config.attention_soft_cap, 50.0f);
  EXPECT_EQ(config.logit_soft_cap, 30.0f);
  EXPECT_EQ(config.window, 64);
  EXPECT_EQ(config.window_layers, WindowLayers::kEven);
  const auto bare = read_config(small("gemma2", R"("head_dim": 16, "query_pre_attn_scalar": 25,
    "attn_logit_softcapping": null, "final_logit_softcapping": null)"));
  EXPECT_EQ(bare.attention_soft_cap, 0.0f);
  EXPECT_EQ(bare.logit_soft_cap, 0.0f);
  EXPECT_EQ(bare.window, 4096);
}

TEST(Family, Gpt2) {
  const auto config = read_config(R"({"model_type": "gpt2", "vocab_size": 100, "n_embd": 48, "n_layer": 2,
    "n_head": 6, "n_positions": 64, "n_inner": null})");
  EXPECT_EQ(config.positions, PositionKind::kLearned);
  EXPECT_EQ(config.learned.rows, 64);
  EXPECT_EQ(config.learned.offset, 0);
  EXPECT_EQ(config.max_positions, 64);
  EXPECT_EQ(config.intermediate_size, 192);
  EXPECT_FALSE(config.attention_scale_by_layer);
  const auto scaled = read_config(small("gpt2", R"("scale_attn_weights": false,
    "scale_attn_by_inverse_layer_idx": true)"));
  EXPECT_EQ(scaled.attention_scale, 1.0f);
  EXPECT_TRUE(scaled.attention_scale_by_layer);
  // Conv1D: [in, out], so that rows of the slot are columns of the tensor.
  const auto slots = find_family("", "gpt2").layer_slots(config, 1);
  for (const auto& slot : slots) {
    const bool matrix = slot.parts.at(0).tensor_shape.size() == 2;
    EXPECT_EQ(slot.transposed, matrix) << to_string(slot.slot);
    if (slot.slot == Slot::kQkv) {
      EXPECT_EQ(slot.parts[2].tensor, "transformer.h.1.attn.c_attn.weight");
      EXPECT_EQ(slot.parts[2].tensor_shape, (std::vector<std::int64_t>{48, 144}));
      EXPECT_EQ(slot.parts[2].rows.first, 96);
    }
  }
}

TEST(Family, GptBigCode) {
  EXPECT_EQ(read_config(small("gpt_bigcode", "")).kv_heads, 1);
  EXPECT_EQ(read_config(small("gpt_bigcode", R"("multi_query": false)")).kv_heads, 6);
}

TEST(Family, GptJ) {
  const auto config = read_config(small("gptj", R"("rotary_dim": 4)"));
  EXPECT_EQ(config.rotary.style, ops::RotaryStyle::kPairs);
  EXPECT_EQ(config.rotary.dim, 4);
  EXPECT_EQ(config.residual, ResidualOrder::kParallelOneNorm);
  EXPECT_TRUE(config.head_bias && !config.qkv_bias && config.mlp_up_bias);
  const auto error = caught([] { read_config(small("gptj", "")); });  // 64 of 8
  EXPECT_THAT(error.message, HasSubstr("found 64 of 8"));
}

TEST(Family, Mistral) {
  EXPECT_EQ(read_config(small("mistral", R"("sliding_window": null)")).window, 0);
  EXPECT_EQ(read_config(small("mistral", R"("sliding_window": 8)")).window, 8);
  EXPECT_EQ(read_config(small("mistral", "")).window, 4096) << "as transformers has it";
  const auto error = caught([] { read_config(small("mistral", R"("sliding_window": 0)")); });
  EXPECT_THAT(error.message, HasSubstr("'sliding_window' must be an integer from 1"));
}

TEST(Family, Mixtral) {
  const auto config = read_config(small("mixtral", R"("num_local_experts": 8, "num_experts_per_tok": 2,
    "sliding_window": null)"));
  EXPECT_EQ(config.experts.count, 8);
  EXPECT_EQ(config.experts.per_token, 2);
  EXPECT_TRUE(config.experts.normalized && config.experts.in_layer(0) && !config.experts.has_shared());
  EXPECT_EQ(config.experts.intermediate_size, 96);
  EXPECT_EQ(config.window, 0);
  EXPECT_EQ(config.rotary.theta, 1e6) << "as transformers has it";
  const auto window = read_config(small("mixtral", R"("num_local_experts": 2, "num_experts_per_tok": 2,
    "sliding_window": 16, "rope_theta": 5000)"));
  EXPECT_EQ(window.window, 16);
  EXPECT_EQ(window.rotary.theta, 5000.0);
  const auto slots = find_family("", "mixtral").layer_slots(config, 1);
  const auto& last = slots.at(slots.size() - 2);
  EXPECT_EQ(last.slot, Slot::kExpertUp);
  EXPECT_EQ(last.expert, 7);
  EXPECT_EQ(last.parts.at(0).tensor, "model.layers.1.block_sparse_moe.experts.7.w1.weight");
  EXPECT_EQ(last.parts.at(1).tensor, "model.layers.1.block_sparse_moe.experts.7.w3.weight");
  EXPECT_EQ(slots.back().parts.at(0).tensor, "model.layers.1.block_sparse_moe.experts.7.w2.weight");
}

/// What a family with experts refuses, by name; `rest` is what it wants besides the counts.
void expect_expert_errors(const std::string& type, const std::string& rest) {
  const auto message = [&](const std::string& experts) {
    const auto error = caught([&] { read_config(small(type, experts + rest)); });
    EXPECT_EQ(error.kind, ErrorKind::kInvalidArgument) << experts;
    return error.message;
  };
  EXPECT_THAT(message(R"("num_experts_per_tok": 2)"), HasSubstr("'num_experts' is missing"));
  EXPECT_THAT(message(R"("num_experts": 4)"), HasSubstr("'num_experts_per_tok' is missing"));
  EXPECT_THAT(message(R"("num_experts": 0, "num_experts_per_tok": 1)"), HasSubstr("from 1 to 4096"));
  EXPECT_THAT(message(R"("num_experts": 4, "num_experts_per_tok": 5)"),
              HasSubstr("num_experts_per_tok (5) must be at most the number of experts (4)"));
}

TEST(Family, MixtralRefusesWrongCounts) { expect_expert_errors("mixtral", ""); }

TEST(Family, Mpt) {
  const char* base = R"({"model_type": "mpt", "vocab_size": 100, "d_model": 48, "n_layers": 2, "n_heads": 6,
    "max_seq_len": 77, "attn_config": )";
  const auto config = read_config(std::string(base) + R"({"clip_qkv": 6.0}})");
  EXPECT_EQ(config.max_positions, 77);
  EXPECT_EQ(config.qkv_clip, 6.0f);
  EXPECT_FALSE(config.norm_bias || config.qkv_bias || config.mlp_up_bias);
  // Of eight: the second, fourth, sixth and eighth, then the first and third.
  const std::vector<float> slopes = {0.25f, 0.0625f, 0.015625f, 0.00390625f, 0.5f, 0.125f};
  EXPECT_EQ(config.alibi.slopes, slopes);
  for (const char* refused : {R"({"alibi": false}})", R"({"qk_ln": true}})", R"({"prefix_lm": true}})",
                              R"({"attn_type": "grouped_query_attention"}})", R"({}, "no_bias": false})",
                              R"({}, "logit_scale": 0.5})"}) {
    const auto error = caught([&] { read_config(std::string(base) + refused); });
    EXPECT_EQ(error.kind, ErrorKind::kUnsupported) << refused;
  }
}

TEST(Family, Opt) {
  const auto config = read_config(small("opt", R"("ffn_dim": 96, "max_position_embeddings": 64)"));
  EXPECT_EQ(config.learned.rows, 66);
  EXPECT_EQ(config.learned.offset, 2);
  EXPECT_EQ(config.residual, ResidualOrder::kSequential);
  EXPECT_TRUE(config.final_norm && config.tied_head);
  EXPECT_EQ(config.embedding_width(), 48);
  const auto post = read_config(small("opt", R"("do_layer_norm_before": false, "word_embed_proj_dim": 32)"));
  EXPECT_EQ(post.residual, ResidualOrder::kPostNorm);
  EXPECT_FALSE(post.final_norm);
  EXPECT_EQ(post.embedding_width(), 32);
}

TEST(Family, Phi) {
  const auto config = read_config(small("phi", R"("num_key_value_heads": 3)"));
  EXPECT_EQ(config.rotary.dim, 4);  // half of 8
  EXPECT_EQ(config.kv_heads, 3);
  EXPECT_EQ(config.residual, ResidualOrder::kParallelOneNorm);
  EXPECT_TRUE(config.head_bias && config.qkv_bias && !config.tied_head);
  const auto error = caught([] { read_config(small("phi", R"("qk_layernorm": true)")); });
  EXPECT_EQ(error.kind, ErrorKind::kUnsupported);
}

TEST(Family, Phi3) {
  const auto config = read_config(small("phi3", R"("max_position_embeddings": 512,
    "original_max_position_embeddings": 128, "rope_scaling": {"type": "su",
    "short_factor": [1, 1.5, 2, 2], "long_factor": [2, 3, 4, 5]})"));
  EXPECT_EQ(config.rotary.scaling, RotaryScaling::kLongRope);
  EXPECT_EQ(config.rotary.original_max_positions, 128);
  EXPECT_EQ(config.rotary.factor, 4.0);
  EXPECT_EQ(config.max_positions, 512) << "the stored length is the extended one";
  EXPECT_EQ(config.rotary.long_factors, (std::vector<double>{2, 3, 4, 5}));
}

TEST(Family, Qwen2) {
  const auto config = read_config(small("qwen2", R"("sliding_window": 32, "use_sliding_window": false)"));
  EXPECT_TRUE(config.qkv_bias && !config.attention_out_bias);
  EXPECT_EQ(config.window, 0);
  const auto error = caught([] { read_config(small("qwen2", R"("use_sliding_window": true)")); });
  EXPECT_EQ(error.kind, ErrorKind::kUnsupported);
}

TEST(Family, Qwen2Moe) {
  const std::string sizes = R"("num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 20)";
  const std::string shared = R"(, "shared_expert_intermediate_size": 30)";
  const auto config = read_config(small("qwen2_moe", sizes + shared));
  EXPECT_TRUE(config.qkv_bias && !config.attention_out_bias && !config.experts.normalized);
  EXPECT_TRUE(config.experts.in_layer(0) && config.experts.in_layer(1));
  EXPECT_EQ(config.experts.intermediate_size, 20);
  EXPECT_EQ(config.experts.all(), 6);
  EXPECT_EQ(config.experts.of_token(), 3);
  const auto sparse =
      read_config(small("qwen2_moe", sizes + shared + R"(, "decoder_sparse_step": 2, "mlp_only_layers": [0],
        "norm_topk_prob": true, "qkv_bias": false)"));
  EXPECT_EQ(sparse.experts.dense_layers, std::vector<std::int32_t>{0});
  EXPECT_TRUE(sparse.experts.normalized && !sparse.qkv_bias);
  expect_expert_errors("qwen2_moe", R"(, "moe_intermediate_size": 20)" + shared);
  const auto message = [&](const std::string& text) {
    return caught([&] { read_config(small("qwen2_moe", text)); }).message;
  };
  EXPECT_THAT(message(sizes), HasSubstr("'shared_expert_intermediate_size' is missing"));
  EXPECT_THAT(message(sizes + shared + R"(, "decoder_sparse_step": 0)"), HasSubstr("'decoder_sparse_step'"));
  EXPECT_THAT(message(sizes + shared + R"(, "mlp_only_layers": [2])"), HasSubstr("from 0 to 1"));
  EXPECT_THAT(message(sizes + shared + R"(, "use_sliding_window": true)"),
              HasSubstr("only false is supported"));
}

TEST(Family, Qwen3) {
  const auto config = read_config(small("qwen3", R"("head_dim": 16, "sliding_window": 32)"));
  EXPECT_EQ(config.head_dim, 16);
  EXPECT_EQ(config.rotary.dim, 16);
  EXPECT_EQ(config.window, 0);
  EXPECT_TRUE(config.head_norms && !config.qkv_bias && !config.tied_head);
  EXPECT_EQ(read_config(small("qwen3", "")).head_dim, 128) << "as transformers has it";
  const auto biased = read_config(small("qwen3", R"("attention_bias": true)"));
  EXPECT_TRUE(biased.qkv_bias && biased.attention_out_bias);
  const auto error = caught([] { read_config(small("qwen3", R"("use_sliding_window": true)")); });
  EXPECT_EQ(error.kind, ErrorKind::kUnsupported);
  for (const auto& slot : find_family("", "qwen3").layer_slots(config, 1)) {
    if (slot.slot != Slot::kQueryNorm) continue;
    ASSERT_EQ(slot.parts.size(), 6u) << "the same weights for every head";
    for (const auto& part : slot.parts) EXPECT_EQ(part.tensor, "model.layers.1.self_attn.q_norm.weight");
  }
}

TEST(Family, Qwen3Moe) {
  const std::string sizes = R"("num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 20)";
  const auto config = read_config(small("qwen3_moe", sizes + R"(, "norm_topk_prob": true)"));
  EXPECT_TRUE(config.head_norms && !config.qkv_bias && config.experts.normalized);
  EXPECT_EQ(config.head_dim, 8);
  EXPECT_FALSE(config.experts.has_shared());
  EXPECT_FALSE(read_config(small("qwen3_moe", sizes)).experts.normalized);
  expect_expert_errors("qwen3_moe", R"(, "moe_intermediate_size": 20)");
}

TEST(Family, StableLm) {
  const auto config = read_config(small("stablelm", ""));
  EXPECT_EQ(config.rotary.dim, 2);  // a quarter of 8
  EXPECT_EQ(config.norm, ops::NormKind::kLayer);
  EXPECT_TRUE(config.norm_bias && !config.qkv_bias && !config.head_norms);
  const auto parallel =
      read_config(small("stablelm", R"("use_parallel_residual": true, "qk_layernorm": true)"));
  EXPECT_EQ(parallel.residual, ResidualOrder::kParallelOneNorm);
  EXPECT_TRUE(parallel.head_norms);
}

TEST(Family, Starcoder2) {
  const auto config = read_config(small("starcoder2", R"("sliding_window": 4096)"));
  EXPECT_EQ(config.window, 4096);
  EXPECT_TRUE(config.tied_head && config.qkv_bias && config.mlp_down_bias && !config.gated_mlp);
  EXPECT_FALSE(read_config(small("starcoder2", R"("use_bias": false)")).qkv_bias);
}

/// What kind of slot must be cut how.
void expect_cut(const SlotSource& slot, const std::string& family) {
  const std::string what = family + ": " + to_string(slot.slot);
  switch (slot.slot) {
    case Slot::kTokenEmbedding:
    case Slot::kHead:
    case Slot::kHeadBias:
      EXPECT_EQ(slot.cut, Cut::kVocabulary) << what;
      break;
    case Slot::kQkv:
    case Slot::kQkvBias:
      EXPECT_EQ(slot.cut, Cut::kHeadGroup) << what;
      ASSERT_EQ(slot.parts.size(), 3u) << what;
      EXPECT_EQ(slot.parts[0].name + slot.parts[1].name + slot.parts[2].name, "qkv");
      break;
    case Slot::kQueryNorm:
    case Slot::kKeyNorm:
    case Slot::kCrossQuery:
    case Slot::kCrossKeyValue:
      EXPECT_EQ(slot.cut, Cut::kHeadGroup) << what;
      break;
    case Slot::kMlpUp:
    case Slot::kMlpUpBias:
    case Slot::kExpertUp:
      EXPECT_EQ(slot.cut, Cut::kColumn) << what;
      break;
    case Slot::kAttentionOut:
    case Slot::kCrossOut:
    case Slot::kMlpDown:
    case Slot::kExpertDown:
      EXPECT_EQ(slot.cut, Cut::kRow) << what;
      break;
    default:
      EXPECT_EQ(slot.cut, Cut::kReplicated) << what;
      break;
  }
}

/// One configuration of each family at least; every choice that changes the list of slots.
const std::vector<std::string>& every_family() {
  const std::string t5_sizes = R"("d_model": 48, "d_kv": 10, "d_ff": 96, "num_layers": 2, "num_heads": 6)";
  static const std::vector<std::string> configs = {
      small("bloom", ""),
      small("bloom", R"("apply_residual_connection_post_layernorm": true, "tie_word_embeddings": false)"),
      small("falcon", ""),
      small("falcon", R"("alibi": true, "bias": true, "parallel_attn": false, "multi_query": false)"),
      small("falcon", R"("new_decoder_architecture": true, "num_kv_heads": 2, "bias": true)"),
      small("gemma", R"("head_dim": 16, "attention_bias": true)"),
      small("gemma2", R"("head_dim": 16, "query_pre_attn_scalar": 25)"),
      small("gpt2", ""),
      small("gpt2", R"("tie_word_embeddings": false)"),
      small("gpt_bigcode", ""),
      small("gpt_bigcode", R"("multi_query": false)"),
      small("gpt_neox", ""),
      small("gptj", R"("rotary_dim": 4)"),
      small("llama", R"("attention_bias": true, "mlp_bias": true)"),
      small("mistral", R"("tie_word_embeddings": true)"),
      small("mixtral", R"("num_local_experts": 8, "num_experts_per_tok": 2)"),
      small("mpt", ""),
      small("opt", ""),
      small("opt", R"("do_layer_norm_before": false, "word_embed_proj_dim": 32, "enable_bias": false)"),
      small("phi", ""),
      small("phi3", R"("num_key_value_heads": 2)"),
      small("qwen2", ""),
      small("qwen2_moe", R"("num_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 20,
        "shared_expert_intermediate_size": 30)"),
      small("qwen2_moe", R"("num_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 20,
        "shared_expert_intermediate_size": 30, "mlp_only_layers": [1])"),
      small("qwen3", R"("tie_word_embeddings": true, "attention_bias": true)"),
      small("qwen3_moe", R"("num_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 20)"),
      small("stablelm", ""),
      small("stablelm", R"("use_parallel_residual": true, "qk_layernorm": true, "use_qkv_bias": true)"),
      small("starcoder2", ""),
      small("starcoder2", R"("use_bias": false)"),
      small("t5", t5_sizes + R"(, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": false)"),
      small("t5", t5_sizes),
  };
  return configs;
}

TEST(Families, EveryOneIsTried) {
  std::set<std::string> tried;
  for (const auto& text : every_family()) tried.insert(read_config(text).family);
  for (const Family* family : families())
    EXPECT_TRUE(tried.contains(std::string(family->name))) << family->name;
}

TEST(Families, DeclareEverySlotOnceWithItsCut) {
  for (const auto& text : every_family()) {
    const DecoderConfig config = read_config(text);
    const Family& family = find_family("", config.family);
    std::set<Slot> seen;
    std::set<std::pair<Slot, std::int32_t>> declared;  // with the number of the expert
    auto slots = family.model_slots(config);
    for (auto& slot : family.layer_slots(config, 1)) slots.push_back(slot);
    for (const auto& slot : slots) {
      seen.insert(slot.slot);
      EXPECT_TRUE(declared.insert({slot.slot, slot.expert}).second)
          << config.family << ": " << to_string(slot.slot) << " " << slot.expert << " twice";
      expect_cut(slot, config.family);
    }
    EXPECT_EQ(seen.contains(Slot::kHead), !config.tied_head) << text;
    EXPECT_EQ(seen.contains(Slot::kHeadBias), config.head_bias) << text;
    EXPECT_EQ(seen.contains(Slot::kQkvBias), config.qkv_bias) << text;
    EXPECT_EQ(seen.contains(Slot::kAttentionOutBias), config.attention_out_bias) << text;
    EXPECT_EQ(seen.contains(Slot::kMlpUpBias), config.mlp_up_bias) << text;
    EXPECT_EQ(seen.contains(Slot::kMlpDownBias), config.mlp_down_bias) << text;
    EXPECT_EQ(seen.contains(Slot::kMlpNormWeight), config.residual != ResidualOrder::kParallelOneNorm)
        << text;
    EXPECT_EQ(seen.contains(Slot::kAttentionAfterNormWeight), config.residual == ResidualOrder::kSandwich);
    EXPECT_EQ(seen.contains(Slot::kFinalNormWeight), config.final_norm) << text;
    EXPECT_EQ(seen.contains(Slot::kFinalNormBias), config.final_norm && config.norm_bias) << text;
    EXPECT_EQ(seen.contains(Slot::kEmbeddingNormWeight), config.embedding_norm) << text;
    EXPECT_EQ(seen.contains(Slot::kPositionEmbedding), config.positions == PositionKind::kLearned) << text;
    EXPECT_EQ(seen.contains(Slot::kProjectIn), config.embedding_size > 0) << text;
    EXPECT_EQ(seen.contains(Slot::kProjectOut), config.embedding_size > 0) << text;
    EXPECT_EQ(seen.contains(Slot::kQueryNorm), config.head_norms) << text;
    EXPECT_EQ(seen.contains(Slot::kKeyNorm), config.head_norms) << text;
    EXPECT_EQ(seen.contains(Slot::kRelativeBias), config.positions == PositionKind::kRelative) << text;
    for (const Slot slot :
         {Slot::kCrossNormWeight, Slot::kCrossQuery, Slot::kCrossKeyValue, Slot::kCrossOut}) {
      EXPECT_EQ(seen.contains(slot), config.cross_attention) << text << to_string(slot);
    }
    const bool routed = config.experts.in_layer(1);
    EXPECT_EQ(seen.contains(Slot::kRouter), routed) << text;
    EXPECT_EQ(seen.contains(Slot::kMlpUp), !routed) << text;
    EXPECT_EQ(seen.contains(Slot::kMlpDown), !routed) << text;
    for (std::int32_t expert = 0; expert < (routed ? config.experts.all() : 0); ++expert) {
      EXPECT_TRUE(declared.contains({Slot::kExpertUp, expert})) << text << expert;
      EXPECT_TRUE(declared.contains({Slot::kExpertDown, expert})) << text << expert;
    }
  }
}

}  // namespace
}  // namespace peregrine::model
