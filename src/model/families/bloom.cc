// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "model/families/alibi.h"
#include "model/families/config_reader.h"
#include "model/families/families.h"
#include "model/families/slot_builder.h"

namespace peregrine::model {
namespace {

using core::JsonView;

DecoderConfig read_config(const JsonView& config) {
  DecoderConfig out;
  out.family = "bloom";
  read_sizes(config, 2048, out);
  out.intermediate_size = 4 * out.hidden_size;
  out.norm = ops::NormKind::kLayer;
  out.norm_epsilon = read_epsilon(config, "layer_norm_epsilon", 1e-5);
  out.embedding_norm = true;
  out.residual = read_bool(config, "apply_residual_connection_post_layernorm", false)
                     ? ResidualOrder::kNormedResidual
                     : ResidualOrder::kSequential;
  out.activation = ops::Activation::kGeluTanh;
  out.positions = PositionKind::kAlibi;
  out.alibi.slopes = alibi_slopes(out.heads);
  out.qkv_bias = out.attention_out_bias = out.mlp_up_bias = out.mlp_down_bias = true;
  out.tied_head = read_bool(config, "tie_word_embeddings", true);
  return out;
}

std::vector<SlotSource> model_slots(const DecoderConfig& config) {
  SlotBuilder slots("");
  slots.whole(Slot::kTokenEmbedding, Cut::kVocabulary, "transformer.word_embeddings.weight",
              {config.vocab_size, config.hidden_size});
  slots.norm(Slot::kEmbeddingNormWeight, Slot::kEmbeddingNormBias, true,
             "transformer.word_embeddings_layernorm", config.hidden_size);
  slots.norm(Slot::kFinalNormWeight, Slot::kFinalNormBias, true, "transformer.ln_f", config.hidden_size);
  if (!config.tied_head) {
    slots.whole(Slot::kHead, Cut::kVocabulary, "lm_head.weight", {config.vocab_size, config.hidden_size});
  }
  return slots.take();
}

std::vector<SlotSource> layer_slots(const DecoderConfig& config, std::int32_t layer) {
  SlotBuilder slots("transformer.h." + std::to_string(layer) + ".");
  const std::int64_t head = config.head_dim;
  const std::int64_t rows = 3 * config.hidden_size;
  const std::string tensor = "self_attention.query_key_value";
  slots.norm(Slot::kAttentionNormWeight, Slot::kAttentionNormBias, true, "input_layernorm",
             config.hidden_size);
  // The stored rows are, head by head, its query, key and value.
  slots.fused(Slot::kQkv, Slot::kQkvBias, true, Cut::kHeadGroup,
              {{"q", tensor, rows, {0, head, 3 * head, config.heads}},
               {"k", tensor, rows, {head, head, 3 * head, config.heads}},
               {"v", tensor, rows, {2 * head, head, 3 * head, config.heads}}},
              config.hidden_size);
  slots.linear(Slot::kAttentionOut, Slot::kAttentionOutBias, true, Cut::kRow, "self_attention.dense",
               config.hidden_size, config.hidden_size);
  slots.norm(Slot::kMlpNormWeight, Slot::kMlpNormBias, true, "post_attention_layernorm", config.hidden_size);
  slots.linear(Slot::kMlpUp, Slot::kMlpUpBias, true, Cut::kColumn, "mlp.dense_h_to_4h",
               config.intermediate_size, config.hidden_size);
  slots.linear(Slot::kMlpDown, Slot::kMlpDownBias, true, Cut::kRow, "mlp.dense_4h_to_h", config.hidden_size,
               config.intermediate_size);
  return slots.take();
}

}  // namespace

const Family kBloomFamily = {
    .name = "bloom",
    .architectures = {"BloomForCausalLM"},
    .model_types = {"bloom"},
    .read_config = read_config,
    .model_slots = model_slots,
    .layer_slots = layer_slots,
    .optional_prefix = "transformer.",
};

}  // namespace peregrine::model
