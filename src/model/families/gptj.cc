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
  out.family = "gptj";
  read_sizes(config, 2048, out);
  out.intermediate_size = read_int(config, {"n_inner"}, 1, kMaxIntermediate, 4 * out.hidden_size);
  out.norm = ops::NormKind::kLayer;
  out.norm_epsilon = read_epsilon(config, "layer_norm_epsilon", 1e-5);
  out.residual = ResidualOrder::kParallelOneNorm;
  out.activation = read_activation(config, "activation_function", "gelu_new");
  out.rotary.dim = static_cast<std::int32_t>(read_int(config, {"rotary_dim"}, 2, kMaxHeadDim, 64));
  out.rotary.style = ops::RotaryStyle::kPairs;
  read_rotary(config, "rope_theta", out);
  out.mlp_up_bias = out.mlp_down_bias = true;
  out.tied_head = read_bool(config, "tie_word_embeddings", false);
  out.head_bias = true;
  return out;
}

std::vector<SlotSource> model_slots(const DecoderConfig& config) {
  SlotBuilder slots("");
  slots.whole(Slot::kTokenEmbedding, Cut::kVocabulary, "transformer.wte.weight",
              {config.vocab_size, config.hidden_size});
  slots.norm(Slot::kFinalNormWeight, Slot::kFinalNormBias, true, "transformer.ln_f", config.hidden_size);
  if (!config.tied_head) {
    slots.whole(Slot::kHead, Cut::kVocabulary, "lm_head.weight", {config.vocab_size, config.hidden_size});
  }
  slots.whole(Slot::kHeadBias, Cut::kVocabulary, "lm_head.bias", {config.vocab_size});
  return slots.take();
}

std::vector<SlotSource> layer_slots(const DecoderConfig& config, std::int32_t layer) {
  SlotBuilder slots("transformer.h." + std::to_string(layer) + ".");
  const std::int64_t width = config.hidden_size;
  slots.norm(Slot::kAttentionNormWeight, Slot::kAttentionNormBias, true, "ln_1", width);
  slots.fused(Slot::kQkv, Slot::kQkvBias, false, Cut::kHeadGroup,
              {{"q", "attn.q_proj", width, all_rows(width)},
               {"k", "attn.k_proj", width, all_rows(width)},
               {"v", "attn.v_proj", width, all_rows(width)}},
              width);
  slots.linear(Slot::kAttentionOut, Slot::kAttentionOutBias, false, Cut::kRow, "attn.out_proj", width, width);
  slots.linear(Slot::kMlpUp, Slot::kMlpUpBias, true, Cut::kColumn, "mlp.fc_in", config.intermediate_size,
               width);
  slots.linear(Slot::kMlpDown, Slot::kMlpDownBias, true, Cut::kRow, "mlp.fc_out", width,
               config.intermediate_size);
  return slots.take();
}

}  // namespace

const Family kGptJFamily = {
    .name = "gptj",
    .architectures = {"GPTJForCausalLM"},
    .model_types = {"gptj"},
    .read_config = read_config,
    .model_slots = model_slots,
    .layer_slots = layer_slots,
    .optional_prefix = "transformer.",
};

}  // namespace peregrine::model
