// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "decoding/beam_hypotheses.h"
#include "decoding/best_tokens.h"
#include "decoding/processors.h"
#include "decoding/stop_strings.h"
#include "decoding/token_tree.h"
#include "generation/parameters.h"

namespace peregrine::decoding {

/// What tokens end a hypothesis. An end token comes before a stop token, that before a stop string.
class BeamEnds {
 public:
  BeamEnds(const generation::Parameters& parameters, const TokenBytes* bytes);

  /// Why `token`, behind an output that ends in `tail`, ends it; nothing where it does not.
  std::optional<generation::FinishReason> reason(const std::string& tail, std::int32_t token) const;
  const StopStrings& strings() const { return strings_; }
  /// Tokens that always end one.
  std::size_t tokens() const { return end_ids_.size() + stop_ids_.size(); }

 private:
  std::vector<std::int32_t> end_ids_, stop_ids_;  ///< Sorted.
  StopStrings strings_;
};

/// One open beam.
struct OpenBeam {
  std::int32_t node = TokenTree::kRoot;  ///< Held.
  float score = 0;                       ///< Sum of the processed log-probabilities, in single precision.
  std::vector<std::int32_t> tokens;      ///< Prompt and output, where processors look at them.
  ProcessorChain processors;
  std::string tail;  ///< The end of the output's bytes, where there are stop strings.
};

/// What may come after one beam.
struct BeamRow {
  LogProbabilities scores;       ///< After processors.
  std::span<const float> model;  ///< The model's own logits ...
  double log_total = 0;          ///< ... and what makes log-probabilities of them.
};

/// A group of beams (all of them, where there is one group): its open beams, and its hypotheses that have
/// ended. A step is offer() for each open beam, in order, then select().
class BeamGroup {
 public:
  struct Choice {
    float score = 0;
    std::int32_t beam = 0;
    generation::TokenLogProb token;
    std::optional<generation::FinishReason> finish;
  };

  /// Begins with one beam, `start`. `ends` must outlive it.
  BeamGroup(const generation::Parameters& parameters, std::size_t size, std::int32_t most_tokens,
            const BeamEnds& ends, OpenBeam start);

  bool done() const { return open_.empty(); }
  std::span<const OpenBeam> open() const { return open_; }
  const BeamHypotheses& hypotheses() const { return hypotheses_; }

  /// Takes note of the best that may come after beam `beam`.
  void offer(std::int32_t beam, const BeamRow& row);

  /// Ends hypotheses and chooses the beams of the next step, which become the open ones; none where the group
  /// is done. `tops` are the most likely tokens after each open beam, reported with the token chosen. Returns
  /// what was chosen.
  std::span<const Choice> select(TokenTree& tree,
                                 std::span<const std::vector<generation::TokenLogProb>> tops);

 private:
  void end(const Choice& choice, TokenTree& tree,
           std::span<const std::vector<generation::TokenLogProb>> tops);
  void end_as_they_are(TokenTree& tree);
  void close(TokenTree& tree);
  void go_on(TokenTree& tree, std::span<const std::vector<generation::TokenLogProb>> tops);

  std::size_t size_;
  std::int32_t most_tokens_;
  const BeamEnds& ends_;
  BeamHypotheses hypotheses_;
  std::int32_t length_ = 0;  ///< Tokens in each open beam.
  std::vector<OpenBeam> open_, spare_, next_;
  std::vector<Choice> offered_, chosen_;
  std::vector<std::int32_t> children_;  ///< Of each open beam, those that go on from it.
  std::vector<ScoredToken> best_;
};

}  // namespace peregrine::decoding
