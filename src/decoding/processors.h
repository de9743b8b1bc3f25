// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "generation/parameters.h"

namespace peregrine::decoding {

/// Changes the logits of a sequence's next token in view of its tokens so far. State is a function of the
/// tokens alone, so that a sequence can be rebuilt. Applies to log-probabilities just as well (beam search).
class LogitsProcessor {
 public:
  virtual ~LogitsProcessor() = default;

  /// Takes note of the last of `tokens` (the whole sequence); called once for each token, in order.
  /// `generated` says whether it was drawn rather than given in the prompt.
  virtual void append(std::span<const std::int32_t> /*tokens*/, bool /*generated*/) {}

  /// Changes `logits` [vocab_size] for the token after `tokens`. Forbidden tokens become minus infinity.
  virtual void apply(std::span<float> logits, std::span<const std::int32_t> tokens) const = 0;

  /// Another one in the same state. Null where nothing is kept, so that one processor serves several
  /// sequences.
  virtual std::unique_ptr<LogitsProcessor> clone() const { return nullptr; }

  /// Takes the state of `other`, which goes back to the same processor through clone(). Memory is used again.
  virtual void assign(const LogitsProcessor& /*other*/) {}
};

/// A processor that keeps state: Self's copies are its clones.
template <typename Self>
class StatefulProcessor : public LogitsProcessor {
 public:
  std::unique_ptr<LogitsProcessor> clone() const override {
    return std::make_unique<Self>(static_cast<const Self&>(*this));
  }
  void assign(const LogitsProcessor& other) override {
    static_cast<Self&>(*this) = static_cast<const Self&>(other);
  }
};

/// What is taken from the logit of a token.
struct TokenPenalty {
  std::int32_t id = 0;
  float penalty = 0;
};

/// The processors of a request, in the order of transformers' generate(): sequence bias, diversity of beam
/// groups, encoder repetition and repetition penalty, presence and frequency penalty (which transformers
/// lacks), no-repeat n-gram of the sequence and of the encoder's text, bad words, min_length and
/// min_new_tokens, forced first and last tokens, length decay, suppressed tokens, renormalization. A copy
/// goes on by itself from the same state.
class ProcessorChain {
 public:
  /// `tokens_expected` (prompt and output) is what room is made for; more only costs an allocation.
  /// `encoder_ids` is the text of an encoder-decoder model's encoder; of other models, as in transformers,
  /// the prompt. Throws Error(kInvalidArgument) for token ids outside [0, vocab_size).
  ProcessorChain(const generation::Parameters& parameters, std::int64_t vocab_size, std::int64_t prompt_size,
                 std::size_t tokens_expected, std::span<const std::int32_t> encoder_ids = {});
  ProcessorChain(const ProcessorChain& other);
  ProcessorChain(ProcessorChain&&) noexcept = default;
  /// Only between copies of one chain.
  ProcessorChain& operator=(const ProcessorChain& other);
  ProcessorChain& operator=(ProcessorChain&&) noexcept = default;
  ~ProcessorChain() = default;

  bool empty() const { return processors_.empty(); }
  void append(std::span<const std::int32_t> tokens, bool generated);
  /// `diversity` is for tokens that other groups of beams have chosen (transformers'
  /// HammingDiversityLogitsProcessor), each once.
  void apply(std::span<float> logits, std::span<const std::int32_t> tokens,
             std::span<const TokenPenalty> diversity = {}) const;

 private:
  template <typename Processor, typename... Arguments>
  void add(Arguments&&... arguments);
  void add_biases(const generation::Parameters& parameters, std::int64_t vocab_size);
  void add_penalties(const generation::Parameters& parameters, std::size_t distinct,
                     std::span<const std::int32_t> encoder_ids);
  void add_restrictions(const generation::Parameters& parameters, std::int64_t vocab_size,
                        std::size_t tokens_expected, std::span<const std::int32_t> encoder_ids);
  void add_ends(const generation::Parameters& parameters, std::int64_t vocab_size, std::int64_t prompt_size);

  std::vector<std::shared_ptr<LogitsProcessor>> processors_;
  std::size_t before_diversity_ = 0;  ///< Processors that come before it.
};

}  // namespace peregrine::decoding
