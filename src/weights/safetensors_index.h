// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "weights/shard_index.h"

namespace peregrine::weights {

using SafetensorsIndex = ShardIndex;

/// parse_shard_index() for the text of model.safetensors.index.json.
inline SafetensorsIndex parse_safetensors_index(std::string_view json, std::string_view where) {
  return parse_shard_index(json, where, ".safetensors");
}

}  // namespace peregrine::weights
