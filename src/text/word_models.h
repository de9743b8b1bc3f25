// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "text/byte_trie.h"
#include "text/model.h"

namespace peregrine::text {

/// BERT's model (Schuster and Nakajima, "Japanese and Korean Voice Search", 2012): the longest token that a
/// word starts with, then, again and again, the longest that goes on with it. A word that cannot be covered
/// so, or is too long, is one unknown token. Linear in a word's size (times the length of the longest token).
class WordPiece final : public Model {
 public:
  /// `json` is the "model" object: vocab, unk_token, continuing_subword_prefix, max_input_chars_per_word.
  explicit WordPiece(const core::JsonView& json);

  /// Throws Error(kInvalidArgument) where the word is unknown and the file has no unk_token.
  void tokenize(std::string_view piece, std::vector<ModelToken>& out) const override;
  const Vocabulary& vocabulary() const override { return vocabulary_; }

 private:
  bool cover(std::string_view word, std::vector<ModelToken>& out) const;

  Vocabulary vocabulary_;
  std::string unknown_token_;
  ByteTrie first_;  ///< All tokens.
  ByteTrie next_;   ///< Those with the prefix, without it.
  std::size_t max_characters_;
};

/// A token for each word of the vocabulary, one for all others.
class WordLevel final : public Model {
 public:
  /// `json` is the "model" object: vocab, unk_token.
  explicit WordLevel(const core::JsonView& json);

  /// Throws Error(kInvalidArgument) where the word is unknown and the file has no unk_token.
  void tokenize(std::string_view piece, std::vector<ModelToken>& out) const override;
  const Vocabulary& vocabulary() const override { return vocabulary_; }

 private:
  Vocabulary vocabulary_;
  std::string unknown_token_;
};

}  // namespace peregrine::text
