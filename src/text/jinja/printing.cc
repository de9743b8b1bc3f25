// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/printing.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>

#include "text/jinja/callables.h"
#include "text/jinja/loop.h"
#include "text/jinja/strings.h"
#include "text/unicode.h"

namespace peregrine::text::jinja {
namespace {

void append(Heap& heap, std::string& out, std::string_view text) {
  Heap::check_text(out.size() + text.size());
  heap.spend_copy(text.size());
  out += text;
}

void append_items(Heap& heap, std::string& out, const std::vector<Value>& items) {
  bool first = true;
  for (const Value& item : items) {
    if (!first) append(heap, out, ", ");
    first = false;
    append_repr(heap, out, item);
  }
}

void append_entries(Heap& heap, std::string& out, const std::vector<Dict::Entry>& entries) {
  append(heap, out, "{");
  bool first = true;
  for (const auto& [key, value] : entries) {
    if (!first) append(heap, out, ", ");
    first = false;
    append_repr(heap, out, key);
    append(heap, out, ": ");
    append_repr(heap, out, value);
  }
  append(heap, out, "}");
}

void append_view(Heap& heap, std::string& out, const Value& value) {
  const auto& view = value.object<DictView>();
  append(heap, out, type_name(value));
  append(heap, out, "([");
  const std::size_t size = view.dict.dict().entries.size();
  for (std::size_t i = 0; i < size; ++i) {
    if (i > 0) append(heap, out, ", ");
    append_repr(heap, out, view.element(heap, i));
  }
  append(heap, out, "])");
}

void append_namespace(Heap& heap, std::string& out, const Namespace& space) {
  append(heap, out, "<Namespace {");
  bool first = true;
  // By index: nothing here changes it, but the text of an attribute may be the namespace itself.
  for (std::size_t i = 0; i < space.attributes.size(); ++i) {
    if (!first) append(heap, out, ", ");
    first = false;
    append(heap, out, repr(space.attributes[i].first));
    append(heap, out, ": ");
    append_repr(heap, out, space.attributes[i].second);
  }
  append(heap, out, "}>");
}

void append_range(Heap& heap, std::string& out, const Range& range) {
  append(heap, out, fmt::format("range({}, {}", range.start, range.stop));
  if (range.step != 1) append(heap, out, fmt::format(", {}", range.step));
  append(heap, out, ")");
}

/// Text of an object that has no contents to show.
std::string object_repr(const Value& value) {
  switch (value.kind()) {
    case Kind::kIterator:
      return "<generator object>";
    case Kind::kMacro:
      return fmt::format("<Macro {}>", repr(value.object<Macro>().name()));
    case Kind::kFunction:
      return fmt::format("<function {}>", value.object<Function>().name);
    case Kind::kMethod: {
      const auto& method = value.object<BoundMethod>();
      return fmt::format("<built-in method {} of {} object>", method.method->name, type_name(method.self));
    }
    default:
      return fmt::format("<{} object>", type_name(value));
  }
}

class JsonWriter {
 public:
  JsonWriter(Heap& heap, const JsonStyle& style) : heap_(heap), style_(style) {}

  void write(const Value& value) {
    heap_.spend(1);
    const Heap::Level level(heap_);
    switch (value.kind()) {
      case Kind::kNone:
        return add("null");
      case Kind::kBool:
        return add(value.as_bool() ? "true" : "false");
      case Kind::kInt:
        return add(fmt::format("{}", value.as_int()));
      case Kind::kFloat:
        return add(number(value.as_float()));
      case Kind::kString:
        return add_string(value.as_text());
      case Kind::kList:
      case Kind::kTuple:
        return write_array(value.sequence().items);
      case Kind::kDict:
        return write_object(value.dict());
      default:
        fail("an object of type {} is not JSON serializable", type_name(value));
    }
  }

  std::string take() { return std::move(out_); }

 private:
  void add(std::string_view text) { append(heap_, out_, text); }

  static std::string number(double value) {
    if (std::isnan(value)) return "NaN";
    if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
    return float_repr(value);
  }

  void add_string(std::string_view text) {
    Heap::check_text(out_.size() + text.size());
    heap_.spend_scan(text.size());
    out_ += '"';
    for (std::size_t at = 0; at < text.size();) {
      const CodePoint c = decode_at(text, at);
      add_character(c.value, text.substr(at, c.bytes));
      at += c.bytes;
    }
    out_ += '"';
  }

  void add_character(char32_t c, std::string_view bytes) {
    Heap::check_text(out_.size());
    switch (c) {
      case '"':
        out_ += "\\\"";
        return;
      case '\\':
        out_ += "\\\\";
        return;
      case '\n':
        out_ += "\\n";
        return;
      case '\r':
        out_ += "\\r";
        return;
      case '\t':
        out_ += "\\t";
        return;
      case '\b':
        out_ += "\\b";
        return;
      case '\f':
        out_ += "\\f";
        return;
      default:
        break;
    }
    const auto code = static_cast<std::uint32_t>(c);
    if (code < 0x20 || (style_.ensure_ascii && code == 0x7F)) {
      out_ += fmt::format("\\u{:04x}", code);
    } else if (!style_.ensure_ascii || code < 0x80) {
      out_ += bytes;
    } else if (code < 0x10000) {
      out_ += fmt::format("\\u{:04x}", code);
    } else {
      const std::uint32_t rest = code - 0x10000;
      out_ += fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + (rest >> 10), 0xDC00 + (rest & 0x3FF));
    }
  }

  void new_line() {
    if (!style_.indent) return;
    add("\n");
    for (unsigned i = 0; i < level_; ++i) add(*style_.indent);
  }

  void write_array(const std::vector<Value>& items) {
    if (items.empty()) return add("[]");
    add("[");
    ++level_;
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (i > 0) add(style_.item_separator);
      new_line();
      write(items[i]);
    }
    --level_;
    new_line();
    add("]");
  }

  void write_key(const Value& key) {
    switch (key.kind()) {
      case Kind::kString:
        return add_string(key.as_text());
      case Kind::kNone:
        return add("\"null\"");
      case Kind::kBool:
        return add(key.as_bool() ? "\"true\"" : "\"false\"");
      case Kind::kInt:
        return add(fmt::format("\"{}\"", key.as_int()));
      case Kind::kFloat:
        return add(fmt::format("\"{}\"", number(key.as_float())));
      default:
        fail("keys must be str, int, float, bool or None, not {}", type_name(key));
    }
  }

  void write_object(const Dict& dict) {
    if (dict.entries.empty()) return add("{}");
    add("{");
    ++level_;
    bool first = true;
    const auto write_entry = [&](const Dict::Entry& entry) {
      if (!first) add(style_.item_separator);
      first = false;
      new_line();
      write_key(entry.first);
      add(style_.key_separator);
      write(entry.second);
    };
    for (const Dict::Entry* entry : in_order(dict)) write_entry(*entry);
    --level_;
    new_line();
    add("}");
  }

  std::vector<const Dict::Entry*> in_order(const Dict& dict) const {
    std::vector<const Dict::Entry*> entries;
    for (const Dict::Entry& entry : dict.entries) entries.push_back(&entry);
    if (!style_.sort_keys) return entries;
    const bool text = dict.entries.front().first.is_string();
    for (const Dict::Entry* entry : entries) {
      if (entry->first.is_string() != text || (!text && !entry->first.is_number()))
        fail("keys of different types cannot be sorted");
    }
    std::stable_sort(entries.begin(), entries.end(), [this](const Dict::Entry* a, const Dict::Entry* b) {
      return compare_keys(heap_, a->first, b->first) < 0;
    });
    return entries;
  }

  Heap& heap_;
  const JsonStyle& style_;
  std::string out_;
  unsigned level_ = 0;
};

}  // namespace

void append_str(Heap& heap, std::string& out, const Value& value) {
  if (value.is_undefined()) return;
  if (value.is_string()) return append(heap, out, value.as_text());
  append_repr(heap, out, value);
}

std::string to_str(Heap& heap, const Value& value) {
  std::string out;
  append_str(heap, out, value);
  return out;
}

void append_repr(Heap& heap, std::string& out, const Value& value) {
  heap.spend(1);
  const Heap::Level level(heap);
  switch (value.kind()) {
    case Kind::kUndefined:
      return append(heap, out, "Undefined");
    case Kind::kNone:
      return append(heap, out, "None");
    case Kind::kBool:
      return append(heap, out, value.as_bool() ? "True" : "False");
    case Kind::kInt:
      return append(heap, out, fmt::format("{}", value.as_int()));
    case Kind::kFloat:
      return append(heap, out, float_repr(value.as_float()));
    case Kind::kString:
      heap.spend_scan(value.as_text().size());
      append(heap, out, value.text().markup ? "Markup(" : "");
      append(heap, out, repr(value.as_text()));
      return append(heap, out, value.text().markup ? ")" : "");
    case Kind::kList:
      append(heap, out, "[");
      append_items(heap, out, value.sequence().items);
      return append(heap, out, "]");
    case Kind::kTuple:
      append(heap, out, "(");
      append_items(heap, out, value.sequence().items);
      return append(heap, out, value.sequence().items.size() == 1 ? ",)" : ")");
    case Kind::kDict:
      return append_entries(heap, out, value.dict().entries);
    case Kind::kRange:
      return append_range(heap, out, value.object<Range>());
    case Kind::kDictView:
      return append_view(heap, out, value);
    case Kind::kNamespace:
      return append_namespace(heap, out, value.object<Namespace>());
    case Kind::kLoop:
      return append(heap, out, value.object<Loop>().repr());
    default:
      return append(heap, out, object_repr(value));
  }
}

std::string to_repr(Heap& heap, const Value& value) {
  std::string out;
  append_repr(heap, out, value);
  return out;
}

std::string float_repr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific).ptr;
  const std::string_view text(buffer, static_cast<std::size_t>(end - buffer));
  const std::size_t mark = text.find('e');
  const int exponent = std::atoi(std::string(text.substr(mark + 1)).c_str());
  std::string sign;
  std::string digits;
  for (const char c : text.substr(0, mark)) {
    if (c == '-') sign = "-";
    if (is_ascii_digit(c)) digits += c;
  }
  // Python's choice between the two forms.
  if (exponent < -4 || exponent >= 16) {
    const std::string fraction = digits.size() > 1 ? "." + digits.substr(1) : "";
    return fmt::format("{}{}{}e{}{:02}", sign, digits[0], fraction, exponent < 0 ? '-' : '+',
                       std::abs(exponent));
  }
  if (exponent < 0) return sign + "0." + std::string(static_cast<std::size_t>(-exponent - 1), '0') + digits;
  const auto whole = static_cast<std::size_t>(exponent) + 1;
  if (digits.size() <= whole) return sign + digits + std::string(whole - digits.size(), '0') + ".0";
  return sign + digits.substr(0, whole) + "." + digits.substr(whole);
}

std::string to_json(Heap& heap, const Value& value, const JsonStyle& style) {
  JsonWriter writer(heap, style);
  writer.write(value);
  return writer.take();
}

}  // namespace peregrine::text::jinja
