// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "model/encoder_config.h"
#include "model/slots.h"
#include "weights/checkpoint_source.h"

namespace peregrine::model {

/// An encoder: one file under model/families/ with one such table, and one line in encoder_families.cc where
/// it stands alone; an encoder-decoder's hangs on its Family.
struct EncoderFamily {
  std::string_view name;  ///< "bert".
  /// Values of config.json's architectures[0] and model_type that select this family.
  std::vector<std::string_view> architectures;
  std::vector<std::string_view> model_types;

  /// Reads config.json; `architecture` says what head the model has. Throws as Family::read_config.
  EncoderConfig (*read_config)(const core::JsonView& config, std::string_view architecture);

  /// Where the slots outside the layers come from (embeddings, norms, head).
  std::vector<SlotSource> (*model_slots)(const EncoderConfig& config);
  /// Where the slots of layer `layer` come from. Only slots that the config uses are listed.
  std::vector<SlotSource> (*layer_slots)(const EncoderConfig& config, std::int32_t layer);

  /// Prefix that some checkpoints leave out of every tensor name ("bert."); empty if there is none.
  std::string_view optional_prefix;

  /// Tensors that some checkpoints have under another name only.
  std::vector<weights::OtherName> other_names = {};
};

/// All encoders that stand alone, in one fixed order.
std::span<const EncoderFamily* const> encoder_families();

/// The encoder for an architecture (preferred) or model type; null where there is none.
const EncoderFamily* find_encoder_family(std::string_view architecture, std::string_view model_type);

}  // namespace peregrine::model
