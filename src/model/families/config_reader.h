// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string_view>

#include "core/json.h"
#include "model/decoder_config.h"
#include "ops/arguments.h"

// What families have in common when they read config.json. Every function throws Error(kInvalidArgument) that
// names the key, its value and what is allowed, or Error(kUnsupported) where the value is known but cannot be
// run. Sizes are capped, so that a damaged file cannot ask for memory out of proportion.

namespace peregrine::model {

inline constexpr std::int64_t kMaxLayers = 1024;
inline constexpr std::int64_t kMaxHeads = 16384;
inline constexpr std::int64_t kMaxHeadDim = 16384;
inline constexpr std::int64_t kMaxHidden = std::int64_t{1} << 20;
inline constexpr std::int64_t kMaxIntermediate = std::int64_t{1} << 22;
inline constexpr std::int64_t kMaxVocabulary = std::int64_t{1} << 24;
/// Positions and token counts are int32.
inline constexpr std::int64_t kMaxPositions = std::int64_t{1} << 30;

/// Names of one key, newest first: older files use others.
using Keys = std::initializer_list<std::string_view>;

/// The value of the one key that is there; an error where two are there and disagree.
std::optional<core::JsonView> find_any(const core::JsonView& config, Keys keys);

std::int64_t read_int(const core::JsonView& config, Keys keys, std::int64_t low, std::int64_t high);
std::int64_t read_int(const core::JsonView& config, Keys keys, std::int64_t low, std::int64_t high,
                      std::int64_t absent);
bool read_bool(const core::JsonView& config, std::string_view key, bool absent);
/// A number in [low, high].
double read_number(const core::JsonView& config, std::string_view key, double low, double high);
double read_number(const core::JsonView& config, std::string_view key, double low, double high,
                   double absent);
float read_epsilon(const core::JsonView& config, std::string_view key, double absent);
ops::Activation read_activation(const core::JsonView& config, std::string_view key, std::string_view absent);

/// vocab_size, hidden_size, num_hidden_layers, num_attention_heads (with their old names) and
/// max_position_embeddings; head_dim, which is out.head_dim where it is missing or, if that is 0, hidden_size
/// / heads, which must have no remainder. kv_heads = heads. Refuses files that describe quantized weights.
void read_sizes(const core::JsonView& config, std::int64_t absent_max_positions, DecoderConfig& out);

/// The base and the scaling of rotary positions: `theta_key` (out.rotary.theta where it is missing),
/// rope_scaling (with "rope_type" or its old name "type") or rope_parameters, as newer files call it.
/// `out.rotary.dim` must be set; out.max_positions grows by the factor where the scaling is meant to extend
/// the stored length.
void read_rotary(const core::JsonView& config, std::string_view theta_key, DecoderConfig& out);

/// num_key_value_heads, which must divide the query heads; as many where it is missing or null.
void read_kv_heads(const core::JsonView& config, DecoderConfig& out);

/// sliding_window: positions that attention sees; 0 (all) where it is null, `absent` where it is missing.
std::int32_t read_window(const core::JsonView& config, std::int32_t absent);

/// Throws Error(kUnsupported) where the file describes quantized weights.
void refuse_quantized(const core::JsonView& config);

/// Throws Error(kUnsupported) where `key` is there and true.
void refuse_flag(const core::JsonView& config, std::string_view key);

}  // namespace peregrine::model
