// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/strings.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "text/jinja/heap.h"
#include "text/unicode.h"

namespace peregrine::text::jinja {
namespace {

bool is_printable(char32_t c) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return false;
    case UTF8PROC_CATEGORY_ZS:
      return c == ' ';
    default:
      return true;
  }
}

bool ends_line(char32_t c) {
  return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

/// Parts beyond this number would not fit into a rendering's memory as a list.
constexpr std::size_t kMaxParts = kMaxMemoryBytes / 128;

void add_part(std::vector<std::string_view>& parts, std::string_view part) {
  if (parts.size() == kMaxParts) fail("a text is cut into more than {} parts", kMaxParts);
  parts.push_back(part);
}

/// The characters of a text, to be asked for.
class CharacterSet {
 public:
  explicit CharacterSet(std::string_view chars) {
    for (std::size_t at = 0; at < chars.size();) {
      const CodePoint c = decode_at(chars, at);
      if (c.value < ascii_.size()) {
        ascii_[c.value] = true;
      } else {
        others_.push_back(c.value);
      }
      at += c.bytes;
    }
    std::sort(others_.begin(), others_.end());
  }
  bool has(char32_t c) const {
    return c < ascii_.size() ? ascii_[c] : std::binary_search(others_.begin(), others_.end(), c);
  }

 private:
  std::array<bool, 128> ascii_ = {};
  std::vector<char32_t> others_;
};

std::vector<std::string_view> split_space_left(std::string_view text, std::size_t limit) {
  std::vector<std::string_view> parts;
  std::string_view rest = strip(text, Side::kLeft);
  while (!rest.empty()) {
    if (parts.size() == limit) {
      add_part(parts, rest);
      break;
    }
    std::size_t end = 0;
    while (end < rest.size()) {
      const CodePoint c = decode_at(rest, end);
      if (is_space(c.value)) break;
      end += c.bytes;
    }
    add_part(parts, rest.substr(0, end));
    rest = strip(rest.substr(end), Side::kLeft);
  }
  return parts;
}

std::vector<std::string_view> split_space_right(std::string_view text, std::size_t limit) {
  std::vector<std::string_view> parts;
  std::string_view rest = strip(text, Side::kRight);
  while (!rest.empty()) {
    if (parts.size() == limit) {
      add_part(parts, rest);
      break;
    }
    std::size_t begin = rest.size();
    while (begin > 0) {
      const std::size_t previous = previous_character(rest, begin);
      if (is_space(decode_at(rest, previous).value)) break;
      begin = previous;
    }
    add_part(parts, rest.substr(begin));
    rest = strip(rest.substr(0, begin), Side::kRight);
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::string bytes_reversed(std::string_view text) { return std::string(text.rbegin(), text.rend()); }

}  // namespace

bool is_space(char32_t c) { return (c >= 0x1C && c <= 0x1F) || is_white_space(c); }

bool is_ascii_digit(char c) { return c >= '0' && c <= '9'; }

std::string_view strip(std::string_view text, Side side, std::optional<std::string_view> chars) {
  const CharacterSet set(chars.value_or(""));
  const auto goes = [&](char32_t c) { return chars ? set.has(c) : is_space(c); };
  std::size_t begin = 0;
  std::size_t end = text.size();
  if (side != Side::kRight) {
    while (begin < end) {
      const CodePoint c = decode_at(text, begin);
      if (!goes(c.value)) break;
      begin += c.bytes;
    }
  }
  if (side != Side::kLeft) {
    while (end > begin) {
      const std::size_t previous = previous_character(text, end);
      if (!goes(decode_at(text, previous).value)) break;
      end = previous;
    }
  }
  return text.substr(begin, end - begin);
}

std::size_t find(std::string_view text, std::string_view needle, std::size_t from) {
  if (from > text.size()) return kNotFound;
  if (needle.empty()) return from;
  // memmem, unlike string_view::find, is linear for every needle.
  const void* at = needle.size() == 1
                       ? std::memchr(text.data() + from, needle[0], text.size() - from)
                       : memmem(text.data() + from, text.size() - from, needle.data(), needle.size());
  return at == nullptr ? kNotFound : static_cast<std::size_t>(static_cast<const char*>(at) - text.data());
}

std::size_t find_last(std::string_view text, std::string_view needle) {
  if (needle.size() > text.size()) return kNotFound;
  const std::size_t at = jinja::find(bytes_reversed(text), bytes_reversed(needle));
  return at == kNotFound ? kNotFound : text.size() - at - needle.size();
}

std::size_t count(std::string_view text, std::string_view needle) {
  if (needle.empty()) return count_code_points(text) + 1;
  std::size_t times = 0;
  for (std::size_t at = find(text, needle); at != kNotFound; at = find(text, needle, at + needle.size()))
    ++times;
  return times;
}

std::string replace(std::string_view text, std::string_view old, std::string_view with, std::size_t limit,
                    std::size_t most) {
  std::string out;
  std::size_t done = 0;
  for (std::size_t times = 0; times < limit && out.size() <= most; ++times) {
    if (old.empty()) {
      out += with;
      if (done == text.size()) return out;
      const std::size_t bytes = decode_at(text, done).bytes;
      out += text.substr(done, bytes);
      done += bytes;
      continue;
    }
    const std::size_t at = find(text, old, done);
    if (at == kNotFound) break;
    out += text.substr(done, at - done);
    out += with;
    done = at + old.size();
  }
  out += text.substr(done);
  return out;
}

std::vector<std::string_view> split_space(std::string_view text, std::size_t limit, bool from_right) {
  return from_right ? split_space_right(text, limit) : split_space_left(text, limit);
}

std::vector<std::string_view> split(std::string_view text, std::string_view separator, std::size_t limit,
                                    bool from_right) {
  std::vector<std::string_view> parts;
  std::size_t begin = 0;
  if (!from_right) {
    while (parts.size() < limit) {
      const std::size_t at = find(text, separator, begin);
      if (at == kNotFound) break;
      add_part(parts, text.substr(begin, at - begin));
      begin = at + separator.size();
    }
    add_part(parts, text.substr(begin));
    return parts;
  }
  if (separator.size() > text.size()) return {text};
  // From the right is from the left in a mirror.
  const std::string mirrored = bytes_reversed(text);
  const std::string mirrored_separator = bytes_reversed(separator);
  while (parts.size() < limit) {
    const std::size_t at = jinja::find(mirrored, mirrored_separator, begin);
    if (at == kNotFound) break;
    add_part(parts, text.substr(text.size() - at, at - begin));
    begin = at + separator.size();
  }
  add_part(parts, text.substr(0, text.size() - begin));
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends) {
  std::vector<std::string_view> lines;
  std::size_t begin = 0;
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint c = decode_at(text, at);
    std::size_t next = at + c.bytes;
    if (ends_line(c.value)) {
      if (c.value == '\r' && next < text.size() && text[next] == '\n') ++next;
      add_part(lines, text.substr(begin, (keep_ends ? next : at) - begin));
      begin = next;
    }
    at = next;
  }
  if (begin < text.size()) add_part(lines, text.substr(begin));
  return lines;
}

std::size_t byte_of(std::string_view text, std::size_t index) {
  std::size_t at = 0;
  for (; index > 0 && at < text.size(); --index) at += decode_at(text, at).bytes;
  return at;
}

std::string reversed(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t end = text.size(); end > 0;) {
    const std::size_t begin = previous_character(text, end);
    out += text.substr(begin, end - begin);
    end = begin;
  }
  return out;
}

std::string repr(std::string_view text) {
  const bool single = text.find('\'') == kNotFound || text.find('"') != kNotFound;
  const char quote = single ? '\'' : '"';
  std::string out(1, quote);
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint c = decode_at(text, at);
    Heap::check_text(out.size());
    if (c.value == static_cast<unsigned char>(quote) || c.value == '\\') {
      out += '\\';
      out += static_cast<char>(c.value);
    } else if (c.value == '\n') {
      out += "\\n";
    } else if (c.value == '\r') {
      out += "\\r";
    } else if (c.value == '\t') {
      out += "\\t";
    } else if (is_printable(c.value)) {
      out += text.substr(at, c.bytes);
    } else if (c.value < 0x100) {
      out += fmt::format("\\x{:02x}", static_cast<std::uint32_t>(c.value));
    } else if (c.value < 0x10000) {
      out += fmt::format("\\u{:04x}", static_cast<std::uint32_t>(c.value));
    } else {
      out += fmt::format("\\U{:08x}", static_cast<std::uint32_t>(c.value));
    }
    at += c.bytes;
  }
  out += quote;
  return out;
}

std::string escape_html(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    Heap::check_text(out.size());
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '\'':
        out += "&#39;";
        break;
      case '"':
        out += "&#34;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

}  // namespace peregrine::text::jinja
