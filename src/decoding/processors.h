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
  virtual void append(std::span<const std::int32_t> tokens, bool generated) = 0;

  /// Changes `logits` [vocab_size] for the token after `tokens`. Forbidden tokens become minus infinity.
  virtual void apply(std::span<float> logits, std::span<const std::int32_t> tokens) const = 0;
};

/// The processors of a request, in the order of transformers' generate(): repetition penalty, presence and
/// frequency penalty (which transformers lacks), no-repeat n-gram, bad words, min_length and min_new_tokens,
/// suppressed tokens.
class ProcessorChain {
 public:
  /// `tokens_expected` (prompt and output) is what room is made for; more only costs an allocation.
  /// Throws Error(kInvalidArgument) for token ids outside [0, vocab_size).
  ProcessorChain(const generation::Parameters& parameters, std::int64_t vocab_size, std::int64_t prompt_size,
                 std::size_t tokens_expected);

  bool empty() const { return processors_.empty(); }
  void append(std::span<const std::int32_t> tokens, bool generated);
  void apply(std::span<float> logits, std::span<const std::int32_t> tokens) const;

 private:
  std::vector<std::unique_ptr<LogitsProcessor>> processors_;
};

}  // namespace peregrine::decoding
