// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

// What Python's str does, on valid UTF-8. Positions are in bytes. Every search is linear in the worst case.

namespace peregrine::text::jinja {

inline constexpr std::size_t kNoLimit = ~std::size_t{0};
inline constexpr std::size_t kNotFound = std::string_view::npos;

/// str.isspace() of one character; also what \s matches.
bool is_space(char32_t c);
bool is_ascii_digit(char c);

enum class Side { kLeft, kRight, kBoth };

/// Without the characters of `chars` (white space where absent) at `side`.
std::string_view strip(std::string_view text, Side side, std::optional<std::string_view> chars = {});

std::size_t find(std::string_view text, std::string_view needle, std::size_t from = 0);
std::size_t find_last(std::string_view text, std::string_view needle);
/// Occurrences that do not overlap; the empty needle is found between all characters.
std::size_t count(std::string_view text, std::string_view needle);
/// At most `limit` replacements. The result may be larger than `most` bytes by one replacement, not more.
std::string replace(std::string_view text, std::string_view old, std::string_view with, std::size_t limit,
                    std::size_t most);

/// Parts around white space, at most `limit` cuts, counted from the left or the right.
std::vector<std::string_view> split_space(std::string_view text, std::size_t limit, bool from_right);
/// Parts around `separator`, which is not empty.
std::vector<std::string_view> split(std::string_view text, std::string_view separator, std::size_t limit,
                                    bool from_right);
/// Lines as str.splitlines ends them.
std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends);

/// Where character number `index` begins; the end where there is none.
std::size_t byte_of(std::string_view text, std::size_t index);
/// The characters in reverse.
std::string reversed(std::string_view text);

/// Python's repr() of a string.
std::string repr(std::string_view text);
/// HTML escapes, as markupsafe writes them.
std::string escape_html(std::string_view text);

}  // namespace peregrine::text::jinja
