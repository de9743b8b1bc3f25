// SPDX-License-Identifier: Apache-2.0
#include <cmath>
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
  out.family = "gemma2";
  config.at("head_dim");  // not hidden_size / heads in any of them
  read_llama_config(config, 8192, out);
  out.activation = read_activation(config, "hidden_activation", "gelu_pytorch_tanh");
  out.norm_weight_offset = 1.0f;
  out.embedding_scale = static_cast<float>(std::sqrt(static_cast<double>(out.hidden_size)));
  out.residual = ResidualOrder::kSandwich;
  out.attention_scale =
      static_cast<float>(1.0 / std::sqrt(read_number(config, "query_pre_attn_scalar", 1e-3, 1e6)));
  out.attention_soft_cap = static_cast<float>(read_number(config, "attn_logit_softcapping", 1e-3, 1e6, 0.0));
  out.logit_soft_cap = static_cast<float>(read_number(config, "final_logit_softcapping", 1e-3, 1e6, 0.0));
  out.window = read_window(config, 4096);  // as transformers, where the key is missing
  out.window_layers = WindowLayers::kEven;
  out.qkv_bias = out.attention_out_bias = read_bool(config, "attention_bias", false);
  out.tied_head = read_bool(config, "tie_word_embeddings", true);
  return out;
}

std::vector<SlotSource> layer_slots(const DecoderConfig& config, std::int32_t layer) {
  SlotBuilder slots("model.layers." + std::to_string(layer) + ".");
  const auto norm = [&](Slot slot, const std::string& tensor) {
    slots.whole(slot, Cut::kReplicated, tensor + ".weight", {config.hidden_size});
  };
  norm(Slot::kAttentionNormWeight, "input_layernorm");
  add_llama_attention(config, slots);
  norm(Slot::kAttentionAfterNormWeight, "post_attention_layernorm");
  norm(Slot::kMlpNormWeight, "pre_feedforward_layernorm");
  add_llama_mlp(config, slots);
  norm(Slot::kMlpAfterNormWeight, "post_feedforward_layernorm");
  return slots.take();
}

}  // namespace

const Family kGemma2Family = {
    .name = "gemma2",
    .architectures = {"Gemma2ForCausalLM"},
    .model_types = {"gemma2"},
    .read_config = read_config,
    .model_slots = llama_model_slots,
    .layer_slots = layer_slots,
    .optional_prefix = "model.",
};

}  // namespace peregrine::model
