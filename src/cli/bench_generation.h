// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "cli/session.h"

namespace peregrine::cli {

/// What is measured of a model that generates.
struct GenerationPlan {
  std::vector<std::int32_t> prompt_tokens = {512};  ///< Lengths of the prompts whose prefill is timed.
  std::vector<std::int32_t> batches = {1, 8, 32};   ///< Numbers of sequences decoded at once.
  std::int32_t decode_prompt_tokens = 128;          ///< Length of each prompt before decoding.
  std::int32_t new_tokens = 32;                     ///< Decoded by each sequence.
  std::int32_t repeat = 3;                          ///< Runs of each measurement; the median counts.

  /// Throws Error(kInvalidArgument) that names the option and its value.
  void check() const;
};

/// Tokens a second of one prompt (or text of an encoder-decoder) and its first token, after a run that warms
/// up.
double prefill_rate(const Session& session, const GenerationPlan& plan, std::int32_t prompt_tokens);

/// Tokens a second of all sequences together, from the moment when each has had its first token.
double decode_rate(const Session& session, const GenerationPlan& plan, std::int32_t batch);

}  // namespace peregrine::cli
