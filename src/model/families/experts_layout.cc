// SPDX-License-Identifier: Apache-2.0
#include "model/families/experts_layout.h"

#include <algorithm>

#include "core/error.h"
#include "model/families/config_reader.h"
#include "model/families/llama_layout.h"

namespace peregrine::model {
namespace {

using core::JsonView;

constexpr std::int64_t kMaxExperts = 4096;

}  // namespace

void read_expert_counts(const JsonView& config, ExpertsConfig& out) {
  out.count =
      static_cast<std::int32_t>(read_int(config, {"num_experts", "num_local_experts"}, 1, kMaxExperts));
  out.per_token = static_cast<std::int32_t>(read_int(config, {"num_experts_per_tok"}, 1, kMaxExperts));
  if (out.per_token > out.count) {
    core::fail(core::ErrorKind::kInvalidArgument,
               "{}: num_experts_per_tok ({}) must be at most the number of experts ({})", config.where(),
               out.per_token, out.count);
  }
}

void read_qwen_experts(const JsonView& config, DecoderConfig& out) {
  read_expert_counts(config, out.experts);
  out.experts.intermediate_size = read_int(config, {"moe_intermediate_size"}, 1, kMaxIntermediate);
  out.experts.normalized = read_bool(config, "norm_topk_prob", false);
  std::vector<std::int32_t>& dense = out.experts.dense_layers;
  const std::int64_t step = read_int(config, {"decoder_sparse_step"}, 1, kMaxLayers, 1);
  for (std::int32_t layer = 0; layer < out.layers; ++layer) {
    if ((layer + 1) % step != 0) dense.push_back(layer);
  }
  if (const auto listed = config.find("mlp_only_layers")) {
    for (const JsonView& item : listed->items()) {
      const auto layer = static_cast<std::int32_t>(item.as_int(0, out.layers - 1));
      if (std::find(dense.begin(), dense.end(), layer) == dense.end()) dense.push_back(layer);
    }
  }
  std::sort(dense.begin(), dense.end());
}

void add_expert(const DecoderConfig& config, std::int32_t index, std::int64_t intermediate,
                const ExpertTensors& tensors, SlotBuilder& slots) {
  slots.stacked(Slot::kExpertUp, Cut::kColumn,
                {{"gate", tensors.gate, intermediate, all_rows(intermediate)},
                 {"up", tensors.up, intermediate, all_rows(intermediate)}},
                config.hidden_size, index);
  slots.stacked(Slot::kExpertDown, Cut::kRow,
                {{"", tensors.down, config.hidden_size, all_rows(config.hidden_size)}}, intermediate, index);
}

std::vector<SlotSource> qwen_expert_layer_slots(const DecoderConfig& config, std::int32_t layer) {
  const ExpertsConfig& experts = config.experts;
  if (!experts.in_layer(layer)) return llama_layer_slots(config, layer);
  const auto tensors = [](const std::string& prefix) {
    return ExpertTensors{prefix + "gate_proj", prefix + "up_proj", prefix + "down_proj"};
  };
  SlotBuilder slots = begin_llama_layer(config, layer);
  std::vector<SlotBuilder::Rows> router = {{"", "mlp.gate", experts.count, all_rows(experts.count)}};
  if (experts.has_shared()) {
    router.push_back({"shared", "mlp.shared_expert_gate", 1, all_rows(1)});
  }
  slots.stacked(Slot::kRouter, Cut::kReplicated, router, config.hidden_size);
  for (std::int32_t index = 0; index < experts.count; ++index) {
    add_expert(config, index, experts.intermediate_size,
               tensors("mlp.experts." + std::to_string(index) + "."), slots);
  }
  if (experts.has_shared()) {
    add_expert(config, experts.count, experts.shared_intermediate_size, tensors("mlp.shared_expert."), slots);
  }
  return slots.take();
}

}  // namespace peregrine::model
