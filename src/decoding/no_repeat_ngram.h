// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "decoding/processors.h"
#include "decoding/token_counts.h"

namespace peregrine::decoding {

/// Forbids every token that would complete an n-gram which the sequence (prompt included) already holds.
/// R. Paulus et al., "A deep reinforced model for abstractive summarization", arXiv:1705.04304, section 2.5.
/// Keeps the different n-grams grouped by their first n - 1 tokens, so that a step costs the number of tokens
/// it forbids, not the length of the sequence.
class NoRepeatNgram : public LogitsProcessor {
 public:
  /// `size` is n >= 1; comparing a group costs up to n.
  NoRepeatNgram(std::int32_t size, std::size_t tokens_expected);
  void append(std::span<const std::int32_t> tokens, bool generated) override;
  void apply(std::span<float> logits, std::span<const std::int32_t> tokens) const override;

 private:
  /// The n-grams that begin with the same n - 1 tokens.
  struct Group {
    std::int32_t position = 0;  ///< Where one of them ends.
    std::int32_t last = -1;     ///< The newest of them; each names the one before.
  };
  struct Ngram {
    std::int32_t group = 0;
    std::int32_t token = 0;      ///< Its last token.
    std::int32_t previous = -1;  ///< Another n-gram of its group.
  };

  /// The group of n-grams that begin with the n - 1 tokens before `end`, or -1.
  std::int32_t find_group(std::span<const std::int32_t> tokens, std::size_t end) const;

  std::size_t prefix_;        ///< n - 1.
  std::uint64_t window_ = 0;  ///< Polynomial hash of the last n - 1 tokens.
  std::uint64_t oldest_ = 1;  ///< What the oldest token of the window is multiplied by in it.
  std::vector<Group> groups_;
  std::vector<Ngram> ngrams_;  ///< Each different n-gram once.
  HashIndex group_index_;
  HashIndex ngram_index_;
};

}  // namespace peregrine::decoding
