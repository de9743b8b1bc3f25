// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/json.h"
#include "model/decoder_config.h"
#include "model/families/slot_builder.h"

// The experts of Mixtral and of Qwen's mixtures: their config.json keys and tensor names.

namespace peregrine::model {

/// num_experts_per_tok and the number of experts (num_experts or num_local_experts), which must not be less.
void read_expert_counts(const core::JsonView& config, ExpertsConfig& out);

/// The counts, and what Qwen's mixtures have in common: moe_intermediate_size, norm_topk_prob, and which
/// layers have experts at all (decoder_sparse_step, mlp_only_layers). out.layers must be set.
void read_qwen_experts(const core::JsonView& config, DecoderConfig& out);

/// Names of the three matrices of an expert, each without ".weight".
struct ExpertTensors {
  std::string gate;
  std::string up;
  std::string down;
};

/// Adds kExpertUp and kExpertDown of expert `index`.
void add_expert(const DecoderConfig& config, std::int32_t index, std::int64_t intermediate,
                const ExpertTensors& tensors, SlotBuilder& slots);

/// A layer of Qwen's mixtures: Llama's, where it has experts with mlp.gate and mlp.experts.N in the place of
/// its MLP, and with mlp.shared_expert and mlp.shared_expert_gate where the model has a shared expert.
std::vector<SlotSource> qwen_expert_layer_slots(const DecoderConfig& config, std::int32_t layer);

}  // namespace peregrine::model
