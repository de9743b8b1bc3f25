// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "engine/engine.h"
#include "engine/request_check.h"

namespace peregrine::engine {

/// What the options of an engine are checked against.
struct EngineFacts {
  std::int64_t max_positions = 0;    ///< Of the model.
  std::int64_t usual_positions = 0;  ///< See model::DecoderConfig.
  std::int32_t encoder_layers = 0;   ///< Of an encoder-decoder model.
  std::int64_t vocab_size = 0;
  std::uint64_t kv_block_bytes = 0;
  std::uint64_t physical_memory = 0;  ///< In bytes.
};

/// Memory that this process may use: the machine's, lowered to its control group's limit.
std::uint64_t physical_memory();

/// Fills in the options that were left to be chosen. Throws Error(kInvalidArgument) that names an option
/// which cannot be met, its value and what is allowed.
BatchLimits resolve_options(const EngineOptions& options, const EngineFacts& facts);

}  // namespace peregrine::engine
