// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "core/error.h"
#include "model/families/config_reader.h"
#include "model/families/families.h"
#include "model/families/slot_builder.h"

namespace peregrine::model {
namespace {

using core::ErrorKind;
using core::fail;
using core::JsonView;

DecoderConfig read_config(const JsonView& config) {
  DecoderConfig out;
  out.family = "llama";
  read_sizes(config, 2048, out);
  out.kv_heads =
      static_cast<std::int32_t>(read_int(config, {"num_key_value_heads"}, 1, out.heads, out.heads));
  if (out.heads % out.kv_heads != 0) {
    fail(ErrorKind::kInvalidArgument, "{}: num_key_value_heads ({}) must divide num_attention_heads ({})",
         config.where(), out.kv_heads, out.heads);
  }
  if (read_number(config, "partial_rotary_factor", 0.0, 1.0, 1.0) != 1.0) {
    fail(ErrorKind::kUnsupported, "{}: 'partial_rotary_factor' must be 1 or left out for this architecture",
         config.where());
  }
  out.intermediate_size = read_int(config, {"intermediate_size"}, 1, kMaxIntermediate);
  out.norm = ops::NormKind::kRms;
  out.norm_epsilon = read_epsilon(config, "rms_norm_eps", 1e-6);
  out.norm_bias = false;
  out.residual = ResidualOrder::kSequential;
  out.activation = read_activation(config, "hidden_act", "silu");
  out.gated_mlp = true;
  out.rotary.dim = out.head_dim;
  read_rotary(config, "rope_theta", out);
  out.qkv_bias = out.attention_out_bias = read_bool(config, "attention_bias", false);
  out.mlp_up_bias = out.mlp_down_bias = read_bool(config, "mlp_bias", false);
  out.tied_head = read_bool(config, "tie_word_embeddings", false);
  return out;
}

std::vector<SlotSource> model_slots(const DecoderConfig& config) {
  SlotBuilder slots("");
  slots.whole(Slot::kTokenEmbedding, Cut::kVocabulary, "model.embed_tokens.weight",
              {config.vocab_size, config.hidden_size});
  slots.norm(Slot::kFinalNormWeight, Slot::kFinalNormBias, false, "model.norm", config.hidden_size);
  if (!config.tied_head) {
    slots.whole(Slot::kHead, Cut::kVocabulary, "lm_head.weight", {config.vocab_size, config.hidden_size});
  }
  return slots.take();
}

std::vector<SlotSource> layer_slots(const DecoderConfig& config, std::int32_t layer) {
  SlotBuilder slots("model.layers." + std::to_string(layer) + ".");
  const std::int64_t q = std::int64_t{config.heads} * config.head_dim;
  const std::int64_t kv = std::int64_t{config.kv_heads} * config.head_dim;
  const std::int64_t intermediate = config.intermediate_size;
  slots.norm(Slot::kAttentionNormWeight, Slot::kAttentionNormBias, false, "input_layernorm",
             config.hidden_size);
  slots.fused(Slot::kQkv, Slot::kQkvBias, config.qkv_bias, Cut::kHeadGroup,
              {{"q", "self_attn.q_proj", q, all_rows(q)},
               {"k", "self_attn.k_proj", kv, all_rows(kv)},
               {"v", "self_attn.v_proj", kv, all_rows(kv)}},
              config.hidden_size);
  slots.linear(Slot::kAttentionOut, Slot::kAttentionOutBias, config.attention_out_bias, Cut::kRow,
               "self_attn.o_proj", config.hidden_size, q);
  slots.norm(Slot::kMlpNormWeight, Slot::kMlpNormBias, false, "post_attention_layernorm", config.hidden_size);
  slots.fused(Slot::kMlpUp, Slot::kMlpUpBias, config.mlp_up_bias, Cut::kColumn,
              {{"gate", "mlp.gate_proj", intermediate, all_rows(intermediate)},
               {"up", "mlp.up_proj", intermediate, all_rows(intermediate)}},
              config.hidden_size);
  slots.linear(Slot::kMlpDown, Slot::kMlpDownBias, config.mlp_down_bias, Cut::kRow, "mlp.down_proj",
               config.hidden_size, intermediate);
  return slots.take();
}

}  // namespace

const Family kLlamaFamily = {
    .name = "llama",
    .architectures = {"LlamaForCausalLM", "LLaMAForCausalLM"},
    .model_types = {"llama"},
    .read_config = read_config,
    .model_slots = model_slots,
    .layer_slots = layer_slots,
    .optional_prefix = "model.",
};

}  // namespace peregrine::model
