// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "model/decoder_config.h"
#include "model/slots.h"
#include "weights/checkpoint_source.h"

namespace peregrine::model {

/// A family with a decoder: one file under model/families/ with one such table, and one line in families.cc.
struct Family {
  std::string_view name;  ///< "falcon".
  /// Values of config.json's architectures[0] and model_type that select this family.
  std::vector<std::string_view> architectures;
  std::vector<std::string_view> model_types;

  /// Reads config.json. Throws Error that names the key, its value and what is allowed; kUnsupported where
  /// the model is of this family but uses something Peregrine cannot do.
  DecoderConfig (*read_config)(const core::JsonView& config);

  /// Where the slots outside the layers come from (embedding, final norm, head).
  std::vector<SlotSource> (*model_slots)(const DecoderConfig& config);
  /// Where the slots of layer `layer` come from. Only slots that the config uses are listed.
  std::vector<SlotSource> (*layer_slots)(const DecoderConfig& config, std::int32_t layer);

  /// Prefix that early checkpoints leave out of every tensor name ("transformer."); empty if there is none.
  std::string_view optional_prefix;

  /// The encoder of an encoder-decoder model; null: decoder only.
  const struct EncoderFamily* encoder = nullptr;

  /// Tensors that some checkpoints have under another name only.
  std::vector<weights::OtherName> other_names = {};
};

/// All families, in one fixed order.
std::span<const Family* const> families();

/// The family for an architecture (preferred) or model type. Throws Error(kUnsupported) that names what was
/// asked for and lists the architectures there are.
const Family& find_family(std::string_view architecture, std::string_view model_type);

}  // namespace peregrine::model
