// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "model/encoder_config.h"
#include "model/slots.h"

// What BERT shares with its descendants.

namespace peregrine::model {

/// Sizes but for the MLP's, with learned positions, layer norms, biases everywhere, no token types and no
/// head. Throws Error(kUnsupported) for what none of them can do here: other kinds of positions, decoders,
/// pruned heads.
EncoderConfig read_encoder_sizes(const core::JsonView& config, std::string_view family);

/// The same with the MLP, epsilon and token types as BERT names them.
EncoderConfig read_bert_config(const core::JsonView& config, std::string_view family);

/// Whether `architecture` classifies texts.
bool is_classifier(std::string_view architecture);

/// The names of the classes in the order of the scores: id2label, or else LABEL_0, ... for num_labels classes
/// (two where the file does not say). Throws Error(kInvalidArgument) where the numbers of id2label are not 0,
/// 1, ...
std::vector<std::string> read_labels(const core::JsonView& config);

/// word_embeddings, position_embeddings, token_type_embeddings (where there are any) and LayerNorm below
/// `prefix`, which ends in "embeddings.".
std::vector<SlotSource> bert_embedding_slots(const EncoderConfig& config, const std::string& prefix);

/// The slots of a layer whose tensors begin with `prefix`, "bert.encoder.layer.0.".
std::vector<SlotSource> bert_layer_slots(const EncoderConfig& config, const std::string& prefix);

/// A head of two layers: the first one [hidden, hidden], the second one where the model has labels.
std::vector<SlotSource> head_slots(const EncoderConfig& config, const std::string& first,
                                   const std::string& second);

/// `more` behind `slots`.
std::vector<SlotSource> joined(std::vector<SlotSource> slots, std::vector<SlotSource> more);

}  // namespace peregrine::model
