// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "model/families/config_reader.h"
#include "model/families/families.h"
#include "model/families/llama_layout.h"
#include "model/families/slot_builder.h"

namespace peregrine::model {
namespace {

using core::JsonView;

DecoderConfig read_config(const JsonView& config) {
  DecoderConfig out;
  out.family = "starcoder2";
  read_sizes(config, 4096, out);
  read_kv_heads(config, out);
  out.intermediate_size = read_int(config, {"intermediate_size"}, 1, kMaxIntermediate);
  out.norm = ops::NormKind::kLayer;
  out.norm_epsilon = read_epsilon(config, "norm_epsilon", 1e-5);
  out.residual = ResidualOrder::kSequential;
  out.activation = read_activation(config, "hidden_act", "gelu_pytorch_tanh");
  out.rotary.dim = out.head_dim;
  read_rotary(config, "rope_theta", out);
  out.window = read_window(config, 0);
  const bool bias = read_bool(config, "use_bias", true);
  out.qkv_bias = out.attention_out_bias = out.mlp_up_bias = out.mlp_down_bias = bias;
  out.tied_head = read_bool(config, "tie_word_embeddings", true);
  return out;
}

std::vector<SlotSource> layer_slots(const DecoderConfig& config, std::int32_t layer) {
  SlotBuilder slots("model.layers." + std::to_string(layer) + ".");
  slots.norm(Slot::kAttentionNormWeight, Slot::kAttentionNormBias, true, "input_layernorm",
             config.hidden_size);
  add_llama_attention(config, slots);
  slots.norm(Slot::kMlpNormWeight, Slot::kMlpNormBias, true, "post_attention_layernorm", config.hidden_size);
  slots.linear(Slot::kMlpUp, Slot::kMlpUpBias, config.mlp_up_bias, Cut::kColumn, "mlp.c_fc",
               config.intermediate_size, config.hidden_size);
  slots.linear(Slot::kMlpDown, Slot::kMlpDownBias, config.mlp_down_bias, Cut::kRow, "mlp.c_proj",
               config.hidden_size, config.intermediate_size);
  return slots.take();
}

}  // namespace

const Family kStarcoder2Family = {
    .name = "starcoder2",
    .architectures = {"Starcoder2ForCausalLM"},
    .model_types = {"starcoder2"},
    .read_config = read_config,
    .model_slots = llama_model_slots,
    .layer_slots = layer_slots,
    .optional_prefix = "model.",
};

}  // namespace peregrine::model
