// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "cli/session.h"

namespace peregrine::cli {

/// What came of requests of many kinds (greedy, beams, sampling; prompts, or texts of an encoder-decoder, and
/// answers of different lengths), run with different numbers of them in the engine at a time.
struct MixedResult {
  struct Level {
    std::int32_t at_once = 0;
    double seconds = 0;
    std::size_t differing =
        0;  ///< Sequences whose tokens or log-probabilities are not those of one at a time.
  };
  std::size_t requests = 0;
  std::size_t new_tokens = 0;  ///< Of all answers.
  std::vector<Level> levels;   ///< One at a time first, all at once last.
};

/// Runs `count` such requests on a model that generates.
MixedResult run_mixed(const Session& session, std::int32_t count);

/// A prompt of fixed pseudo-random token ids.
std::vector<std::int32_t> bench_prompt(std::int32_t tokens, std::int64_t vocab_size, std::uint64_t seed);

/// Makes `ids` the prompt of a request, or the text where the model is an encoder-decoder.
void set_prompt(const Session& session, std::vector<std::int32_t> ids, engine::Request& request);

}  // namespace peregrine::cli
