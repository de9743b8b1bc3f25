// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace peregrine::weights {

/// What model.safetensors.index.json or pytorch_model.bin.index.json says: which shard holds which tensor.
struct ShardIndex {
  struct Entry {
    std::string tensor;
    std::uint32_t shard = 0;  ///< Position in `shards`.
  };
  std::vector<std::string> shards;  ///< File names, sorted, each once.
  std::vector<Entry> entries;       ///< Sorted by tensor name, each once.
};

/// Reads the text of an index whose shards' names end in `extension` (".safetensors", ".bin"). Throws
/// Error(kInvalidArgument) naming `where` and the place: not JSON, no "weight_map", a tensor given twice, a
/// shard that is not the plain name of such a file.
ShardIndex parse_shard_index(std::string_view json, std::string_view where, std::string_view extension);

}  // namespace peregrine::weights
