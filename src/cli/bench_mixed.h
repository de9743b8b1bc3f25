// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "cli/session.h"

namespace peregrine::cli {

/// What came of requests of many kinds (greedy, beams, sampling; prompts, or texts of an encoder-decoder, and
/// answers of different lengths), run one at a time and all at once.
struct MixedResult {
  std::size_t requests = 0;
  std::size_t new_tokens = 0;   ///< Of all answers.
  double alone_seconds = 0;     ///< One request after the other.
  double together_seconds = 0;  ///< All submitted at once.
  std::size_t differing = 0;    ///< Requests whose tokens or log-probabilities differ in the two.
};

/// Runs `count` such requests on a model that generates.
MixedResult run_mixed(const Session& session, std::int32_t count);

/// A prompt of fixed pseudo-random token ids.
std::vector<std::int32_t> bench_prompt(std::int32_t tokens, std::int64_t vocab_size, std::uint64_t seed);

/// Makes `ids` the prompt of a request, or the text where the model is an encoder-decoder.
void set_prompt(const Session& session, std::vector<std::int32_t> ids, engine::Request& request);

}  // namespace peregrine::cli
