// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "generation/parameters.h"
#include "generation/sampled_token.h"

namespace peregrine::decoding {

using generation::SampledToken;
using generation::TokenLogProb;

/// Memory that sampling works in, sized for one vocabulary; one per sampling thread, so that sampling
/// allocates nothing.
class SamplerScratch {
 public:
  explicit SamplerScratch(std::int64_t vocab_size);
  ~SamplerScratch();
  SamplerScratch(SamplerScratch&&) noexcept;

 private:
  friend class BeamSearch;
  friend class SequenceSampler;
  friend void score(std::span<float> logits, std::int32_t id, std::int32_t top, SamplerScratch& scratch,
                    SampledToken& out);
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Draws the tokens of one sequence: keeps its tokens and counts, applies processors in transformers' order,
/// then samples by a random number that depends only on (seed, sequence index, position). Two samplers that
/// saw the same tokens draw the same token from the same logits, whatever happened between. Not thread-safe;
/// movable.
class SequenceSampler {
 public:
  /// `prompt` and `generated` (tokens of this sequence so far, on replay) are copied. `encoder_ids` is the
  /// text of the encoder, where the model has one; else, for what asks for it, the prompt is.
  SequenceSampler(const generation::Parameters& parameters, std::uint64_t seed, std::int32_t sequence_index,
                  std::int64_t vocab_size, std::span<const std::int32_t> prompt,
                  std::span<const std::int32_t> generated, std::span<const std::int32_t> encoder_ids = {});
  ~SequenceSampler();
  SequenceSampler(SequenceSampler&&) noexcept;
  SequenceSampler& operator=(SequenceSampler&&) noexcept;

  /// Draws the next token from `logits` [vocab_size], which it overwrites, fills `out`, and appends the token
  /// to the sequence. Allocates nothing while the output stays below 16,384 tokens and `out` is used again.
  ///
  /// The draw is always defined. A NaN counts as minus infinity, plus infinity as the largest finite number.
  /// Where no logit is above minus infinity, or every such token is forbidden, the token is the lowest id
  /// that is not forbidden (0 where all are) with a log-probability of minus infinity, which no other draw
  /// has.
  void sample(std::span<float> logits, SamplerScratch& scratch, SampledToken& out);

  /// Prompt and generated tokens.
  std::span<const std::int32_t> tokens() const;
  std::int64_t prompt_size() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace peregrine::decoding
