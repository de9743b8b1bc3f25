// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string_view>

namespace peregrine::text {

// Byte-level models see every byte of a text as a printable character: the printable ones of Latin-1 as
// themselves, the other 68 in order as U+0100 and up (so a space is U+0120). Source: GPT-2's encoder.py,
// bytes_to_unicode.

/// The character, in UTF-8, that stands for `byte`.
std::string_view byte_level_character(unsigned char byte);

/// The byte that a character stands for; nothing for characters that stand for none.
std::optional<unsigned char> byte_of_character(char32_t character);

/// The characters between words as byte-level tokens have them: white space, or U+0120.
bool is_byte_level_blank(char32_t character);

}  // namespace peregrine::text
