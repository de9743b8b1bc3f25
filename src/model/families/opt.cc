// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "core/error.h"
#include "model/families/config_reader.h"
#include "model/families/families.h"
#include "model/families/slot_builder.h"

namespace peregrine::model {
namespace {

using core::JsonView;

// OPT-350m alone has its norms behind attention and MLP, no final norm, and embeddings narrower than the
// model.

/// The first rows of the position table belong to padding.
constexpr std::int32_t kFirstPosition = 2;

DecoderConfig read_config(const JsonView& config) {
  DecoderConfig out;
  out.family = "opt";
  read_sizes(config, 2048, out);
  out.intermediate_size = read_int(config, {"ffn_dim"}, 1, kMaxIntermediate, 4 * out.hidden_size);
  if (!read_bool(config, "layer_norm_elementwise_affine", true)) {
    core::fail(core::ErrorKind::kUnsupported,
               "{}: 'layer_norm_elementwise_affine' is false; only true is supported", config.where());
  }
  out.norm = ops::NormKind::kLayer;
  out.norm_epsilon = 1e-5f;
  const bool before = read_bool(config, "do_layer_norm_before", true);
  out.residual = before ? ResidualOrder::kSequential : ResidualOrder::kPostNorm;
  out.final_norm = before && !read_bool(config, "_remove_final_layer_norm", false);
  out.activation = read_activation(config, "activation_function", "relu");
  out.positions = PositionKind::kLearned;
  out.learned = {out.max_positions + kFirstPosition, kFirstPosition};
  const std::int64_t width = read_int(config, {"word_embed_proj_dim"}, 1, kMaxHidden, out.hidden_size);
  out.embedding_size = width == out.hidden_size ? 0 : width;
  const bool bias = read_bool(config, "enable_bias", true);
  out.qkv_bias = out.attention_out_bias = out.mlp_up_bias = out.mlp_down_bias = bias;
  out.tied_head = read_bool(config, "tie_word_embeddings", true);
  return out;
}

std::vector<SlotSource> model_slots(const DecoderConfig& config) {
  SlotBuilder slots("");
  const std::int64_t width = config.embedding_width();
  slots.whole(Slot::kTokenEmbedding, Cut::kVocabulary, "model.decoder.embed_tokens.weight",
              {config.vocab_size, width});
  slots.whole(Slot::kPositionEmbedding, Cut::kReplicated, "model.decoder.embed_positions.weight",
              {config.learned.rows, config.hidden_size});
  if (config.embedding_size > 0) {
    slots.whole(Slot::kProjectIn, Cut::kReplicated, "model.decoder.project_in.weight",
                {config.hidden_size, width});
    slots.whole(Slot::kProjectOut, Cut::kReplicated, "model.decoder.project_out.weight",
                {width, config.hidden_size});
  }
  if (config.final_norm) {
    slots.norm(Slot::kFinalNormWeight, Slot::kFinalNormBias, true, "model.decoder.final_layer_norm",
               config.hidden_size);
  }
  if (!config.tied_head) {
    slots.whole(Slot::kHead, Cut::kVocabulary, "lm_head.weight", {config.vocab_size, width});
  }
  return slots.take();
}

std::vector<SlotSource> layer_slots(const DecoderConfig& config, std::int32_t layer) {
  SlotBuilder slots("model.decoder.layers." + std::to_string(layer) + ".");
  const std::int64_t width = config.hidden_size;
  slots.norm(Slot::kAttentionNormWeight, Slot::kAttentionNormBias, true, "self_attn_layer_norm", width);
  slots.fused(Slot::kQkv, Slot::kQkvBias, config.qkv_bias, Cut::kHeadGroup,
              {{"q", "self_attn.q_proj", width, all_rows(width)},
               {"k", "self_attn.k_proj", width, all_rows(width)},
               {"v", "self_attn.v_proj", width, all_rows(width)}},
              width);
  slots.linear(Slot::kAttentionOut, Slot::kAttentionOutBias, config.attention_out_bias, Cut::kRow,
               "self_attn.out_proj", width, width);
  slots.norm(Slot::kMlpNormWeight, Slot::kMlpNormBias, true, "final_layer_norm", width);
  slots.linear(Slot::kMlpUp, Slot::kMlpUpBias, config.mlp_up_bias, Cut::kColumn, "fc1",
               config.intermediate_size, width);
  slots.linear(Slot::kMlpDown, Slot::kMlpDownBias, config.mlp_down_bias, Cut::kRow, "fc2", width,
               config.intermediate_size);
  return slots.take();
}

}  // namespace

const Family kOptFamily = {
    .name = "opt",
    .architectures = {"OPTForCausalLM"},
    .model_types = {"opt"},
    .read_config = read_config,
    .model_slots = model_slots,
    .layer_slots = layer_slots,
    .optional_prefix = "model.",
};

}  // namespace peregrine::model
