// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "decoding/sampler.h"
#include "decoding/stop_strings.h"
#include "generation/parameters.h"
#include "generation/sampled_token.h"

namespace peregrine::decoding {

/// Beam search over one request, as transformers' generate() does it (BeamSearchScorer with
/// num_beam_groups >= 1; Vijayakumar et al., arXiv:1610.02424, for groups): keeps beams, their scores, and
/// the hypotheses that have ended. Knows no device and no cache: it is given the logits after each beam, and
/// says which beam each new one goes on from. A pure function of what it was given. Not thread-safe.
///
/// What transformers leaves open or cannot do:
/// - Of continuations with equal scores the one of the lower beam comes first, then that of the lower token.
/// Of
///   hypotheses with equal scores the one that came later does, as there.
/// - A token of stop_token_ids, and one that completes a stop string, ends a hypothesis just as an end token
/// does.
/// - Forbidden tokens (minus infinity) never make a beam, so there may be fewer beams than num_beams;
/// transformers
///   goes on with impossible ones. A group of which no beam can go on ends with its beams as they are.
/// - A group that is done has no beams any more, and takes no part in diversity (transformers counts its
/// padding).
class BeamSearch {
 public:
  /// A beam after a step: beam `parent` of before, with `token` behind it.
  struct Beam {
    std::int32_t parent = 0;
    std::int32_t token = 0;
  };

  /// What is returned at the end.
  struct Hypothesis {
    std::vector<generation::SampledToken> tokens;  ///< An end token is among them.
    float score = 0.0f;  ///< Sum of the (processed) log-probabilities / length^length_penalty; finite.
    generation::FinishReason finish = generation::FinishReason::kLength;
  };

  /// `prompt`: what processors see before the output. At most `most_tokens` (>= 1) are drawn, whatever
  /// max_new_tokens says. `bytes` (may be null where there are no stop_strings; must outlive this) is where
  /// they are found: a hypothesis ends with the token that completes one. `encoder_ids` as for
  /// SequenceSampler. Throws Error(kInvalidArgument) for token ids outside [0, vocab_size), and for numbers
  /// of beams or groups that cannot be.
  BeamSearch(const generation::Parameters& parameters, std::int64_t vocab_size,
             std::span<const std::int32_t> prompt, std::int32_t most_tokens, const TokenBytes* bytes,
             std::span<const std::int32_t> encoder_ids = {});
  ~BeamSearch();
  BeamSearch(BeamSearch&&) noexcept;
  BeamSearch& operator=(BeamSearch&&) noexcept;

  /// Rows of logits that the next advance() takes: 1 at first (every group begins with the prompt), then the
  /// number of beams, which is num_beams or, where too few tokens are allowed or groups are done, fewer. 0
  /// once done.
  std::int32_t live() const;

  /// Takes the logits after each live beam, float32 [live(), vocab_size], which it overwrites, and goes a
  /// step on. Numbers that are not finite count as in SequenceSampler::sample, except that a NaN fails the
  /// search.
  void advance(std::span<float> logits, SamplerScratch& scratch);

  /// The live beams after the last advance(), in order; empty once done.
  std::span<const Beam> beams() const;

  bool done() const;
  /// Whether a NaN was met, or nothing at all was allowed behind the prompt: it is done, without results.
  bool failed() const;

  /// Once done: the parameters' n best hypotheses, best first; fewer where there were not so many, and at
  /// least one unless it failed.
  std::span<const Hypothesis> results() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace peregrine::decoding
