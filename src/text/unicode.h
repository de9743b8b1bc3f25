// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace peregrine::text {

/// A code point and the number of bytes that it takes in UTF-8.
struct CodePoint {
  char32_t value;
  std::size_t bytes;
};

/// The code point at byte `position` of valid UTF-8; `position` is the first byte of a character.
inline CodePoint decode_at(std::string_view text, std::size_t position) {
  const auto byte = [&](std::size_t i) {
    return static_cast<char32_t>(static_cast<unsigned char>(text[position + i]));
  };
  const char32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xE0) return {(lead & 0x1F) << 6 | (byte(1) & 0x3F), 2};
  if (lead < 0xF0) return {(lead & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F), 3};
  return {(lead & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F), 4};
}

/// Whether `byte` continues a character (10xxxxxx).
inline bool is_continuation(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

/// The first byte of the character that ends just before byte `end` (> 0) of valid UTF-8.
inline std::size_t previous_character(std::string_view text, std::size_t end) {
  std::size_t begin = end - 1;
  while (begin > 0 && is_continuation(text[begin])) --begin;
  return begin;
}

void append_utf8(std::string& out, char32_t code_point);

/// Number of code points in valid UTF-8.
std::size_t count_code_points(std::string_view text);

bool is_valid_utf8(std::string_view text);
bool is_ascii(std::string_view text);

/// `bytes` with every maximal invalid sequence replaced by U+FFFD (Unicode 15, section 3.9, "U+FFFD
/// Substitution of Maximal Subparts"; what Rust's String::from_utf8_lossy does).
std::string to_valid_utf8(std::string_view bytes);

/// White_Space of the Unicode character database.
bool is_white_space(char32_t c);
/// General category Nd, Nl or No.
bool is_numeric(char32_t c);
/// ASCII punctuation (which includes symbols such as '$' and '+') or general category P.
bool is_punctuation(char32_t c);
/// General category M.
bool is_mark(char32_t c);
/// General category Mn.
bool is_nonspacing_mark(char32_t c);
/// General category Cc, Cf or Co.
bool is_control_or_private(char32_t c);
/// A word character of UTS #18 annex C: Alphabetic, M, Nd, Pc or Join_Control.
bool is_word(char32_t c);

/// Turns a stream of bytes into valid UTF-8, one character as soon as its last byte is there. Feeding any
/// cuts of a byte string and finishing gives the same text as to_valid_utf8 of the whole.
class Utf8Stream {
 public:
  /// Appends to `out` the characters that `bytes` complete.
  void push(std::string_view bytes, std::string& out);
  /// Appends U+FFFD where the stream ends inside a character, and starts afresh.
  void finish(std::string& out);

 private:
  void push_lead(unsigned char byte, std::string& out);

  char pending_[4] = {};
  unsigned size_ = 0;         ///< Bytes in pending_; 0 between characters.
  unsigned needed_ = 0;       ///< Bytes of the whole character in pending_.
  unsigned char low_ = 0x80;  ///< Bounds of the next byte.
  unsigned char high_ = 0xBF;
};

}  // namespace peregrine::text
