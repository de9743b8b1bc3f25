// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "model/families/config_reader.h"
#include "model/families/experts_layout.h"
#include "model/families/families.h"
#include "model/families/llama_layout.h"

namespace peregrine::model {
namespace {

using core::JsonView;

DecoderConfig read_config(const JsonView& config) {
  DecoderConfig out;
  out.family = "mixtral";
  out.rotary.theta = 1e6;  // where the key is missing, as transformers has it; so are the two below
  read_llama_config(config, 131072, out);
  out.norm_epsilon = read_epsilon(config, "rms_norm_eps", 1e-5);
  out.window = read_window(config, 0);
  read_expert_counts(config, out.experts);
  out.experts.intermediate_size = out.intermediate_size;
  return out;
}

std::vector<SlotSource> layer_slots(const DecoderConfig& config, std::int32_t layer) {
  SlotBuilder slots = begin_llama_layer(config, layer);
  const std::string block = "block_sparse_moe.";
  const std::int32_t count = config.experts.count;
  slots.stacked(Slot::kRouter, Cut::kReplicated, {{"", block + "gate", count, all_rows(count)}},
                config.hidden_size);
  for (std::int32_t index = 0; index < count; ++index) {
    const std::string expert = block + "experts." + std::to_string(index);
    add_expert(config, index, config.experts.intermediate_size,
               {.gate = expert + ".w1", .up = expert + ".w3", .down = expert + ".w2"}, slots);
  }
  return slots.take();
}

}  // namespace

const Family kMixtralFamily = {
    .name = "mixtral",
    .architectures = {"MixtralForCausalLM"},
    .model_types = {"mixtral"},
    .read_config = read_config,
    .model_slots = llama_model_slots,
    .layer_slots = layer_slots,
    .optional_prefix = "model.",
};

}  // namespace peregrine::model
