// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "text/aligned_text.h"

namespace peregrine::text {

/// A text cut into pieces: stretches of text for the model, and added tokens that are done already.
class PreTokenized {
 public:
  static constexpr std::int32_t kText = -1;

  /// Bytes [begin, end) of the text; `token` is the id of an added token, or kText.
  struct Piece {
    std::uint32_t begin;
    std::uint32_t end;
    std::int32_t token;
  };

  explicit PreTokenized(bool aligned) : text_(aligned) {}

  const AlignedText& text() const { return text_; }
  const std::vector<Piece>& pieces() const { return pieces_; }
  std::string_view text_of(const Piece& piece) const {
    return text_.text().substr(piece.begin, piece.end - piece.begin);
  }

  /// Appends bytes [begin, end) of `section` as a piece.
  void append(const AlignedText& section, std::size_t begin, std::size_t end, std::int32_t token);

  /// Replaces each text piece by parts of itself: `cut` appends their ranges, relative to the piece's first
  /// byte.
  void split(const std::function<void(std::string_view piece, std::vector<Range>& parts)>& cut);

  /// Rewrites each text piece: `write` appends to `out` what bytes [piece.begin, piece.end) of `text` become.
  void rewrite(
      const std::function<void(const AlignedText& text, const Piece& piece, AlignedText& out)>& write);

 private:
  AlignedText text_;
  std::vector<Piece> pieces_;
};

/// Cuts text into the pieces that the model sees one at a time, and may rewrite them. Immutable; safe to use
/// from many threads.
class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  virtual void pre_tokenize(PreTokenized& text) const = 0;
  /// Whether pieces may become another text.
  virtual bool rewrites() const { return false; }
  /// Whether the text has to be aligned, because the result depends on which part of the original a piece
  /// stands for, and that is not the same part of the text any more: where it was `rewritten` before, or is
  /// on the way.
  virtual bool needs_sources(bool rewritten) const {
    static_cast<void>(rewritten);
    return false;
  }
};

/// The "pre_tokenizer" of a tokenizer file: BertPreTokenizer, ByteLevel, CharDelimiterSplit, Digits,
/// FixedLength, Metaspace, Punctuation, Split, UnicodeScripts, Whitespace, WhitespaceSplit or a Sequence of
/// these. Throws Error as component.h says.
std::unique_ptr<PreTokenizer> make_pre_tokenizer(const core::JsonView& json);

}  // namespace peregrine::text
