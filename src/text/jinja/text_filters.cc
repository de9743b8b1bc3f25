// SPDX-License-Identifier: Apache-2.0
// Filters that give text.

#include <algorithm>

#include "text/jinja/access.h"
#include "text/jinja/arguments.h"
#include "text/jinja/case_mapping.h"
#include "text/jinja/filters.h"
#include "text/jinja/formatting.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/printing.h"
#include "text/jinja/strings.h"
#include "text/unicode.h"

namespace peregrine::text::jinja {
namespace {

/// str(value), and what is safe stays so.
Value soft_text(Interpreter& interpreter, const Value& value) {
  return value.is_string() ? value : make_text(interpreter.heap(), to_str(interpreter.heap(), value));
}

template <std::string (*transform)(std::string_view)>
Value mapped(Interpreter& interpreter, const Value& value, const CallArguments& arguments) {
  const Parameters parameters("filter", arguments, {});
  const Value text = soft_text(interpreter, value);
  interpreter.heap().spend_characters(text.as_text().size());
  return make_text(interpreter.heap(), transform(text.as_text()), text.text().markup);
}

/// Each word with a capital, where words are parted by space, '-' and opening brackets.
std::string title_words(std::string_view text) {
  const auto parts_words = [](char32_t c) {
    return is_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
  };
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint first = decode_at(text, at);
    std::size_t end = at + first.bytes;
    if (parts_words(first.value)) {
      out += text.substr(at, first.bytes);
      at = end;
      continue;
    }
    while (end < text.size() && !parts_words(decode_at(text, end).value)) end += decode_at(text, end).bytes;
    out += to_upper(text.substr(at, first.bytes));
    out += to_lower(text.substr(at + first.bytes, end - at - first.bytes));
    at = end;
  }
  return out;
}

Value trim(Interpreter& interpreter, const Value& value, const CallArguments& arguments) {
  const Parameters parameters("trim", arguments, {"chars"});
  const Value text = soft_text(interpreter, value);
  interpreter.heap().spend_scan(text.as_text().size());
  interpreter.heap().spend_scan(parameters.text(0).value_or("").size());
  return make_text(interpreter.heap(), std::string(strip(text.as_text(), Side::kBoth, parameters.text(0))),
                   text.text().markup);
}

Value string(Interpreter& interpreter, const Value& value, const CallArguments& arguments) {
  const Parameters parameters("string", arguments, {});
  return soft_text(interpreter, value);
}

Value safe(Interpreter& interpreter, const Value& value, const CallArguments& arguments) {
  const Parameters parameters("safe", arguments, {});
  return make_text(interpreter.heap(), to_str(interpreter.heap(), value), true);
}

Value force_escape(Interpreter& interpreter, const Value& value, const CallArguments& arguments) {
  const Parameters parameters("forceescape", arguments, {});
  const std::string text = to_str(interpreter.heap(), value);
  interpreter.heap().spend_scan(text.size());
  return make_text(interpreter.heap(), escape_html(text), true);
}

Value escape(Interpreter& interpreter, const Value& value, const CallArguments& arguments) {
  if (value.is_string() && value.text().markup) return value;
  return force_escape(interpreter, value, arguments);
}

Value replace_text(Interpreter& interpreter, const Value& value, const CallArguments& arguments) {
  const Parameters parameters("replace", arguments, {"old", "new", "count"}, 2);
  Heap& heap = interpreter.heap();
  const Int most = parameters.has(2) ? parameters.integer(2, -1) : -1;
  const std::string text = to_str(heap, value);
  heap.spend_scan(text.size());
  return make_text(heap, replace(text, to_str(heap, parameters[0]), to_str(heap, parameters[1]),
                                 most < 0 ? kNoLimit : static_cast<std::size_t>(most), kMaxTextBytes));
}

Value indent(Interpreter& interpreter, const Value& value, const CallArguments& arguments) {
  const Parameters parameters("indent", arguments, {"width", "first", "blank"});
  Heap& heap = interpreter.heap();
  if (value.is_undefined()) fail_undefined(value);
  if (!value.is_string()) fail("indent needs a string, not {}", type_name(value));
  std::string space;
  if (parameters.find(0) != nullptr && parameters.find(0)->is_string()) {
    space = parameters.required_text(0);
  } else {
    const Int width = parameters.integer(0, 4);
    if (width > static_cast<Int>(kMaxTextBytes)) Heap::check_text(kMaxTextBytes + 1);
    space.assign(static_cast<std::size_t>(std::max<Int>(width, 0)), ' ');
  }
  const bool blank = parameters.flag(2, false);
  // The last line counts only where it is not empty: the added newline ends it.
  const std::string text = std::string(value.as_text()) + "\n";
  heap.spend_scan(text.size());
  const auto lines = split_lines(text, false);
  std::string out = parameters.flag(1, false) ? space : "";
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) out += '\n';
    if (i > 0 && (blank || !lines[i].empty())) out += space;
    out += lines[i];
    Heap::check_text(out.size());
  }
  return make_text(heap, std::move(out), value.text().markup);
}

Value truncate(Interpreter& interpreter, const Value& value, const CallArguments& arguments) {
  const Parameters parameters("truncate", arguments, {"length", "killwords", "end", "leeway"});
  Heap& heap = interpreter.heap();
  const Int length = parameters.integer(0, 255);
  const std::string end(parameters.text(2).value_or("..."));
  const auto end_length = static_cast<Int>(count_code_points(end));
  const Int leeway = parameters.has(3) ? parameters.integer(3, 5) : 5;
  if (length < end_length) fail("truncate: expected length >= {}, got {}", end_length, length);
  if (leeway < 0) fail("truncate: expected leeway >= 0, got {}", leeway);
  // Whatever has a length, and a short one, passes.
  const auto size = size_of(value);
  if (size && *size - leeway <= length) return value;
  if (!value.is_string()) fail("truncate needs a string, not {}", type_name(value));
  const std::string_view text = value.as_text();
  heap.spend_scan(text.size());
  std::string_view kept = text.substr(0, byte_of(text, static_cast<std::size_t>(length - end_length)));
  if (!parameters.flag(1, false)) {
    const std::size_t space = kept.rfind(' ');
    if (space != kNotFound) kept = kept.substr(0, space);
  }
  return make_text(heap, std::string(kept) + end);
}

Value center(Interpreter& interpreter, const Value& value, const CallArguments& arguments) {
  const Parameters parameters("center", arguments, {"width"});
  const Value method = get_attribute(interpreter.heap(), soft_text(interpreter, value), "center");
  return interpreter.call(method, {{parameters.value(0, Value::integer(80))}, {}});
}

Value format(Interpreter& interpreter, const Value& value, const CallArguments& arguments) {
  Heap& heap = interpreter.heap();
  if (!arguments.positional.empty() && !arguments.named.empty())
    fail("format: positional and keyword arguments at the same time");
  const Value text = soft_text(interpreter, value);
  if (arguments.named.empty()) return format_percent(heap, text, make_tuple(heap, arguments.positional));
  std::vector<Dict::Entry> entries;
  for (const auto& [name, named] : arguments.named) entries.emplace_back(make_text(heap, name), named);
  return format_percent(heap, text, make_dict(heap, std::move(entries)));
}

Value word_count(Interpreter& interpreter, const Value& value, const CallArguments& arguments) {
  const Parameters parameters("wordcount", arguments, {});
  const std::string text = to_str(interpreter.heap(), value);
  interpreter.heap().spend_characters(text.size());
  Int words = 0;
  bool inside = false;
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint c = decode_at(text, at);
    const bool word = c.value == '_' || is_alphabetic(c.value) || is_numeric_value(c.value);
    if (word && !inside) ++words;
    inside = word;
    at += c.bytes;
  }
  return Value::integer(words);
}

std::string url_quote(std::string_view text, bool query) {
  std::string out;
  for (const char c : text) {
    const bool plain = is_ascii_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
                       c == '.' || c == '-' || c == '~' || (c == '/' && !query);
    if (plain) {
      out += c;
    } else if (c == ' ' && query) {
      out += '+';
    } else {
      out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
    Heap::check_text(out.size());
  }
  return out;
}

Value url_encode(Interpreter& interpreter, const Value& value, const CallArguments& arguments) {
  const Parameters parameters("urlencode", arguments, {});
  Heap& heap = interpreter.heap();
  if (value.is_string() || !is_iterable(value)) {
    const std::string text = to_str(heap, value);
    heap.spend_characters(text.size());
    return make_text(heap, url_quote(text, false));
  }
  std::vector<Value> pairs;
  if (value.is(Kind::kDict)) {
    for (const auto& [key, item] : value.dict().entries) pairs.push_back(make_tuple(heap, {key, item}));
  } else {
    pairs = to_vector(heap, value);
  }
  std::string out;
  for (const Value& pair : pairs) {
    const std::vector<Value> parts = to_vector(heap, pair);
    if (parts.size() != 2) fail("urlencode needs pairs, found an element of length {}", parts.size());
    if (!out.empty()) out += '&';
    const std::size_t before = out.size();
    out += url_quote(to_str(heap, parts[0]), true) + "=" + url_quote(to_str(heap, parts[1]), true);
    heap.spend_characters(out.size() - before);
    Heap::check_text(out.size());
  }
  return make_text(heap, std::move(out));
}

/// json.dumps as transformers calls it: no HTML escapes, no \u escapes.
Value to_json_text(Interpreter& interpreter, const Value& value, const CallArguments& arguments) {
  const Parameters parameters("tojson", arguments, {"ensure_ascii", "indent", "separators", "sort_keys"});
  constexpr Int kMostIndent = 1000;
  Heap& heap = interpreter.heap();
  JsonStyle style;
  style.ensure_ascii = parameters.flag(0, false);
  style.sort_keys = parameters.flag(3, false);
  if (parameters.has(1)) {
    if (parameters.find(1)->is_string()) {
      style.indent = parameters.required_text(1);
    } else {
      const Int width = parameters.integer(1, 0);
      if (width > kMostIndent) fail("tojson: an indent of {}, at most {} are allowed", width, kMostIndent);
      style.indent = std::string(static_cast<std::size_t>(std::max<Int>(width, 0)), ' ');
    }
    style.item_separator = ",";
  }
  if (parameters.has(2)) {
    const std::vector<Value> separators = to_vector(heap, *parameters.find(2));
    if (separators.size() != 2 || !separators[0].is_string() || !separators[1].is_string())
      fail("tojson: separators must be two strings");
    style.item_separator = separators[0].as_text();
    style.key_separator = separators[1].as_text();
  }
  return make_text(heap, to_json(heap, value, style));
}

constexpr Filter kFilters[] = {
    {"capitalize", mapped<capitalize>},
    {"center", center},
    {"e", escape},
    {"escape", escape},
    {"forceescape", force_escape},
    {"format", format},
    {"indent", indent},
    {"lower", mapped<to_lower>},
    {"pprint", nullptr},
    {"replace", replace_text},
    {"safe", safe},
    {"string", string},
    {"striptags", nullptr},
    {"title", mapped<title_words>},
    {"tojson", to_json_text},
    {"trim", trim},
    {"truncate", truncate},
    {"upper", mapped<to_upper>},
    {"urlencode", url_encode},
    {"urlize", nullptr},
    {"wordcount", word_count},
    {"wordwrap", nullptr},
    {"xmlattr", nullptr},
};

}  // namespace

std::span<const Filter> text_filters() { return kFilters; }

}  // namespace peregrine::text::jinja
