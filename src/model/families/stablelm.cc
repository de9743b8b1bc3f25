// SPDX-License-Identifier: Apache-2.0
#include <string>
#include <vector>

#include "model/families/config_reader.h"
#include "model/families/families.h"
#include "model/families/llama_layout.h"
#include "model/families/slot_builder.h"

namespace peregrine::model {
namespace {

using core::JsonView;

DecoderConfig read_config(const JsonView& config) {
  DecoderConfig out;
  out.family = "stablelm";
  read_llama_config(config, 4096, out, read_number(config, "partial_rotary_factor", 0.0, 1.0, 0.25));
  out.norm = ops::NormKind::kLayer;
  out.norm_epsilon = read_epsilon(config, "layer_norm_eps", 1e-5);
  out.norm_bias = true;
  out.residual = read_bool(config, "use_parallel_residual", false) ? ResidualOrder::kParallelOneNorm
                                                                   : ResidualOrder::kSequential;
  out.qkv_bias = read_bool(config, "use_qkv_bias", false);
  out.head_norms = read_bool(config, "qk_layernorm", false);
  return out;
}

void add_head_norms(Slot slot, const std::string& tensor, std::int32_t heads, std::int64_t width,
                    SlotBuilder& slots) {
  std::vector<std::string> tensors;
  for (std::int32_t head = 0; head < heads; ++head) {
    tensors.push_back(tensor + ".norms." + std::to_string(head) + ".weight");
  }
  slots.by_head(slot, tensors, width);
}

std::vector<SlotSource> layer_slots(const DecoderConfig& config, std::int32_t layer) {
  SlotBuilder slots("model.layers." + std::to_string(layer) + ".");
  slots.norm(Slot::kAttentionNormWeight, Slot::kAttentionNormBias, true, "input_layernorm",
             config.hidden_size);
  add_llama_attention(config, slots);
  if (config.head_norms) {
    add_head_norms(Slot::kQueryNorm, "self_attn.q_layernorm", config.heads, config.head_dim, slots);
    add_head_norms(Slot::kKeyNorm, "self_attn.k_layernorm", config.kv_heads, config.head_dim, slots);
  }
  if (config.residual == ResidualOrder::kSequential) {
    slots.norm(Slot::kMlpNormWeight, Slot::kMlpNormBias, true, "post_attention_layernorm",
               config.hidden_size);
  }
  add_llama_mlp(config, slots);
  return slots.take();
}

}  // namespace

const Family kStableLmFamily = {
    .name = "stablelm",
    .architectures = {"StableLmForCausalLM"},
    .model_types = {"stablelm"},
    .read_config = read_config,
    .model_slots = llama_model_slots,
    .layer_slots = layer_slots,
    .optional_prefix = "model.",
};

}  // namespace peregrine::model
