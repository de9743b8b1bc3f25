// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "model/families/config_reader.h"
#include "model/families/families.h"
#include "model/families/slot_builder.h"

namespace peregrine::model {
namespace {

using core::JsonView;

DecoderConfig read_config(const JsonView& config) {
  DecoderConfig out;
  out.family = "phi";
  read_sizes(config, 2048, out);
  read_kv_heads(config, out);
  refuse_flag(config, "qk_layernorm");
  out.intermediate_size = read_int(config, {"intermediate_size"}, 1, kMaxIntermediate, 4 * out.hidden_size);
  out.norm = ops::NormKind::kLayer;
  out.norm_epsilon = read_epsilon(config, "layer_norm_eps", 1e-5);
  out.residual = ResidualOrder::kParallelOneNorm;
  out.activation = read_activation(config, "hidden_act", "gelu_new");
  const double share = read_number(config, "partial_rotary_factor", 0.0, 1.0, 0.5);
  out.rotary.dim = static_cast<std::int32_t>(share * out.head_dim);
  read_rotary(config, "rope_theta", out);
  out.qkv_bias = out.attention_out_bias = out.mlp_up_bias = out.mlp_down_bias = true;
  out.tied_head = read_bool(config, "tie_word_embeddings", false);
  out.head_bias = true;
  return out;
}

std::vector<SlotSource> model_slots(const DecoderConfig& config) {
  SlotBuilder slots("");
  slots.whole(Slot::kTokenEmbedding, Cut::kVocabulary, "model.embed_tokens.weight",
              {config.vocab_size, config.hidden_size});
  slots.norm(Slot::kFinalNormWeight, Slot::kFinalNormBias, true, "model.final_layernorm", config.hidden_size);
  if (!config.tied_head) {
    slots.whole(Slot::kHead, Cut::kVocabulary, "lm_head.weight", {config.vocab_size, config.hidden_size});
  }
  slots.whole(Slot::kHeadBias, Cut::kVocabulary, "lm_head.bias", {config.vocab_size});
  return slots.take();
}

std::vector<SlotSource> layer_slots(const DecoderConfig& config, std::int32_t layer) {
  SlotBuilder slots("model.layers." + std::to_string(layer) + ".");
  const std::int64_t q = std::int64_t{config.heads} * config.head_dim;
  const std::int64_t kv = std::int64_t{config.kv_heads} * config.head_dim;
  slots.norm(Slot::kAttentionNormWeight, Slot::kAttentionNormBias, true, "input_layernorm",
             config.hidden_size);
  slots.fused(Slot::kQkv, Slot::kQkvBias, true, Cut::kHeadGroup,
              {{"q", "self_attn.q_proj", q, all_rows(q)},
               {"k", "self_attn.k_proj", kv, all_rows(kv)},
               {"v", "self_attn.v_proj", kv, all_rows(kv)}},
              config.hidden_size);
  slots.linear(Slot::kAttentionOut, Slot::kAttentionOutBias, true, Cut::kRow, "self_attn.dense",
               config.hidden_size, q);
  slots.linear(Slot::kMlpUp, Slot::kMlpUpBias, true, Cut::kColumn, "mlp.fc1", config.intermediate_size,
               config.hidden_size);
  slots.linear(Slot::kMlpDown, Slot::kMlpDownBias, true, Cut::kRow, "mlp.fc2", config.hidden_size,
               config.intermediate_size);
  return slots.take();
}

}  // namespace

const Family kPhiFamily = {
    .name = "phi",
    .architectures = {"PhiForCausalLM"},
    .model_types = {"phi"},
    .read_config = read_config,
    .model_slots = model_slots,
    .layer_slots = layer_slots,
    .optional_prefix = "model.",
};

}  // namespace peregrine::model
