// SPDX-License-Identifier: Apache-2.0
// The methods of Python's str.

#include <algorithm>

#include "text/jinja/access.h"
#include "text/jinja/arguments.h"
#include "text/jinja/case_mapping.h"
#include "text/jinja/formatting.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/printing.h"
#include "text/jinja/strings.h"
#include "text/unicode.h"

namespace peregrine::text::jinja {
namespace {

/// A result that is as safe as the string it came from.
Value like(Interpreter& interpreter, const Value& self, std::string text) {
  return make_text(interpreter.heap(), std::move(text), self.text().markup);
}

Value pieces(Interpreter& interpreter, const Value& self, const std::vector<std::string_view>& parts) {
  std::vector<Value> items;
  items.reserve(parts.size());
  for (const std::string_view part : parts) items.push_back(like(interpreter, self, std::string(part)));
  return make_list(interpreter.heap(), std::move(items));
}

/// The characters [start, end) that a search is confined to, as Python slices.
struct Window {
  std::string_view text;
  Int start = 0;             ///< In characters.
  bool empty_range = false;  ///< start lies behind end: not even "" is there.
};

Window window(Heap& heap, const Value& self, const Parameters& parameters, std::size_t first) {
  if (!parameters.has(first) && !parameters.has(first + 1)) return {self.as_text()};
  heap.spend_scan(self.as_text().size());
  const auto length = static_cast<Int>(self.text().length());
  const auto position = [&](std::size_t index, Int standard) {
    if (!parameters.has(index)) return standard;
    const Int value = parameters.integer(index, standard);
    return value < 0 ? std::max<Int>(value + length, 0) : value;
  };
  const Int start = position(first, 0);
  const Int end = std::min(position(first + 1, length), length);
  if (start > end) return {"", start, true};
  const std::string_view text = self.as_text();
  const std::size_t begin = byte_of(text, static_cast<std::size_t>(start));
  return {text.substr(begin, byte_of(text.substr(begin), static_cast<std::size_t>(end - start))), start,
          false};
}

template <std::string (*transform)(std::string_view)>
Value mapped(Interpreter& interpreter, const Value& self, const CallArguments& arguments) {
  const Parameters parameters("str method", arguments, {});
  interpreter.heap().spend_characters(self.as_text().size());
  return like(interpreter, self, transform(self.as_text()));
}

template <bool (*test)(std::string_view)>
Value tested(Interpreter& interpreter, const Value& self, const CallArguments& arguments) {
  const Parameters parameters("str method", arguments, {});
  interpreter.heap().spend_characters(self.as_text().size());
  return Value::boolean(test(self.as_text()));
}

/// Whether there are characters and all pass.
template <typename Passes>
bool all_characters(std::string_view text, Passes passes) {
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint c = decode_at(text, at);
    if (!passes(c.value)) return false;
    at += c.bytes;
  }
  return !text.empty();
}

bool all_digits(std::string_view text) { return all_characters(text, is_digit); }
bool all_decimal(std::string_view text) { return all_characters(text, is_decimal); }
bool all_numeric(std::string_view text) { return all_characters(text, is_numeric_value); }
bool all_alphabetic(std::string_view text) { return all_characters(text, is_alphabetic); }
bool all_space(std::string_view text) { return all_characters(text, is_space); }
bool all_alphanumeric(std::string_view text) {
  return all_characters(text, [](char32_t c) { return is_alphabetic(c) || is_numeric_value(c); });
}
bool all_ascii(std::string_view text) { return text.empty() || is_ascii(text); }
bool is_identifier(std::string_view text) {
  return !text.empty() && !is_ascii_digit(text[0]) &&
         all_characters(text, [](char32_t c) { return c == '_' || is_alphabetic(c) || is_word(c); });
}

template <Side side>
Value stripped(Interpreter& interpreter, const Value& self, const CallArguments& arguments) {
  const Parameters parameters("strip", arguments, {"chars"});
  interpreter.heap().spend_scan(self.as_text().size());
  interpreter.heap().spend_scan(parameters.text(0).value_or("").size());
  return like(interpreter, self, std::string(strip(self.as_text(), side, parameters.text(0))));
}

template <bool from_right>
Value split_text(Interpreter& interpreter, const Value& self, const CallArguments& arguments) {
  const Parameters parameters("split", arguments, {"sep", "maxsplit"});
  const Int most = parameters.integer(1, -1);
  const std::size_t limit = most < 0 ? kNoLimit : static_cast<std::size_t>(most);
  interpreter.heap().spend_scan(self.as_text().size());
  const auto separator = parameters.text(0);
  if (!separator) return pieces(interpreter, self, split_space(self.as_text(), limit, from_right));
  if (separator->empty()) fail("empty separator");
  return pieces(interpreter, self, split(self.as_text(), *separator, limit, from_right));
}

Value split_into_lines(Interpreter& interpreter, const Value& self, const CallArguments& arguments) {
  const Parameters parameters("splitlines", arguments, {"keepends"});
  interpreter.heap().spend_scan(self.as_text().size());
  return pieces(interpreter, self, split_lines(self.as_text(), parameters.flag(0, false)));
}

template <bool from_right>
Value partition(Interpreter& interpreter, const Value& self, const CallArguments& arguments) {
  const Parameters parameters("partition", arguments, {"sep"}, 1);
  const std::string_view text = self.as_text();
  const std::string_view separator = parameters.required_text(0);
  if (separator.empty()) fail("empty separator");
  interpreter.heap().spend_scan(text.size());
  const std::size_t at = from_right ? find_last(text, separator) : find(text, separator);
  std::vector<std::string_view> parts = {text.substr(0, at), separator, ""};
  if (at != kNotFound) {
    parts[2] = text.substr(at + separator.size());
  } else {
    parts = {text, "", ""};
    if (from_right) std::swap(parts[0], parts[2]);
  }
  std::vector<Value> items;
  for (const std::string_view part : parts) items.push_back(like(interpreter, self, std::string(part)));
  return make_tuple(interpreter.heap(), std::move(items));
}

/// startswith and endswith: one affix or a tuple of them.
template <bool at_start>
Value has_affix(Interpreter& interpreter, const Value& self, const CallArguments& arguments) {
  const std::string_view name = at_start ? "startswith" : "endswith";
  const Parameters parameters(name, arguments, {at_start ? "prefix" : "suffix", "start", "end"}, 1);
  const Window where = window(interpreter.heap(), self, parameters, 1);
  const auto matches = [&](const Value& affix) {
    if (affix.is_undefined()) fail_undefined(affix);
    if (!affix.is_string())
      fail("{} first arg must be str or a tuple of str, not {}", name, type_name(affix));
    interpreter.heap().spend_copy(affix.as_text().size());
    if (where.empty_range) return false;
    return at_start ? where.text.starts_with(affix.as_text()) : where.text.ends_with(affix.as_text());
  };
  if (!parameters[0].is(Kind::kTuple)) return Value::boolean(matches(parameters[0]));
  const auto& items = parameters[0].sequence().items;
  return Value::boolean(std::any_of(items.begin(), items.end(), matches));
}

enum class Missing { kMinusOne, kError };

template <bool from_right, Missing missing>
Value find_in(Interpreter& interpreter, const Value& self, const CallArguments& arguments) {
  const Parameters parameters("find", arguments, {"sub", "start", "end"}, 1);
  const std::string_view wanted = parameters.required_text(0);
  const Window where = window(interpreter.heap(), self, parameters, 1);
  interpreter.heap().spend_scan(self.as_text().size() * 2);
  std::size_t at = kNotFound;
  if (!where.empty_range) at = from_right ? find_last(where.text, wanted) : find(where.text, wanted);
  if (at != kNotFound) {
    return Value::integer(where.start + static_cast<Int>(count_code_points(where.text.substr(0, at))));
  }
  if (missing == Missing::kError) fail("substring not found");
  return Value::integer(-1);
}

Value count_in(Interpreter& interpreter, const Value& self, const CallArguments& arguments) {
  const Parameters parameters("count", arguments, {"sub", "start", "end"}, 1);
  const std::string_view wanted = parameters.required_text(0);
  const Window where = window(interpreter.heap(), self, parameters, 1);
  interpreter.heap().spend_scan(self.as_text().size());
  return Value::integer(where.empty_range ? 0 : static_cast<Int>(count(where.text, wanted)));
}

Value replaced(Interpreter& interpreter, const Value& self, const CallArguments& arguments) {
  const Parameters parameters("replace", arguments, {"old", "new", "count"}, 2);
  const Int most = parameters.integer(2, -1);
  const std::string_view text = self.as_text();
  interpreter.heap().spend_scan(text.size());
  std::string out = replace(text, parameters.required_text(0), parameters.required_text(1),
                            most < 0 ? kNoLimit : static_cast<std::size_t>(most), kMaxTextBytes);
  interpreter.heap().spend_copy(out.size());
  return like(interpreter, self, std::move(out));
}

Value join_texts(Interpreter& interpreter, const Value& self, const CallArguments& arguments) {
  const Parameters parameters("join", arguments, {"iterable"}, 1);
  Heap& heap = interpreter.heap();
  std::string out;
  Cursor cursor(heap, parameters[0]);
  for (std::size_t index = 0; const std::optional<Value> item = cursor.next(); ++index) {
    heap.spend(1);
    if (!item->is_string())
      fail("sequence item {}: expected str instance, {} found", index, type_name(*item));
    if (index > 0) out += self.as_text();
    append_str(heap, out, *item);
    Heap::check_text(out.size());
  }
  return like(interpreter, self, std::move(out));
}

std::string fill_of(const Parameters& parameters) {
  const std::string fill(parameters.text(1).value_or(" "));
  if (count_code_points(fill) != 1) fail("The fill character must be exactly one character long");
  return fill;
}

/// Spaces that bring the text to the width; `left` and `right` share them.
enum class Justify { kLeft, kRight, kCenter };

template <Justify justify>
Value justified(Interpreter& interpreter, const Value& self, const CallArguments& arguments) {
  const Parameters parameters("justify", arguments, {"width", "fillchar"}, 1);
  const Int width = parameters.integer(0, 0);
  const auto length = static_cast<Int>(self.text().length());
  if (width <= length) return self;
  const std::string fill = fill_of(parameters);
  if (width > static_cast<Int>(kMaxTextBytes / fill.size())) Heap::check_text(kMaxTextBytes + 1);
  const auto missing = static_cast<std::size_t>(width - length);
  interpreter.heap().spend_scan(missing);
  // Where the space cannot be halved, Python puts the odd one to the left for odd widths.
  std::size_t left = 0;
  if (justify == Justify::kRight) left = missing;
  if (justify == Justify::kCenter) left = missing / 2 + (missing & static_cast<std::size_t>(width) & 1);
  std::string out;
  for (std::size_t i = 0; i < left; ++i) out += fill;
  out += self.as_text();
  for (std::size_t i = left; i < missing; ++i) out += fill;
  return like(interpreter, self, std::move(out));
}

Value zero_filled(Interpreter& interpreter, const Value& self, const CallArguments& arguments) {
  const Parameters parameters("zfill", arguments, {"width"}, 1);
  const Int width = parameters.integer(0, 0);
  const auto length = static_cast<Int>(self.text().length());
  if (width <= length) return self;
  if (width > static_cast<Int>(kMaxTextBytes)) Heap::check_text(kMaxTextBytes + 1);
  const std::string_view text = self.as_text();
  const std::size_t sign = text.starts_with('-') || text.starts_with('+') ? 1 : 0;
  std::string out(text.substr(0, sign));
  out.append(static_cast<std::size_t>(width - length), '0');
  out += text.substr(sign);
  return like(interpreter, self, std::move(out));
}

template <bool at_start>
Value without_affix(Interpreter& interpreter, const Value& self, const CallArguments& arguments) {
  const Parameters parameters("removeprefix", arguments, {"affix"}, 1);
  std::string_view text = self.as_text();
  const std::string_view affix = parameters.required_text(0);
  if (at_start && text.starts_with(affix)) text.remove_prefix(affix.size());
  if (!at_start && text.ends_with(affix)) text.remove_suffix(affix.size());
  return like(interpreter, self, std::string(text));
}

Value format_text(Interpreter& interpreter, const Value& self, const CallArguments& arguments) {
  return format_braces(interpreter.heap(), self, arguments);
}

constexpr Method kMethods[] = {
    {"capitalize", mapped<capitalize>},
    {"casefold", mapped<fold_case>},
    {"center", justified<Justify::kCenter>},
    {"count", count_in},
    {"encode", nullptr},
    {"endswith", has_affix<false>},
    {"expandtabs", nullptr},
    {"find", find_in<false, Missing::kMinusOne>},
    {"format", format_text},
    {"format_map", nullptr},
    {"index", find_in<false, Missing::kError>},
    {"isalnum", tested<all_alphanumeric>},
    {"isalpha", tested<all_alphabetic>},
    {"isascii", tested<all_ascii>},
    {"isdecimal", tested<all_decimal>},
    {"isdigit", tested<all_digits>},
    {"isidentifier", tested<is_identifier>},
    {"islower", tested<is_lower_text>},
    {"isnumeric", tested<all_numeric>},
    {"isprintable", nullptr},
    {"isspace", tested<all_space>},
    {"istitle", tested<is_title_text>},
    {"isupper", tested<is_upper_text>},
    {"join", join_texts},
    {"ljust", justified<Justify::kLeft>},
    {"lower", mapped<to_lower>},
    {"lstrip", stripped<Side::kLeft>},
    {"maketrans", nullptr},
    {"partition", partition<false>},
    {"removeprefix", without_affix<true>},
    {"removesuffix", without_affix<false>},
    {"replace", replaced},
    {"rfind", find_in<true, Missing::kMinusOne>},
    {"rindex", find_in<true, Missing::kError>},
    {"rjust", justified<Justify::kRight>},
    {"rpartition", partition<true>},
    {"rsplit", split_text<true>},
    {"rstrip", stripped<Side::kRight>},
    {"split", split_text<false>},
    {"splitlines", split_into_lines},
    {"startswith", has_affix<true>},
    {"strip", stripped<Side::kBoth>},
    {"swapcase", mapped<swap_case>},
    {"title", mapped<to_title>},
    {"translate", nullptr},
    {"upper", mapped<to_upper>},
    {"zfill", zero_filled},
};

}  // namespace

std::span<const Method> string_methods() { return kMethods; }

}  // namespace peregrine::text::jinja
