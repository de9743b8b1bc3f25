// SPDX-License-Identifier: Apache-2.0
#include "core/properties.h"

#include <algorithm>
#include <cstdint>

#include "core/error.h"

namespace peregrine::core {
namespace {

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\f'; }

/// A logical line (continuations joined, escapes still in it) and the number of its first line in the file.
struct LogicalLine {
  std::string text;
  std::size_t number = 0;
};

/// Whether a line ends in an odd number of backslashes, so that the next one continues it.
bool is_continued(std::string_view line) {
  std::size_t count = 0;
  while (count < line.size() && line[line.size() - 1 - count] == '\\') ++count;
  return count % 2 == 1;
}

std::vector<LogicalLine> logical_lines(std::string_view text) {
  std::vector<LogicalLine> lines;
  bool continuing = false;
  std::size_t number = 0;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    ++number;
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    while (!line.empty() && is_blank(line.front())) line.remove_prefix(1);
    if (!continuing && (line.empty() || line.front() == '#' || line.front() == '!')) continue;
    const bool more = is_continued(line);
    if (more) line.remove_suffix(1);
    if (continuing) {
      lines.back().text += line;
    } else {
      lines.push_back({std::string(line), number});
    }
    continuing = more;
  }
  return lines;
}

void append_utf8(std::string& out, std::uint32_t code) {
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xC0 | code >> 6);
    out += static_cast<char>(0x80 | (code & 0x3F));
  } else {
    out += static_cast<char>(0xE0 | code >> 12);
    out += static_cast<char>(0x80 | (code >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (code & 0x3F));
  }
}

/// Resolves the escape that starts at text[at] == '\\'; returns the position after it.
std::size_t unescape(std::string_view text, std::size_t at, std::string& out, std::string_view where,
                     std::size_t line) {
  if (at + 1 >= text.size()) return text.size();
  const char c = text[at + 1];
  switch (c) {
    case 't':
      out += '\t';
      return at + 2;
    case 'n':
      out += '\n';
      return at + 2;
    case 'r':
      out += '\r';
      return at + 2;
    case 'f':
      out += '\f';
      return at + 2;
    case 'u':
      break;
    default:
      out += c;
      return at + 2;
  }
  std::uint32_t code = 0;
  const std::string_view digits = text.substr(at + 2, 4);
  const bool valid =
      digits.size() == 4 && std::all_of(digits.begin(), digits.end(), [&](char digit) {
        const bool decimal = digit >= '0' && digit <= '9';
        const bool hex = (digit >= 'a' && digit <= 'f') || (digit >= 'A' && digit <= 'F');
        code = code * 16 + static_cast<std::uint32_t>(decimal ? digit - '0' : (digit | 0x20) - 'a' + 10);
        return decimal || hex;
      });
  if (!valid || (code >= 0xD800 && code < 0xE000)) {
    fail(ErrorKind::kInvalidArgument,
         "{} line {}: \\u must be followed by 4 hexadecimal digits of a character, found {}", where, line,
         quoted(digits));
  }
  append_utf8(out, code);
  return at + 6;
}

}  // namespace

std::vector<std::pair<std::string, std::string>> parse_properties(std::string_view text,
                                                                  std::string_view where) {
  std::vector<std::pair<std::string, std::string>> properties;
  for (const LogicalLine& line : logical_lines(text)) {
    const std::string_view source = line.text;
    if (source.find('\0') != std::string_view::npos) {
      fail(ErrorKind::kInvalidArgument, "{} line {}: contains a NUL byte", where, line.number);
    }
    std::string key;
    std::size_t at = 0;
    while (at < source.size() && source[at] != '=' && source[at] != ':' && !is_blank(source[at])) {
      at = source[at] == '\\' ? unescape(source, at, key, where, line.number) : (key += source[at], at + 1);
    }
    while (at < source.size() && is_blank(source[at])) ++at;
    if (at < source.size() && (source[at] == '=' || source[at] == ':')) ++at;
    while (at < source.size() && is_blank(source[at])) ++at;
    std::string value;
    while (at < source.size()) {
      at = source[at] == '\\' ? unescape(source, at, value, where, line.number)
                              : (value += source[at], at + 1);
    }
    while (!value.empty() && is_blank(value.back())) value.pop_back();
    const auto known = std::find_if(properties.begin(), properties.end(),
                                    [&](const auto& entry) { return entry.first == key; });
    if (known != properties.end()) {
      known->second = std::move(value);
    } else {
      properties.emplace_back(std::move(key), std::move(value));
    }
  }
  return properties;
}

}  // namespace peregrine::core
