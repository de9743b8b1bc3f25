// SPDX-License-Identifier: Apache-2.0
#include "model/families/bert_layout.h"
#include "model/families/config_reader.h"
#include "model/families/encoder_families.h"
#include "model/families/slot_builder.h"

namespace peregrine::model {
namespace {

EncoderConfig read_config(const core::JsonView& config, std::string_view architecture) {
  EncoderConfig out = read_bert_config(config, "electra");
  const std::int64_t width = read_int(config, {"embedding_size"}, 1, kMaxHidden, 128);
  out.embedding_size = width == out.hidden_size ? 0 : width;
  // The classifier does not follow the summary_* keys, which are for multiple choice.
  if (is_classifier(architecture)) {
    out.head.has_pooler = true;
    out.head.pooler_activation = ops::Activation::kGelu;
    out.head.labels = read_labels(config);
  }
  return out;
}

std::vector<SlotSource> model_slots(const EncoderConfig& config) {
  SlotBuilder project("electra.");
  if (config.embedding_size > 0) {
    project.linear(Slot::kProjectIn, Slot::kProjectInBias, true, Cut::kReplicated, "embeddings_project",
                   config.hidden_size, config.embedding_size);
  }
  return joined(joined(bert_embedding_slots(config, "electra.embeddings."), project.take()),
                head_slots(config, "classifier.dense", "classifier.out_proj"));
}

std::vector<SlotSource> layer_slots(const EncoderConfig& config, std::int32_t layer) {
  return bert_layer_slots(config, "electra.encoder.layer." + std::to_string(layer) + ".");
}

}  // namespace

const EncoderFamily kElectraFamily = {
    .name = "electra",
    .architectures = {"ElectraModel", "ElectraForSequenceClassification", "ElectraForPreTraining",
                      "ElectraForMaskedLM"},
    .model_types = {"electra"},
    .read_config = read_config,
    .model_slots = model_slots,
    .layer_slots = layer_slots,
    .optional_prefix = "electra.",
};

}  // namespace peregrine::model
