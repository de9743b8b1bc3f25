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
  out.family = "phi3";
  read_sizes(config, 4096, out);
  read_kv_heads(config, out);
  out.intermediate_size = read_int(config, {"intermediate_size"}, 1, kMaxIntermediate);
  out.norm = ops::NormKind::kRms;
  out.norm_epsilon = read_epsilon(config, "rms_norm_eps", 1e-5);
  out.norm_bias = false;
  out.residual = ResidualOrder::kSequential;
  out.activation = read_activation(config, "hidden_act", "silu");
  out.gated_mlp = true;
  const double share = read_number(config, "partial_rotary_factor", 0.0, 1.0, 1.0);
  out.rotary.dim = static_cast<std::int32_t>(share * out.head_dim);
  read_rotary(config, "rope_theta", out);
  out.window = read_window(config, 0);
  out.tied_head = read_bool(config, "tie_word_embeddings", false);
  return out;
}

std::vector<SlotSource> layer_slots(const DecoderConfig& config, std::int32_t layer) {
  SlotBuilder slots("model.layers." + std::to_string(layer) + ".");
  const std::int64_t q = std::int64_t{config.heads} * config.head_dim;
  const std::int64_t kv = std::int64_t{config.kv_heads} * config.head_dim;
  const std::int64_t rows = q + 2 * kv;
  const std::int64_t intermediate = config.intermediate_size;
  slots.norm(Slot::kAttentionNormWeight, Slot::kAttentionNormBias, false, "input_layernorm",
             config.hidden_size);
  slots.fused(Slot::kQkv, Slot::kQkvBias, false, Cut::kHeadGroup,
              {{"q", "self_attn.qkv_proj", rows, {0, q, q, 1}},
               {"k", "self_attn.qkv_proj", rows, {q, kv, kv, 1}},
               {"v", "self_attn.qkv_proj", rows, {q + kv, kv, kv, 1}}},
              config.hidden_size);
  slots.linear(Slot::kAttentionOut, Slot::kAttentionOutBias, false, Cut::kRow, "self_attn.o_proj",
               config.hidden_size, q);
  slots.norm(Slot::kMlpNormWeight, Slot::kMlpNormBias, false, "post_attention_layernorm", config.hidden_size);
  slots.fused(Slot::kMlpUp, Slot::kMlpUpBias, false, Cut::kColumn,
              {{"gate", "mlp.gate_up_proj", 2 * intermediate, {0, intermediate, intermediate, 1}},
               {"up", "mlp.gate_up_proj", 2 * intermediate, {intermediate, intermediate, intermediate, 1}}},
              config.hidden_size);
  slots.linear(Slot::kMlpDown, Slot::kMlpDownBias, false, Cut::kRow, "mlp.down_proj", config.hidden_size,
               intermediate);
  return slots.take();
}

}  // namespace

const Family kPhi3Family = {
    .name = "phi3",
    .architectures = {"Phi3ForCausalLM"},
    .model_types = {"phi3"},
    .read_config = read_config,
    .model_slots = llama_model_slots,
    .layer_slots = layer_slots,
    .optional_prefix = "model.",
};

}  // namespace peregrine::model
