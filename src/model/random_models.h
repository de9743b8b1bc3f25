// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace peregrine::model {

/// The config.json of a model whose shape is known by name: bert-base, falcon-7b, falcon-40b, llama-3.2-1b,
/// llama-3.1-8b, gpt-neox-20b, pythia-1b, mixtral-8x7b, qwen3-0.6b, qwen1.5-moe-a2.7b, t5-base, flan-t5-small
/// or flan-t5-large; for benchmarks and tests with random weights. `spec` is the name, optionally followed by
/// ":" and comma-separated overrides: layers, hidden, heads, kv_heads, intermediate, experts,
/// experts_per_token, expert_intermediate, shared_intermediate, vocab, positions
/// ("falcon-7b:layers=4,vocab=1024"). Throws Error(kInvalidArgument) that lists the names or the keys.
/// Whether the sizes fit together is for the family to say.
std::string random_model_config(std::string_view spec);

}  // namespace peregrine::model
