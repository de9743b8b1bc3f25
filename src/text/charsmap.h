// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/aligned_text.h"

namespace peregrine::text {

/// The normalization rules of a SentencePiece model ("precompiled_charsmap"): the size of a trie, the trie, a
/// Darts double array of 32-bit units, least significant byte first, and the replacements, each closed by a
/// zero byte, which the trie's values index. Immutable.
class Charsmap {
 public:
  /// Throws Error(kInvalidArgument) that names `where` where the sizes do not fit or a replacement is not
  /// UTF-8.
  Charsmap(std::string_view blob, std::string_view where);

  /// The replacement of the shortest rule that `text` starts with (that it may be a part only of `text` is
  /// how the tokenizers library reads the rules, which models are used with).
  std::optional<std::string_view> find(std::string_view text) const;

  /// Replaces each grapheme cluster of fewer than 6 bytes that has a replacement; of others, each character
  /// that has one.
  void apply(AlignedText& text) const;

 private:
  std::vector<std::uint32_t> units_;
  std::string replacements_;
};

/// Throws Error(kInvalidArgument) that names `where` where `text` is not padded base64 (RFC 4648, section 4).
std::string decode_base64(std::string_view text, std::string_view where);
std::string encode_base64(std::string_view bytes);

}  // namespace peregrine::text
