// SPDX-License-Identifier: Apache-2.0
#include "text/charsmap.h"

#include <utf8proc.h>

#include <array>

#include "core/error.h"
#include "text/character_changes.h"

namespace peregrine::text {
namespace {

using core::ErrorKind;

// A unit of the double array (darts-clone): what it is for.
constexpr std::uint32_t label_of(std::uint32_t unit) { return unit & 0x800000FF; }
constexpr bool has_leaf(std::uint32_t unit) { return (unit >> 8 & 1) != 0; }
constexpr std::uint32_t offset_of(std::uint32_t unit) { return unit >> 10 << ((unit & 1U << 9) >> 6); }
constexpr std::uint32_t value_of(std::uint32_t unit) { return unit & 0x7FFFFFFF; }

constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

constexpr std::size_t kMaxClusterBytes = 6;

struct Change {
  char32_t value;
  int change;
};

std::uint32_t read_unit(std::string_view blob, std::size_t at) {
  std::uint32_t unit = 0;
  for (std::size_t i = 0; i < 4; ++i)
    unit |= static_cast<std::uint32_t>(static_cast<unsigned char>(blob[at + i])) << (8 * i);
  return unit;
}

/// The end of the extended grapheme cluster (UAX #29) that begins at `begin`.
std::size_t cluster_end(std::string_view text, std::size_t begin) {
  CodePoint c = decode_at(text, begin);
  std::size_t end = begin + c.bytes;
  utf8proc_int32_t state = 0;
  while (end < text.size()) {
    const CodePoint next = decode_at(text, end);
    if (utf8proc_grapheme_break_stateful(static_cast<utf8proc_int32_t>(c.value),
                                         static_cast<utf8proc_int32_t>(next.value), &state)) {
      break;
    }
    end += next.bytes;
    c = next;
  }
  return end;
}

/// `from` becomes `to`: characters stand for each other one by one; additional ones stand for the last, and
/// the last swallows what is left over. (What goes away at the very start is not accounted for, so that all
/// offsets are one too small: they are the library's, with that flaw.)
void add_replacement(std::string_view from, std::string_view to, std::vector<Change>& changes) {
  const std::size_t before = changes.size();
  const std::size_t old_count = count_code_points(from);
  for (std::size_t i = 0; i < to.size();) {
    const CodePoint c = decode_at(to, i);
    changes.push_back({c.value, changes.size() - before < old_count ? 0 : 1});
    i += c.bytes;
  }
  const std::size_t new_count = changes.size() - before;
  if (new_count < old_count && !changes.empty())
    changes.back().change -= static_cast<int>(old_count - new_count);
}

}  // namespace

Charsmap::Charsmap(std::string_view blob, std::string_view where) {
  const auto fail = [&](std::string_view problem) {
    core::fail(ErrorKind::kInvalidArgument, "{}: {}", where, problem);
  };
  if (blob.size() < 4) fail("a precompiled charsmap has at least 4 bytes, for the size of its trie");
  const std::uint32_t trie_bytes = read_unit(blob, 0);
  if (trie_bytes % 4 != 0 || trie_bytes == 0 || trie_bytes > blob.size() - 4) {
    core::fail(ErrorKind::kInvalidArgument, "{}: a trie of {} bytes in a charsmap of {}", where, trie_bytes,
               blob.size());
  }
  for (std::size_t at = 4; at < 4 + std::size_t{trie_bytes}; at += 4) units_.push_back(read_unit(blob, at));
  replacements_ = blob.substr(4 + std::size_t{trie_bytes});
  if (!is_valid_utf8(replacements_)) fail("the replacements of the charsmap are not UTF-8");
}

std::optional<std::string_view> Charsmap::find(std::string_view text) const {
  std::size_t node = offset_of(units_[0]);
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    node ^= byte;
    // No rule is about a zero byte; positions outside are those of a damaged file.
    if (byte == 0 || node >= units_.size() || label_of(units_[node]) != byte) return std::nullopt;
    const std::uint32_t unit = units_[node];
    node ^= offset_of(unit);
    if (!has_leaf(unit)) continue;
    if (node >= units_.size()) return std::nullopt;
    const std::size_t begin = value_of(units_[node]);
    if (begin >= replacements_.size() || is_continuation(replacements_[begin])) return std::nullopt;
    const std::size_t end = replacements_.find('\0', begin);
    return std::string_view(replacements_).substr(begin, end == std::string::npos ? end : end - begin);
  }
  return std::nullopt;
}

void Charsmap::apply(AlignedText& text) const {
  const std::string_view source = text.text();
  std::vector<Change> changes;
  changes.reserve(source.size());
  bool changed = false;
  const auto replace = [&](std::string_view part) {
    const auto to = find(part);
    if (!to) return false;
    changed = true;
    add_replacement(part, *to, changes);
    check_text_size(changes.size());
    return true;
  };
  for (std::size_t begin = 0; begin < source.size();) {
    const std::size_t end = cluster_end(source, begin);
    const bool done = end - begin < kMaxClusterBytes && replace(source.substr(begin, end - begin));
    for (std::size_t i = begin; i < end && !done;) {
      const CodePoint c = decode_at(source, i);
      if (!replace(source.substr(i, c.bytes))) changes.push_back({c.value, 0});
      i += c.bytes;
    }
    begin = end;
  }
  if (changed) apply_changes(text, changes);
}

std::string decode_base64(std::string_view text, std::string_view where) {
  std::array<int, 256> values{};
  values.fill(-1);
  for (std::size_t i = 0; i < kDigits.size(); ++i)
    values[static_cast<unsigned char>(kDigits[i])] = static_cast<int>(i);

  std::size_t digits = text.size();
  while (digits > 0 && text.size() - digits < 2 && text[digits - 1] == '=') --digits;
  if (text.size() % 4 != 0) {
    core::fail(ErrorKind::kInvalidArgument, "{}: base64 of {} characters, which is no multiple of 4", where,
               text.size());
  }
  std::string out;
  out.reserve(text.size() / 4 * 3);
  std::uint32_t bits = 0;
  int count = 0;
  for (std::size_t i = 0; i < digits; ++i) {
    const int value = values[static_cast<unsigned char>(text[i])];
    if (value < 0) {
      core::fail(ErrorKind::kInvalidArgument, "{}: byte {} is no base64 digit", where, i);
    }
    bits = bits << 6 | static_cast<std::uint32_t>(value);
    count += 6;
    if (count >= 8) {
      count -= 8;
      out.push_back(static_cast<char>(bits >> count & 0xFF));
    }
  }
  return out;
}

std::string encode_base64(std::string_view bytes) {
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t bits = 0;
    for (std::size_t k = i; k < i + 3; ++k)
      bits = bits << 8 | (k < bytes.size() ? static_cast<unsigned char>(bytes[k]) : 0U);
    for (std::size_t k = 0; k < 4; ++k)
      out.push_back(i + k > bytes.size() ? '=' : kDigits[bits >> (18 - 6 * k) & 63]);
  }
  return out;
}

}  // namespace peregrine::text
