// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace peregrine::model {

/// The config.json of a model whose shape is known by name: falcon-7b, falcon-40b, llama-3.2-1b,
/// llama-3.1-8b, gpt-neox-20b or pythia-1b; for benchmarks and tests with random weights. `spec` is the name,
/// optionally followed by ":" and comma-separated overrides: layers, hidden, heads, kv_heads, intermediate,
/// vocab, positions ("falcon-7b:layers=4,vocab=1024"). Throws Error(kInvalidArgument) that lists the names or
/// the keys. Whether the sizes fit together is for the family to say.
std::string random_model_config(std::string_view spec);

}  // namespace peregrine::model
