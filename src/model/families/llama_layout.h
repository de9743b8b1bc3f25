// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "core/json.h"
#include "model/decoder_config.h"
#include "model/families/slot_builder.h"

// The tensor names and config.json keys of Llama, which many later families kept.

namespace peregrine::model {

/// Sizes, grouped queries, RMS norms (rms_norm_eps), a gated MLP (hidden_act) and rotary positions over this
/// share of a head. No biases, and a head that is not tied: what a family has otherwise, it sets afterwards.
void read_llama_config(const core::JsonView& config, std::int64_t absent_max_positions, DecoderConfig& out,
                       double rotary_share = 1.0);

/// Embedding, final norm and output layer.
std::vector<SlotSource> llama_model_slots(const DecoderConfig& config);
/// self_attn: q_proj, k_proj, v_proj and o_proj.
void add_llama_attention(const DecoderConfig& config, SlotBuilder& slots);
/// mlp: gate_proj, up_proj and down_proj.
void add_llama_mlp(const DecoderConfig& config, SlotBuilder& slots);
/// A layer up to its MLP: input_layernorm, self_attn (with head_norms: q_norm and k_norm, the same for every
/// head) and post_attention_layernorm.
SlotBuilder begin_llama_layer(const DecoderConfig& config, std::int32_t layer);
/// A whole layer.
std::vector<SlotSource> llama_layer_slots(const DecoderConfig& config, std::int32_t layer);

}  // namespace peregrine::model
