// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/added_tokens.h"
#include "text/decoders.h"
#include "text/model.h"
#include "text/normalizers.h"
#include "text/post_processors.h"
#include "text/pre_tokenizers.h"
#include "text/tokenizer.h"

namespace peregrine::text {

/// What a tokenizer file is made of. For the files of this room that implement Tokenizer.
struct Tokenizer::Parts {
  /// An id's token, for decoding.
  struct Token {
    std::string_view text;  ///< As the file writes it.
    std::string_view
        decoded;  ///< What goes to the decoder: the form that an added token has in normalized text.
    bool known = false;
    bool special = false;
  };

  std::unique_ptr<const Normalizer> normalizer;       ///< May be null.
  std::unique_ptr<const PreTokenizer> pre_tokenizer;  ///< May be null.
  std::unique_ptr<const Model> model;
  std::unique_ptr<const PostProcessor> post_processor;  ///< May be null.
  std::unique_ptr<const Decoder> decoder;
  AddedTokens added;
  std::vector<Token> tokens;  ///< By id.
  std::unordered_map<std::string_view, std::int32_t> added_ids;
  std::optional<std::size_t> truncation_length;
  bool truncate_start = false;  ///< Where max_tokens cuts.

  /// Which of two texts max_tokens cuts.
  enum class Truncation { kLongestFirst, kOnlyFirst, kOnlySecond };
  Truncation truncation = Truncation::kLongestFirst;

  /// Cuts one text, or two, down to `room` tokens. Throws Error(kInvalidArgument) where the file lets only
  /// one of two be cut, and nothing of that one would be left.
  void truncate(std::vector<TokenList>& texts, std::size_t room) const;

  /// Null for ids that stand for no token.
  const Token* find(std::int32_t id) const {
    if (id < 0 || static_cast<std::size_t>(id) >= tokens.size()) return nullptr;
    const Token& token = tokens[static_cast<std::size_t>(id)];
    return token.known ? &token : nullptr;
  }
};

}  // namespace peregrine::text
