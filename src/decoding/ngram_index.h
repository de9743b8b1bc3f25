// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "decoding/token_counts.h"

namespace peregrine::decoding {

/// The different n-grams of a text, grouped by their first n - 1 tokens, so that what has followed n - 1
/// tokens is found in the time of their number. Does not keep the text itself.
class NgramIndex {
 public:
  /// `size` is n >= 1; comparing a group costs up to n. Room for `tokens_expected`.
  NgramIndex(std::int32_t size, std::size_t tokens_expected);

  /// n - 1.
  std::size_t prefix() const { return prefix_; }

  /// Takes note of the last of `text`, the whole text so far; called once for each token, in order.
  void append(std::span<const std::int32_t> text);

  /// Sets the logits of all tokens that have followed `prefix` (n - 1 tokens, with their hash) to minus
  /// infinity. `text` is what append() last got.
  void forbid(std::span<const std::int32_t> text, std::span<const std::int32_t> prefix, std::uint64_t hash,
              std::span<float> logits) const;

  /// The hash of the last n - 1 tokens of the text.
  std::uint64_t window() const { return window_; }
  /// The hash of n - 1 tokens.
  static std::uint64_t hash(std::span<const std::int32_t> prefix);

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

  std::int32_t find_group(std::span<const std::int32_t> text, std::span<const std::int32_t> prefix,
                          std::uint64_t hash) const;

  std::size_t prefix_;
  std::uint64_t window_ = 0;  ///< Polynomial hash of the last n - 1 tokens.
  std::uint64_t oldest_ = 1;  ///< What the oldest token of the window is multiplied by in it.
  std::vector<Group> groups_;
  std::vector<Ngram> ngrams_;  ///< Each different n-gram once.
  HashIndex group_index_;
  HashIndex ngram_index_;
};

}  // namespace peregrine::decoding
