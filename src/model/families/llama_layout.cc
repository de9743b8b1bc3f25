// SPDX-License-Identifier: Apache-2.0
#include "model/families/llama_layout.h"

#include <string>

#include "model/families/config_reader.h"

namespace peregrine::model {

void read_llama_config(const core::JsonView& config, std::int64_t absent_max_positions, DecoderConfig& out,
                       double rotary_share) {
  read_sizes(config, absent_max_positions, out);
  read_kv_heads(config, out);
  out.intermediate_size = read_int(config, {"intermediate_size"}, 1, kMaxIntermediate);
  out.norm = ops::NormKind::kRms;
  out.norm_epsilon = read_epsilon(config, "rms_norm_eps", 1e-6);
  out.norm_bias = false;
  out.residual = ResidualOrder::kSequential;
  out.activation = read_activation(config, "hidden_act", "silu");
  out.gated_mlp = true;
  out.rotary.dim = static_cast<std::int32_t>(rotary_share * out.head_dim);
  read_rotary(config, "rope_theta", out);
  out.tied_head = read_bool(config, "tie_word_embeddings", false);
}

std::vector<SlotSource> llama_model_slots(const DecoderConfig& config) {
  SlotBuilder slots("");
  slots.whole(Slot::kTokenEmbedding, Cut::kVocabulary, "model.embed_tokens.weight",
              {config.vocab_size, config.hidden_size});
  slots.norm(Slot::kFinalNormWeight, Slot::kFinalNormBias, config.norm_bias, "model.norm",
             config.hidden_size);
  if (!config.tied_head) {
    slots.whole(Slot::kHead, Cut::kVocabulary, "lm_head.weight", {config.vocab_size, config.hidden_size});
  }
  return slots.take();
}

void add_llama_attention(const DecoderConfig& config, SlotBuilder& slots) {
  const std::int64_t q = std::int64_t{config.heads} * config.head_dim;
  const std::int64_t kv = std::int64_t{config.kv_heads} * config.head_dim;
  slots.fused(Slot::kQkv, Slot::kQkvBias, config.qkv_bias, Cut::kHeadGroup,
              {{"q", "self_attn.q_proj", q, all_rows(q)},
               {"k", "self_attn.k_proj", kv, all_rows(kv)},
               {"v", "self_attn.v_proj", kv, all_rows(kv)}},
              config.hidden_size);
  slots.linear(Slot::kAttentionOut, Slot::kAttentionOutBias, config.attention_out_bias, Cut::kRow,
               "self_attn.o_proj", config.hidden_size, q);
}

void add_llama_mlp(const DecoderConfig& config, SlotBuilder& slots) {
  const std::int64_t intermediate = config.intermediate_size;
  slots.fused(Slot::kMlpUp, Slot::kMlpUpBias, config.mlp_up_bias, Cut::kColumn,
              {{"gate", "mlp.gate_proj", intermediate, all_rows(intermediate)},
               {"up", "mlp.up_proj", intermediate, all_rows(intermediate)}},
              config.hidden_size);
  slots.linear(Slot::kMlpDown, Slot::kMlpDownBias, config.mlp_down_bias, Cut::kRow, "mlp.down_proj",
               config.hidden_size, intermediate);
}

SlotBuilder begin_llama_layer(const DecoderConfig& config, std::int32_t layer) {
  SlotBuilder slots("model.layers." + std::to_string(layer) + ".");
  slots.norm(Slot::kAttentionNormWeight, Slot::kAttentionNormBias, config.norm_bias, "input_layernorm",
             config.hidden_size);
  add_llama_attention(config, slots);
  if (config.head_norms) {
    const auto repeated = [](const char* tensor, std::int32_t heads) {
      return std::vector<std::string>(static_cast<std::size_t>(heads), tensor);
    };
    slots.by_head(Slot::kQueryNorm, repeated("self_attn.q_norm.weight", config.heads), config.head_dim);
    slots.by_head(Slot::kKeyNorm, repeated("self_attn.k_norm.weight", config.kv_heads), config.head_dim);
  }
  slots.norm(Slot::kMlpNormWeight, Slot::kMlpNormBias, config.norm_bias, "post_attention_layernorm",
             config.hidden_size);
  return slots;
}

std::vector<SlotSource> llama_layer_slots(const DecoderConfig& config, std::int32_t layer) {
  SlotBuilder slots = begin_llama_layer(config, layer);
  add_llama_mlp(config, slots);
  return slots.take();
}

}  // namespace peregrine::model
