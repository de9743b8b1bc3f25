// SPDX-License-Identifier: Apache-2.0
#include "model/families/bert_layout.h"
#include "model/families/encoder_families.h"

namespace peregrine::model {
namespace {

EncoderConfig read_config(const core::JsonView& config, std::string_view architecture) {
  EncoderConfig out = read_bert_config(config, "bert");
  // The pooler was trained to predict the next sentence; a masked language model has none.
  out.head.has_pooler = architecture != "BertForMaskedLM";
  if (is_classifier(architecture)) out.head.labels = read_labels(config);
  return out;
}

std::vector<SlotSource> model_slots(const EncoderConfig& config) {
  return joined(bert_embedding_slots(config, "bert.embeddings."),
                head_slots(config, "bert.pooler.dense", "classifier"));
}

std::vector<SlotSource> layer_slots(const EncoderConfig& config, std::int32_t layer) {
  return bert_layer_slots(config, "bert.encoder.layer." + std::to_string(layer) + ".");
}

}  // namespace

// Of the models for pre-training, the body alone is used.
const EncoderFamily kBertFamily = {
    .name = "bert",
    .architectures = {"BertModel", "BertForSequenceClassification", "BertForMaskedLM", "BertForPreTraining"},
    .model_types = {"bert"},
    .read_config = read_config,
    .model_slots = model_slots,
    .layer_slots = layer_slots,
    .optional_prefix = "bert.",
};

}  // namespace peregrine::model
