// SPDX-License-Identifier: Apache-2.0
#include "model/families/bert_layout.h"
#include "model/families/config_reader.h"
#include "model/families/encoder_families.h"
#include "model/families/slot_builder.h"

namespace peregrine::model {
namespace {

EncoderConfig read_config(const core::JsonView& config, std::string_view architecture) {
  EncoderConfig out = read_encoder_sizes(config, "distilbert");
  out.intermediate_size = read_int(config, {"hidden_dim"}, 1, kMaxIntermediate, 4 * out.hidden_size);
  out.norm_epsilon = 1e-12f;
  // Sinusoidal positions (sinusoidal_pos_embds) are stored in the table like learned ones.
  out.activation = read_activation(config, "activation", "gelu");
  if (is_classifier(architecture)) {
    out.head.has_pooler = true;
    out.head.pooler_activation = ops::Activation::kRelu;
    out.head.labels = read_labels(config);
  }
  return out;
}

std::vector<SlotSource> model_slots(const EncoderConfig& config) {
  return joined(bert_embedding_slots(config, "distilbert.embeddings."),
                head_slots(config, "pre_classifier", "classifier"));
}

std::vector<SlotSource> layer_slots(const EncoderConfig& config, std::int32_t layer) {
  SlotBuilder slots("distilbert.transformer.layer." + std::to_string(layer) + ".");
  const std::int64_t width = config.hidden_size;
  const std::int64_t heads = std::int64_t{config.heads} * config.head_dim;
  slots.fused(Slot::kQkv, Slot::kQkvBias, true, Cut::kHeadGroup,
              {{"q", "attention.q_lin", heads, all_rows(heads)},
               {"k", "attention.k_lin", heads, all_rows(heads)},
               {"v", "attention.v_lin", heads, all_rows(heads)}},
              width);
  slots.linear(Slot::kAttentionOut, Slot::kAttentionOutBias, true, Cut::kRow, "attention.out_lin", width,
               heads);
  slots.norm(Slot::kAttentionNormWeight, Slot::kAttentionNormBias, true, "sa_layer_norm", width);
  slots.linear(Slot::kMlpUp, Slot::kMlpUpBias, true, Cut::kColumn, "ffn.lin1", config.intermediate_size,
               width);
  slots.linear(Slot::kMlpDown, Slot::kMlpDownBias, true, Cut::kRow, "ffn.lin2", width,
               config.intermediate_size);
  slots.norm(Slot::kMlpNormWeight, Slot::kMlpNormBias, true, "output_layer_norm", width);
  return slots.take();
}

}  // namespace

const EncoderFamily kDistilBertFamily = {
    .name = "distilbert",
    .architectures = {"DistilBertModel", "DistilBertForSequenceClassification", "DistilBertForMaskedLM"},
    .model_types = {"distilbert"},
    .read_config = read_config,
    .model_slots = model_slots,
    .layer_slots = layer_slots,
    .optional_prefix = "distilbert.",
};

}  // namespace peregrine::model
