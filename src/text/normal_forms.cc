// SPDX-License-Identifier: Apache-2.0
#include "text/normal_forms.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

#include "text/character_changes.h"
#include "text/unicode.h"

namespace peregrine::text {
namespace {

// The longest full decomposition (U+FDFA) has 18 code points.
constexpr std::size_t kMaxDecomposition = 32;
// All characters below are their own NFC; behind it come combining marks.
constexpr char32_t kFirstUnstable = 0x300;

/// A character of the result; `change` as apply_changes has it.
struct Character {
  char32_t value;
  int combining_class;
  int change;
};

int combining_class(char32_t c) {
  return c < kFirstUnstable ? 0 : utf8proc_get_property(static_cast<utf8proc_int32_t>(c))->combining_class;
}

/// Decomposes the whole text, marks in canonical order (UAX #15, section 1.3; Unicode 3.11 D108-D109).
std::vector<Character> decompose(std::string_view text, bool compatibility) {
  const int options = UTF8PROC_DECOMPOSE | UTF8PROC_STABLE | (compatibility ? UTF8PROC_COMPAT : 0);
  std::vector<Character> out;
  out.reserve(text.size());
  std::size_t marks = 0;  // where the current run of marks begins
  const auto order = [&] {
    std::stable_sort(
        out.begin() + static_cast<std::ptrdiff_t>(marks), out.end(),
        [](const Character& a, const Character& b) { return a.combining_class < b.combining_class; });
  };
  const auto add = [&](char32_t value, int change) {
    const int mark_class = combining_class(value);
    if (mark_class == 0) order();
    out.push_back({value, mark_class, change});
    if (mark_class == 0) marks = out.size();
  };
  std::array<utf8proc_int32_t, kMaxDecomposition> parts{};
  for (std::size_t i = 0; i < text.size();) {
    const CodePoint c = decode_at(text, i);
    i += c.bytes;
    if (c.value < 0x80) {
      add(c.value, 0);
      continue;
    }
    int boundary = 0;
    const auto count =
        utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c.value), parts.data(), parts.size(),
                                static_cast<utf8proc_option_t>(options), &boundary);
    if (count <= 0 || static_cast<std::size_t>(count) > parts.size()) {
      add(c.value, 0);
      continue;
    }
    for (utf8proc_ssize_t part = 0; part < count; ++part) {
      add(static_cast<char32_t>(parts[static_cast<std::size_t>(part)]), part > 0 ? 1 : 0);
    }
  }
  order();
  return out;
}

/// The primary composite of two characters.
std::optional<char32_t> compose_pair(char32_t first, char32_t second) {
  std::array<utf8proc_int32_t, 2> pair = {static_cast<utf8proc_int32_t>(first),
                                          static_cast<utf8proc_int32_t>(second)};
  const auto count = utf8proc_normalize_utf32(
      pair.data(), 2, static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
  if (count != 1) return std::nullopt;
  return static_cast<char32_t>(pair[0]);
}

/// The canonical composition algorithm (Unicode 3.11, D117), in place.
void compose(std::vector<Character>& characters) {
  std::size_t size = 0;
  std::size_t starter = characters.size();  // none yet
  for (const Character& c : characters) {
    // Whatever stands between the starter and its last neighbour has a class; one as high blocks this
    // character.
    const bool adjacent = starter + 1 == size;
    const bool blocked =
        !adjacent && (size == 0 || characters[size - 1].combining_class >= c.combining_class);
    // No composition has a second part below the combining marks.
    if (starter < size && !blocked && c.value >= kFirstUnstable) {
      if (const auto composite = compose_pair(characters[starter].value, c.value)) {
        characters[starter].value = *composite;
        characters[starter].change += c.change - 1;
        continue;
      }
    }
    characters[size] = c;
    if (c.combining_class == 0) starter = size;
    ++size;
  }
  characters.resize(size);
}

bool is_stable(std::string_view text, NormalForm form) {
  if (is_ascii(text)) return true;
  if (form != NormalForm::kNfc) return false;
  for (std::size_t i = 0; i < text.size();) {
    const CodePoint c = decode_at(text, i);
    if (c.value >= kFirstUnstable) return false;
    i += c.bytes;
  }
  return true;
}

}  // namespace

void apply_normal_form(AlignedText& text, NormalForm form) {
  const std::string_view source = text.text();
  if (is_stable(source, form)) return;
  std::vector<Character> characters =
      decompose(source, form == NormalForm::kNfkc || form == NormalForm::kNfkd);
  if (form == NormalForm::kNfc || form == NormalForm::kNfkc) compose(characters);
  apply_changes(text, characters);
}

}  // namespace peregrine::text
