// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "model/families/config_reader.h"
#include "model/families/families.h"
#include "model/families/gpt2_layout.h"
#include "model/families/slot_builder.h"

namespace peregrine::model {
namespace {

using core::JsonView;

DecoderConfig read_config(const JsonView& config) {
  DecoderConfig out;
  out.family = "gpt2";
  read_sizes(config, 1024, out);
  out.intermediate_size = read_int(config, {"n_inner"}, 1, kMaxIntermediate, 4 * out.hidden_size);
  out.norm = ops::NormKind::kLayer;
  out.norm_epsilon = read_epsilon(config, "layer_norm_epsilon", 1e-5);
  out.residual = ResidualOrder::kSequential;
  out.activation = read_activation(config, "activation_function", "gelu_new");
  out.positions = PositionKind::kLearned;
  out.learned.rows = out.max_positions;
  if (!read_bool(config, "scale_attn_weights", true)) out.attention_scale = 1.0f;
  out.attention_scale_by_layer = read_bool(config, "scale_attn_by_inverse_layer_idx", false);
  refuse_flag(config, "add_cross_attention");
  out.qkv_bias = out.attention_out_bias = out.mlp_up_bias = out.mlp_down_bias = true;
  out.tied_head = read_bool(config, "tie_word_embeddings", true);
  return out;
}

std::vector<SlotSource> layer_slots(const DecoderConfig& config, std::int32_t layer) {
  SlotBuilder slots("transformer.h." + std::to_string(layer) + ".", Stored::kInOut);
  const std::int64_t width = config.hidden_size;
  slots.norm(Slot::kAttentionNormWeight, Slot::kAttentionNormBias, true, "ln_1", width);
  slots.fused(Slot::kQkv, Slot::kQkvBias, true, Cut::kHeadGroup,
              {{"q", "attn.c_attn", 3 * width, {0, width, width, 1}},
               {"k", "attn.c_attn", 3 * width, {width, width, width, 1}},
               {"v", "attn.c_attn", 3 * width, {2 * width, width, width, 1}}},
              width);
  slots.linear(Slot::kAttentionOut, Slot::kAttentionOutBias, true, Cut::kRow, "attn.c_proj", width, width);
  slots.norm(Slot::kMlpNormWeight, Slot::kMlpNormBias, true, "ln_2", width);
  slots.linear(Slot::kMlpUp, Slot::kMlpUpBias, true, Cut::kColumn, "mlp.c_fc", config.intermediate_size,
               width);
  slots.linear(Slot::kMlpDown, Slot::kMlpDownBias, true, Cut::kRow, "mlp.c_proj", width,
               config.intermediate_size);
  return slots.take();
}

}  // namespace

std::vector<SlotSource> gpt2_model_slots(const DecoderConfig& config) {
  SlotBuilder slots("");
  slots.whole(Slot::kTokenEmbedding, Cut::kVocabulary, "transformer.wte.weight",
              {config.vocab_size, config.hidden_size});
  slots.whole(Slot::kPositionEmbedding, Cut::kReplicated, "transformer.wpe.weight",
              {config.learned.rows, config.hidden_size});
  slots.norm(Slot::kFinalNormWeight, Slot::kFinalNormBias, true, "transformer.ln_f", config.hidden_size);
  if (!config.tied_head) {
    slots.whole(Slot::kHead, Cut::kVocabulary, "lm_head.weight", {config.vocab_size, config.hidden_size});
  }
  return slots.take();
}

const Family kGpt2Family = {
    .name = "gpt2",
    .architectures = {"GPT2LMHeadModel"},
    .model_types = {"gpt2"},
    .read_config = read_config,
    .model_slots = gpt2_model_slots,
    .layer_slots = layer_slots,
    .optional_prefix = "transformer.",
};

}  // namespace peregrine::model
