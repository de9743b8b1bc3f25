// SPDX-License-Identifier: Apache-2.0
#include "core/error.h"
#include "model/families/bert_layout.h"
#include "model/families/config_reader.h"
#include "model/families/encoder_families.h"

namespace peregrine::model {
namespace {

// XLM-RoBERTa and CamemBERT are RoBERTas with other vocabularies, down to the tensors' names.

EncoderConfig read_config(const core::JsonView& config, std::string_view architecture) {
  EncoderConfig out = read_bert_config(config, "roberta");
  // The position table is longer than the longest text: its rows up to the padding token's id are not used.
  out.padding_id = static_cast<std::int32_t>(read_int(config, {"pad_token_id"}, 0, out.vocab_size - 1, 1));
  out.learned.offset = out.padding_id + 1;
  out.max_positions -= out.learned.offset;
  if (out.max_positions < 1) {
    core::fail(core::ErrorKind::kInvalidArgument,
               "{}: max_position_embeddings ({}) must be greater than pad_token_id ({}) + 1", config.where(),
               out.learned.rows, out.padding_id);
  }
  const bool masked = architecture.ends_with("ForMaskedLM");
  out.head.has_pooler = !masked;
  if (is_classifier(architecture)) out.head.labels = read_labels(config);
  return out;
}

std::vector<SlotSource> model_slots(const EncoderConfig& config) {
  const bool classifies = !config.head.labels.empty();
  return joined(
      bert_embedding_slots(config, "roberta.embeddings."),
      head_slots(config, classifies ? "classifier.dense" : "roberta.pooler.dense", "classifier.out_proj"));
}

std::vector<SlotSource> layer_slots(const EncoderConfig& config, std::int32_t layer) {
  return bert_layer_slots(config, "roberta.encoder.layer." + std::to_string(layer) + ".");
}

}  // namespace

const EncoderFamily kRobertaFamily = {
    .name = "roberta",
    .architectures = {"RobertaModel", "RobertaForSequenceClassification", "RobertaForMaskedLM",
                      "XLMRobertaModel", "XLMRobertaForSequenceClassification", "XLMRobertaForMaskedLM",
                      "CamembertModel", "CamembertForSequenceClassification", "CamembertForMaskedLM"},
    .model_types = {"roberta", "xlm-roberta", "camembert"},
    .read_config = read_config,
    .model_slots = model_slots,
    .layer_slots = layer_slots,
    .optional_prefix = "roberta.",
};

}  // namespace peregrine::model
