// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "generation/parameters.h"

namespace peregrine::decoding::testing {

using Tokens = std::vector<std::int32_t>;

/// A model: the logits after a history.
using Model = std::function<std::vector<float>(const Tokens& history)>;

struct ReferenceHypothesis {
  double score = 0;
  Tokens tokens;  ///< The output only.
  generation::FinishReason finish = generation::FinishReason::kLength;
};

struct Reference {
  std::vector<ReferenceHypothesis> results;
  /// A beam that cannot be (of the -1e9 with which transformers begins, or forbidden) came into play.
  bool impossible = false;
};

/// Beam search with plain loops over whole sequences, as transformers 4.45 has it in _group_beam_search,
/// BeamSearchScorer, BeamHypotheses and the processors; `encoder` is what the encoder read. `literally` with
/// its num_beams beams at every time and the top max(2, 1 + end tokens) * group size candidates, else with as
/// many beams as are possible and all candidates. Stop strings (which it lacks) only without `literally`.
Reference reference_search(const generation::Parameters& parameters, const Model& model, const Tokens& prompt,
                           const Tokens& encoder, std::int32_t most_tokens,
                           const std::vector<std::string>& bytes, bool literally);

}  // namespace peregrine::decoding::testing
