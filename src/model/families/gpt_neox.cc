// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "core/error.h"
#include "model/families/config_reader.h"
#include "model/families/families.h"
#include "model/families/slot_builder.h"

namespace peregrine::model {
namespace {

using core::JsonView;

/// The rotated share of a head: rotary_pct, which newer files keep in rope_parameters.
std::int32_t read_rotary_dim(const JsonView& config, std::int32_t head_dim) {
  double share = read_number(config, "rotary_pct", 0.0, 1.0, 0.25);
  const auto rope = config.find("rope_parameters");
  if (rope && rope->is_object()) share = read_number(*rope, "partial_rotary_factor", 0.0, 1.0, share);
  return static_cast<std::int32_t>(head_dim * share);
}

DecoderConfig read_config(const JsonView& config) {
  DecoderConfig out;
  out.family = "gpt_neox";
  read_sizes(config, 2048, out);
  out.intermediate_size = read_int(config, {"intermediate_size"}, 1, kMaxIntermediate);
  out.norm = ops::NormKind::kLayer;
  out.norm_epsilon = read_epsilon(config, "layer_norm_eps", 1e-5);
  out.residual = read_bool(config, "use_parallel_residual", true) ? ResidualOrder::kParallelTwoNorms
                                                                  : ResidualOrder::kSequential;
  out.activation = read_activation(config, "hidden_act", "gelu");
  out.rotary.dim = read_rotary_dim(config, out.head_dim);
  read_rotary(config, config.find("rotary_emb_base") ? "rotary_emb_base" : "rope_theta", out);
  out.qkv_bias = out.attention_out_bias = read_bool(config, "attention_bias", true);
  out.mlp_up_bias = out.mlp_down_bias = true;
  out.tied_head = read_bool(config, "tie_word_embeddings", false);
  return out;
}

std::vector<SlotSource> model_slots(const DecoderConfig& config) {
  SlotBuilder slots("");
  slots.whole(Slot::kTokenEmbedding, Cut::kVocabulary, "gpt_neox.embed_in.weight",
              {config.vocab_size, config.hidden_size});
  slots.norm(Slot::kFinalNormWeight, Slot::kFinalNormBias, true, "gpt_neox.final_layer_norm",
             config.hidden_size);
  if (!config.tied_head) {
    slots.whole(Slot::kHead, Cut::kVocabulary, "embed_out.weight", {config.vocab_size, config.hidden_size});
  }
  return slots.take();
}

/// The stored rows are, head by head, its query, key and value.
void add_qkv(const DecoderConfig& config, SlotBuilder& slots) {
  const std::int64_t head = config.head_dim;
  const std::int64_t rows = 3 * config.heads * head;
  const std::string tensor = "attention.query_key_value";
  slots.fused(Slot::kQkv, Slot::kQkvBias, config.qkv_bias, Cut::kHeadGroup,
              {{"q", tensor, rows, {0, head, 3 * head, config.heads}},
               {"k", tensor, rows, {head, head, 3 * head, config.heads}},
               {"v", tensor, rows, {2 * head, head, 3 * head, config.heads}}},
              config.hidden_size);
}

std::vector<SlotSource> layer_slots(const DecoderConfig& config, std::int32_t layer) {
  SlotBuilder slots("gpt_neox.layers." + std::to_string(layer) + ".");
  slots.norm(Slot::kAttentionNormWeight, Slot::kAttentionNormBias, true, "input_layernorm",
             config.hidden_size);
  slots.norm(Slot::kMlpNormWeight, Slot::kMlpNormBias, true, "post_attention_layernorm", config.hidden_size);
  add_qkv(config, slots);
  slots.linear(Slot::kAttentionOut, Slot::kAttentionOutBias, config.attention_out_bias, Cut::kRow,
               "attention.dense", config.hidden_size, std::int64_t{config.heads} * config.head_dim);
  slots.linear(Slot::kMlpUp, Slot::kMlpUpBias, true, Cut::kColumn, "mlp.dense_h_to_4h",
               config.intermediate_size, config.hidden_size);
  slots.linear(Slot::kMlpDown, Slot::kMlpDownBias, true, Cut::kRow, "mlp.dense_4h_to_h", config.hidden_size,
               config.intermediate_size);
  return slots.take();
}

}  // namespace

const Family kGptNeoxFamily = {
    .name = "gpt_neox",
    .architectures = {"GPTNeoXForCausalLM"},
    .model_types = {"gpt_neox"},
    .read_config = read_config,
    .model_slots = model_slots,
    .layer_slots = layer_slots,
    .optional_prefix = "gpt_neox.",
};

}  // namespace peregrine::model
