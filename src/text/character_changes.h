// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "text/aligned_text.h"
#include "text/unicode.h"

namespace peregrine::text {

/// Rewrites `text` as a sequence of objects with members `value`, a code point, and `change`, which says how
/// it came about and so what it stands for: 0 replaces the next character of `text`, 1 or more is an addition
/// (it stands for what the character before it stands for), -n replaces one and swallows the n behind it.
template <typename Changes>
void apply_changes(AlignedText& text, const Changes& changes) {
  const std::string_view source = text.text();
  AlignedText out(text.aligned());
  out.reserve(source.size());
  std::size_t at = 0;  // in source, behind what has been replaced so far
  for (const auto& character : changes) {
    if (character.change > 0) {
      if (at > 0) {
        out.append(character.value, text, at - 1);
      } else {
        out.append_for_nothing(character.value, text);
      }
      continue;
    }
    out.append(character.value, text, at);
    for (int skipped = character.change; skipped <= 0 && at < source.size(); ++skipped) {
      at += decode_at(source, at).bytes;
    }
  }
  check_text_size(out.text().size());
  text = std::move(out);
}

}  // namespace peregrine::text
