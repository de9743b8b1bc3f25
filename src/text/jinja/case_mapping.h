// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

// Upper and lower case as Python's str has them: full mappings of the Unicode character database.

namespace peregrine::text::jinja {

std::string to_upper(std::string_view text);
std::string to_lower(std::string_view text);
/// First character in title case, the others in lower case.
std::string capitalize(std::string_view text);
/// Each run of cased characters capitalized.
std::string to_title(std::string_view text);
std::string swap_case(std::string_view text);
std::string fold_case(std::string_view text);

bool is_lower_text(std::string_view text);  ///< str.islower()
bool is_upper_text(std::string_view text);  ///< str.isupper()
bool is_title_text(std::string_view text);  ///< str.istitle()

bool is_alphabetic(char32_t c);     ///< str.isalpha() of one character.
bool is_decimal(char32_t c);        ///< str.isdecimal() of one character.
bool is_digit(char32_t c);          ///< str.isdigit() of one character.
bool is_numeric_value(char32_t c);  ///< str.isnumeric() of one character, as far as categories tell.

}  // namespace peregrine::text::jinja
