// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "api/text_assembler.h"
#include "engine/request.h"
#include "generation/parameters.h"
#include "text/tokenizer.h"

namespace peregrine::cli {

/// One sequence of an answer.
struct Sequence {
  std::vector<std::int32_t> ids;
  std::vector<float> logprobs;
  std::vector<std::vector<generation::TokenLogProb>> top;
  std::string text;  ///< Up to a stop string; empty without a tokenizer.
  std::optional<generation::FinishReason> finish;
  std::string error;
  std::optional<float> hypothesis_score;  ///< Of a beam search.

  /// The score of a hypothesis, else the sum of the log-probabilities.
  float score() const;
  /// The log-probability per token by which the best of several are chosen; lowest without tokens.
  double mean_logprob() const;
};

/// Keeps what each sequence of a request gets, cut at stop strings; writes the first one's text to standard
/// output as it comes where `streaming`.
class Collector : public engine::EventSink {
 public:
  /// `tokenizer` (null: none) must outlive this object; `stop` needs one.
  Collector(const generation::Parameters& parameters, const text::Tokenizer* tokenizer,
            const std::vector<std::string>& stop, bool streaming);

  void on_step(std::span<const engine::SequenceEvent> events) override;

  /// Whether every sequence has met its end or a stop string: the engine is needed no more.
  bool all_ended() const;
  /// Ends the line of a streamed text.
  void finish() const;

  /// The sequences that are returned: of more than n that were sampled the best ones, best first.
  std::vector<Sequence> best() const;
  /// The prompt's tokens from its second, where their log-probabilities were asked for.
  const std::vector<generation::SampledToken>& prompt() const { return prompt_; }

 private:
  void add(const engine::SequenceEvent& event);

  generation::Parameters parameters_;
  const text::Tokenizer* tokenizer_;
  bool streaming_;
  std::vector<Sequence> sequences_;
  std::vector<api::TextAssembler> assemblers_;
  std::vector<generation::SampledToken> prompt_;
  std::vector<api::TextToken> tokens_;  ///< Kept for its memory.
};

/// One JSON document: the first sequence's members, "sequences", and with `prompt_logprobs` those of the
/// prompt (null for its first token).
std::string answer_json(const std::vector<Sequence>& sequences, const text::Tokenizer* tokenizer,
                        const generation::Parameters& parameters,
                        std::span<const generation::SampledToken> prompt);

/// What the terminal shows when the text was not streamed: several sequences, or ids where there is no
/// tokenizer.
std::string answer_text(const std::vector<Sequence>& sequences, const text::Tokenizer* tokenizer);

}  // namespace peregrine::cli
