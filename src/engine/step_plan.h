// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "decoding/beam_search.h"
#include "engine/request.h"
#include "model/decoder.h"
#include "model/encoder.h"
#include "model/step.h"

namespace peregrine::engine {

/// A sequence takes a slot: from this step on, samples of the slot are its tokens.
struct SlotOpening {
  std::int32_t slot = 0;
  const Request* request = nullptr;
  std::int32_t sequence = 0;                ///< Index in its group.
  std::span<const std::int32_t> generated;  ///< Its tokens after the prompt.
};

/// A token to draw: row `logit_row` of the step's logits, for the sequence in `slot`. Several samples may
/// name one row (a group that forks); they lie side by side.
struct StepSample {
  std::int32_t logit_row = 0;
  std::int32_t slot = 0;
};

/// A beam search that takes the logits of its live beams: rows [first_row, first_row + search->live()).
struct StepBeams {
  std::shared_ptr<decoding::BeamSearch> search;
  std::int32_t first_row = 0;
};

/// Tokens of a prompt whose log-probabilities are wanted: row first_row + i of the step's logits is that of
/// ids[i].
struct StepPrompt {
  std::int32_t first_row = 0;
  std::span<const std::int32_t> ids;
  std::int32_t top = 0;  ///< Most likely tokens to report with each.
};

/// Work at the texts of encoder-decoder requests: layers [first_layer, end_layer) of one batch of texts, of
/// which there is one at a time.
struct StepEncoding {
  std::vector<model::EncoderSequence> texts;  ///< Not empty: a batch begins.
  std::int32_t first_layer = 0;
  std::int32_t end_layer = 0;
  /// Not empty: the batch ends, and these are the KV blocks for each text's cross-attention; an empty list
  /// for a text that nobody waits for any more.
  std::vector<std::span<const std::int32_t>> blocks;

  bool empty() const { return first_layer == end_layer; }
};

/// What one step does, in this order: slots are opened, texts encoded, blocks copied, tokens computed, tokens
/// drawn. All pointers and spans are valid during StepExecutor::launch() only. Memory is kept from step to
/// step.
struct StepPlan {
  std::vector<SlotOpening> openings;
  std::vector<std::int32_t> copies;  ///< Pairs (from, to) of KV blocks.
  std::vector<std::int32_t> tokens;  ///< Of all sequences: ids or model::token_of_slot().
  std::vector<model::StepSequence> sequences;
  std::vector<StepSample> samples;
  std::vector<StepBeams> beams;
  std::vector<StepPrompt> prompts;
  StepEncoding encoding;
  std::int32_t decode_rows = 0;  ///< Of all rows, one for each sequence that decodes.
  std::int32_t prompt_rows = 0;  ///< Rows of prompts, and what texts take of the budget for these.

  /// Makes room for the largest step, so that planning allocates nothing.
  void reserve(const model::StepLimits& limits);
  void clear();
  bool empty() const { return sequences.empty() && encoding.empty() && openings.empty(); }
};

}  // namespace peregrine::engine
