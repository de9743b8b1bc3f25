// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/formatting.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "text/jinja/access.h"
#include "text/jinja/case_mapping.h"
#include "text/jinja/iteration.h"
#include "text/jinja/printing.h"
#include "text/jinja/strings.h"
#include "text/unicode.h"

namespace peregrine::text::jinja {
namespace {

constexpr std::size_t kMaxWidth = 100'000;
constexpr int kMaxPrecision = 500;

/// A format as both kinds of formatting describe it.
struct Spec {
  std::string fill = " ";
  char align = '\0';  ///< '<', '>', '^', '=' or none.
  char sign = '-';    ///< '-', '+' or ' '.
  bool alternate = false;
  char grouping = '\0';  ///< ',' or '_' between thousands.
  std::size_t width = 0;
  int precision = -1;
  char type = '\0';
};

std::size_t read_number(std::string_view text, std::size_t& at, std::size_t most) {
  std::size_t number = 0;
  for (; at < text.size() && is_ascii_digit(text[at]); ++at) {
    number = number * 10 + static_cast<std::size_t>(text[at] - '0');
    if (number > most) fail("a width or precision in a format is more than {}", most);
  }
  return number;
}

std::string padded(std::string text, const Spec& spec, char standard_align, std::size_t sign_size = 0) {
  const std::size_t length = count_code_points(text);
  if (length >= spec.width) return text;
  const std::size_t missing = spec.width - length;
  const auto fill = [&](std::size_t times) {
    std::string out;
    for (std::size_t i = 0; i < times; ++i) out += spec.fill;
    return out;
  };
  switch (spec.align != '\0' ? spec.align : standard_align) {
    case '<':
      return text + fill(missing);
    case '^':
      return fill(missing / 2) + text + fill(missing - missing / 2);
    case '=':
      return text.substr(0, sign_size) + fill(missing) + text.substr(sign_size);
    default:
      return fill(missing) + text;
  }
}

std::string grouped(const std::string& digits, char separator, std::size_t every) {
  const std::size_t whole = std::min(digits.find_first_not_of("0123456789abcdefABCDEF"), digits.size());
  std::string out;
  for (std::size_t i = 0; i < whole; ++i) {
    if (i > 0 && (whole - i) % every == 0) out += separator;
    out += digits[i];
  }
  return out + digits.substr(whole);
}

/// Sign, prefix and digits together, padded.
std::string finish_number(bool negative, const std::string& prefix, std::string digits, const Spec& spec) {
  if (spec.grouping != '\0') {
    const bool decimal = spec.type == '\0' || std::string_view("dfFeEgG%n").find(spec.type) != kNotFound;
    digits = grouped(digits, spec.grouping, decimal ? 3 : 4);
  }
  std::string sign;
  if (negative) sign = "-";
  if (!negative && spec.sign != '-') sign = std::string(1, spec.sign);
  sign += prefix;
  return padded(sign + digits, spec, '>', sign.size());
}

std::string format_int(Int value, const Spec& spec) {
  const bool negative = value < 0;
  const auto magnitude =
      negative ? -static_cast<unsigned __int128>(value) : static_cast<unsigned __int128>(value);
  std::string digits;
  std::string prefix;
  switch (spec.type) {
    case 'b':
      digits = fmt::format("{:b}", magnitude);
      prefix = "0b";
      break;
    case 'o':
      digits = fmt::format("{:o}", magnitude);
      prefix = "0o";
      break;
    case 'x':
      digits = fmt::format("{:x}", magnitude);
      prefix = "0x";
      break;
    case 'X':
      digits = fmt::format("{:X}", magnitude);
      prefix = "0X";
      break;
    default:
      digits = fmt::format("{}", magnitude);
  }
  if (!spec.alternate) prefix.clear();
  return finish_number(negative, prefix, std::move(digits), spec);
}

std::string format_float(double value, Spec spec) {
  const bool negative = std::signbit(value) && !std::isnan(value);
  double magnitude = std::abs(value);
  char type = spec.type;
  if (type == '%') {
    magnitude *= 100;
    type = 'f';
  }
  std::string digits;
  if (!std::isfinite(magnitude)) {
    digits = std::isnan(magnitude) ? "nan" : "inf";
    if (type == 'F' || type == 'E' || type == 'G') digits = to_upper(digits);
  } else if (type == '\0' && spec.precision < 0) {
    digits = float_repr(magnitude);
  } else {
    const int precision = spec.precision < 0 ? 6 : spec.precision;
    const std::string c_format = fmt::format("%{}.{}{}", spec.alternate ? "#" : "", precision,
                                             type == '\0' || type == 'n' ? 'g' : type);
    char buffer[1024];
    const int size = std::snprintf(buffer, sizeof buffer, c_format.c_str(), magnitude);
    digits.assign(buffer, static_cast<std::size_t>(std::clamp(size, 0, static_cast<int>(sizeof buffer) - 1)));
    if (type == '\0' && digits.find_first_of(".e") == kNotFound) digits += ".0";
  }
  if (spec.type == '%') digits += '%';
  return finish_number(negative, "", std::move(digits), spec);
}

std::string format_text(std::string_view text, const Spec& spec) {
  if (spec.precision >= 0) text = text.substr(0, byte_of(text, static_cast<std::size_t>(spec.precision)));
  return padded(std::string(text), spec, '<');
}

std::string character_of(Int code) {
  if (code < 0 || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000))
    fail("{} is the code of no character", code);
  std::string out;
  append_utf8(out, static_cast<char32_t>(code));
  return out;
}

/// "%(name)-08.3f" and its like: one value at a time.
class PercentFormatter {
 public:
  PercentFormatter(Heap& heap, const Value& format, const Value& values)
      : heap_(heap), format_(format.as_text()), values_(values), markup_(format.text().markup) {}

  std::string run() {
    std::string out;
    for (at_ = 0; at_ < format_.size();) {
      Heap::check_text(out.size());
      const std::size_t percent = std::min(format_.find('%', at_), format_.size());
      out += format_.substr(at_, percent - at_);
      at_ = percent;
      if (at_ < format_.size()) {
        const std::string converted = one();
        heap_.spend_scan(converted.size());
        out += converted;
      }
    }
    // What has items by key, even by number, need not be used: CPython takes it for a mapping.
    const bool all_used = values_.is(Kind::kTuple)
                              ? used_ == values_.sequence().items.size()
                              : used_ > 0 || values_.is_undefined() || values_.is(Kind::kDict) ||
                                    values_.is(Kind::kList) || values_.is(Kind::kRange);
    if (!all_used) fail("not all arguments converted during string formatting");
    return out;
  }

 private:
  std::string one() {
    heap_.spend(1);
    ++at_;
    Spec spec;
    std::optional<Value> value;
    if (next() == '(') value = named();
    read_flags(spec);
    spec.width = read_size(spec, kMaxWidth);
    if (next() == '.') {
      ++at_;
      spec.precision = static_cast<int>(read_size(spec, kMaxPrecision));
    }
    while (next() == 'h' || next() == 'l' || next() == 'L') ++at_;
    const char type = next();
    if (type == '\0') fail("incomplete format");
    ++at_;
    if (type == '%') return "%";
    if (!value) value = take();
    return convert(*value, type, spec);
  }

  char next() const { return at_ < format_.size() ? format_[at_] : '\0'; }

  Value named() {
    const std::size_t end = format_.find(')', at_);
    if (end == kNotFound) fail("incomplete format key");
    if (!values_.is(Kind::kDict)) fail("format requires a mapping");
    const Value* value = values_.dict().find(format_.substr(at_ + 1, end - at_ - 1));
    if (value == nullptr)
      fail("the key {} of a format is missing", core::quoted(format_.substr(at_, end - at_ + 1), 40));
    at_ = end + 1;
    return *value;
  }

  void read_flags(Spec& spec) {
    for (;; ++at_) {
      const char flag = next();
      if (flag == '-') {
        spec.align = '<';
      } else if (flag == '+') {
        spec.sign = '+';
      } else if (flag == ' ') {
        if (spec.sign != '+') spec.sign = ' ';
      } else if (flag == '0') {
        if (spec.align == '\0') spec.align = '=';
      } else if (flag == '#') {
        spec.alternate = true;
      } else {
        return;
      }
    }
  }

  std::size_t read_size(Spec& spec, std::size_t most) {
    if (next() != '*') return read_number(format_, at_, most);
    ++at_;
    const Value value = take();
    if (!value.is_integral()) fail("* wants int");
    Int size = value.as_int();
    if (size < 0) {
      spec.align = '<';
      size = -std::max(size, -Int{kMaxWidth} - 1);
    }
    if (size > static_cast<Int>(most)) fail("a width or precision in a format is more than {}", most);
    return static_cast<std::size_t>(size);
  }

  Value take() {
    if (!values_.is(Kind::kTuple)) {
      if (used_++ > 0) fail("not enough arguments for format string");
      return values_;
    }
    const auto& items = values_.sequence().items;
    if (used_ >= items.size()) fail("not enough arguments for format string");
    return items[used_++];
  }

  std::string convert(const Value& value, char type, Spec spec) {
    const bool is_number_type = std::string_view("diuoxXeEfFgG").find(type) != kNotFound;
    if (spec.align == '=') {
      // Zeros, and only for numbers.
      if (is_number_type) spec.fill = "0";
      if (!is_number_type) spec.align = '>';
    }
    if (spec.align == '\0') spec.align = '>';
    if (!is_number_type) return convert_text(value, type, spec);
    if (value.is_undefined()) fail_undefined(value);
    if (!value.is_number()) fail("%{} format: a real number is required, not {}", type, type_name(value));
    if (std::string_view("diuoxX").find(type) == kNotFound) {
      spec.type = type;
      return format_float(value.as_real(), spec);
    }
    spec.type = type == 'i' || type == 'u' ? 'd' : type;
    const bool is_float = value.is(Kind::kFloat);
    if (is_float && (spec.type != 'd' || !(std::abs(value.as_float()) < 0x1p126)))
      fail("%{} format: an integer is required, not float", type);
    spec.precision = -1;
    return format_int(is_float ? static_cast<Int>(value.as_float()) : value.as_int(), spec);
  }

  std::string convert_text(const Value& value, char type, const Spec& spec) {
    switch (type) {
      case 's':
        return format_text(text_of(value), spec);
      case 'r':
      case 'a':
        return format_text(to_repr(heap_, value), spec);
      case 'c':
        if (value.is_string() && value.text().length() == 1) return format_text(value.as_text(), spec);
        if (value.is_integral()) return format_text(character_of(value.as_int()), spec);
        fail("%c requires int or char");
      default:
        fail("unsupported format character {}", core::quoted(std::string_view(&type, 1)));
    }
  }

  /// Markup escapes what is put into it.
  std::string text_of(const Value& value) {
    std::string text = to_str(heap_, value);
    return markup_ && !(value.is_string() && value.text().markup) ? escape_html(text) : text;
  }

  Heap& heap_;
  std::string_view format_;
  const Value& values_;
  bool markup_;
  std::size_t at_ = 0;
  std::size_t used_ = 0;
};

Spec parse_spec(std::string_view text) {
  Spec spec;
  std::size_t at = 0;
  const auto is_align = [](char c) { return c == '<' || c == '>' || c == '^' || c == '='; };
  if (!text.empty()) {
    const std::size_t bytes = decode_at(text, 0).bytes;
    if (text.size() > bytes && is_align(text[bytes])) {
      spec.fill = text.substr(0, bytes);
      spec.align = text[bytes];
      at = bytes + 1;
    } else if (is_align(text[0])) {
      spec.align = text[0];
      at = 1;
    }
  }
  const auto next = [&] { return at < text.size() ? text[at] : '\0'; };
  if (next() == '+' || next() == '-' || next() == ' ') spec.sign = text[at++];
  if (next() == '#') {
    spec.alternate = true;
    ++at;
  }
  if (next() == '0') {
    if (spec.align == '\0') {
      spec.align = '=';
      spec.fill = "0";
    }
    ++at;
  }
  spec.width = read_number(text, at, kMaxWidth);
  if (next() == ',' || next() == '_') spec.grouping = text[at++];
  if (next() == '.') {
    ++at;
    if (!is_ascii_digit(next())) fail("Format specifier missing precision");
    spec.precision = static_cast<int>(read_number(text, at, kMaxPrecision));
  }
  if (next() != '\0') spec.type = text[at++];
  if (at != text.size()) fail("invalid format specifier {}", core::quoted(text, 40));
  return spec;
}

/// format(value, spec).
std::string format_value(Heap& heap, const Value& value, std::string_view text) {
  if (text.empty()) return to_str(heap, value);
  Spec spec = parse_spec(text);
  const auto is_one_of = [&](std::string_view types) { return types.find(spec.type) != kNotFound; };
  if (value.is_string()) {
    if (spec.type != '\0' && spec.type != 's')
      fail("unknown format code '{}' for object of type 'str'", spec.type);
    if (spec.align == '=' && spec.fill != "0") fail("'=' alignment not allowed in string format specifier");
    if (spec.align == '=') spec.align = '<';
    return format_text(value.as_text(), spec);
  }
  if (value.is(Kind::kBool) && spec.type == '\0') return format_text(to_str(heap, value), spec);
  if (value.is_integral()) {
    if (spec.type == 'c') return padded(character_of(value.as_int()), spec, '<');
    if (spec.type == '\0' || is_one_of("bdoxXn")) return format_int(value.as_int(), spec);
  }
  if (value.is_number() && (spec.type == '\0' || is_one_of("eEfFgG%n")))
    return format_float(value.as_real(), spec);
  if (value.is_number())
    fail("unknown format code '{}' for object of type '{}'", spec.type, type_name(value));
  fail("unsupported format string passed to {}.__format__", type_name(value));
}

/// "{0.name[key]!r:>8}" and its like.
class BraceFormatter {
 public:
  BraceFormatter(Heap& heap, const CallArguments& arguments, bool markup)
      : heap_(heap), arguments_(arguments), markup_(markup) {}

  std::string run(std::string_view format, unsigned level = 0) {
    if (level > 2) fail("Max string recursion exceeded");
    std::string out;
    for (std::size_t at = 0; at < format.size();) {
      Heap::check_text(out.size());
      const char c = format[at];
      if ((c == '{' || c == '}') && at + 1 < format.size() && format[at + 1] == c) {
        out += c;
        at += 2;
      } else if (c == '{') {
        const std::size_t end = field_end(format, at);
        out += field(format.substr(at + 1, end - at - 1), level);
        at = end + 1;
      } else if (c == '}') {
        fail("Single '}}' encountered in format string");
      } else {
        out += c;
        ++at;
      }
    }
    return out;
  }

 private:
  static std::size_t field_end(std::string_view format, std::size_t at) {
    unsigned depth = 0;
    for (; at < format.size(); ++at) {
      if (format[at] == '{') ++depth;
      if (format[at] == '}' && --depth == 0) return at;
    }
    fail("expected '}}' before end of string");
  }

  std::string field(std::string_view text, unsigned level) {
    heap_.spend(1);
    std::size_t end = 0;
    for (bool in_brackets = false; end < text.size(); ++end) {
      if (text[end] == '[') in_brackets = true;
      if (text[end] == ']') in_brackets = false;
      if (!in_brackets && (text[end] == '!' || text[end] == ':')) break;
    }
    Value value = look_up(text.substr(0, end));
    std::string_view rest = text.substr(end);
    if (rest.starts_with('!')) {
      if (rest.size() < 2 || (rest.size() > 2 && rest[2] != ':')) fail("bad conversion in a format field");
      if (rest[1] != 's' && rest[1] != 'r' && rest[1] != 'a')
        fail("unknown conversion specifier in a format field");
      value = make_text(heap_, rest[1] == 's' ? to_str(heap_, value) : to_repr(heap_, value));
      rest.remove_prefix(2);
    }
    const std::string spec = rest.empty() ? std::string() : run(rest.substr(1), level + 1);
    std::string out = format_value(heap_, value, spec);
    heap_.spend_scan(out.size());
    return markup_ && !(value.is_string() && value.text().markup) ? escape_html(out) : out;
  }

  Value look_up(std::string_view path) {
    std::size_t at = std::min(path.find_first_of(".["), path.size());
    Value value = argument(path.substr(0, at));
    while (at < path.size()) {
      if (path[at] == '.') {
        const std::size_t end = std::min(path.find_first_of(".[", at + 1), path.size());
        value = get_attribute(heap_, value, path.substr(at + 1, end - at - 1));
        at = end;
      } else if (path[at] == '[') {
        const std::size_t end = path.find(']', at);
        if (end == kNotFound) fail("Missing ']' in format string");
        const std::string_view key = path.substr(at + 1, end - at - 1);
        value = get_item(heap_, value,
                         is_index(key) ? Value::integer(index_of(key)) : make_text(heap_, std::string(key)));
        at = end + 1;
      } else {
        fail("Only '.' or '[' may follow ']' in format field specifier");
      }
    }
    return value;
  }

  static bool is_index(std::string_view text) {
    return !text.empty() && std::all_of(text.begin(), text.end(), is_ascii_digit);
  }
  static Int index_of(std::string_view digits) {
    std::size_t at = 0;
    return static_cast<Int>(read_number(digits, at, std::size_t{1} << 40));
  }

  Value argument(std::string_view name) {
    if (name.empty() || is_index(name)) {
      const std::size_t index = name.empty() ? automatic_++ : static_cast<std::size_t>(index_of(name));
      if (index >= arguments_.positional.size())
        fail("Replacement index {} out of range for positional args tuple", index);
      return arguments_.positional[index];
    }
    heap_.spend(arguments_.named.size() / 16);
    for (const auto& [key, value] : arguments_.named) {
      if (key == name) return value;
    }
    fail("the format has no argument {}", core::quoted(name, 40));
  }

  Heap& heap_;
  const CallArguments& arguments_;
  bool markup_;
  std::size_t automatic_ = 0;
};

}  // namespace

Value format_percent(Heap& heap, const Value& format, const Value& values) {
  return make_text(heap, PercentFormatter(heap, format, values).run(), format.text().markup);
}

Value format_braces(Heap& heap, const Value& format, const CallArguments& arguments) {
  const bool markup = format.text().markup;
  return make_text(heap, BraceFormatter(heap, arguments, markup).run(format.as_text()), markup);
}

}  // namespace peregrine::text::jinja
