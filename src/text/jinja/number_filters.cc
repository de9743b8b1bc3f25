// SPDX-License-Identifier: Apache-2.0
// Filters that give numbers.

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <optional>

#include "text/jinja/arguments.h"
#include "text/jinja/filters.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/operators.h"
#include "text/jinja/strings.h"

namespace peregrine::text::jinja {
namespace {

/// `text` without the underscores that Python allows between digits; nothing where one is elsewhere.
std::optional<std::string> without_underscores(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      out += text[i];
      continue;
    }
    const auto is_digit = [&](std::size_t at) {
      return at < text.size() && std::isxdigit(static_cast<unsigned char>(text[at]));
    };
    if (i == 0 || !is_digit(i - 1) || !is_digit(i + 1)) return std::nullopt;
  }
  return out;
}

/// int(text, base): nothing where the text is no such number.
std::optional<Int> parse_int(std::string_view text, Int base) {
  const auto plain = without_underscores(strip(text, Side::kBoth));
  if (!plain) return std::nullopt;
  std::string_view digits = *plain;
  const bool negative = digits.starts_with('-');
  if (negative || digits.starts_with('+')) digits.remove_prefix(1);
  const auto prefix = [&](char letter) {
    return digits.size() > 1 && digits[0] == '0' && (digits[1] | 0x20) == letter;
  };
  if ((base == 16 || base == 0) && prefix('x')) {
    base = 16;
    digits.remove_prefix(2);
  } else if ((base == 8 || base == 0) && prefix('o')) {
    base = 8;
    digits.remove_prefix(2);
  } else if ((base == 2 || base == 0) && prefix('b')) {
    base = 2;
    digits.remove_prefix(2);
  } else if (base == 0) {
    base = 10;
  }
  if (digits.empty()) return std::nullopt;
  Int value = 0;
  for (const char c : digits) {
    Int digit = 99;
    if (is_ascii_digit(c)) digit = c - '0';
    if (std::isalpha(static_cast<unsigned char>(c))) digit = (c | 0x20) - 'a' + 10;
    if (digit >= base) return std::nullopt;
    if (__builtin_mul_overflow(value, base, &value) || __builtin_add_overflow(value, digit, &value))
      fail("an integer grows beyond 127 bits");
  }
  return negative ? -value : value;
}

/// float(text): nothing where the text is no number.
std::optional<double> parse_float(std::string_view text) {
  const auto plain = without_underscores(strip(text, Side::kBoth));
  if (!plain || plain->empty()) return std::nullopt;
  // strtod reads hexadecimal numbers and payloads of NaN too, Python does not.
  if (plain->find_first_of("xXpP(") != kNotFound) return std::nullopt;
  char* end = nullptr;
  const double value = std::strtod(plain->c_str(), &end);
  if (end != plain->c_str() + plain->size() || std::isspace(static_cast<unsigned char>(plain->front())))
    return std::nullopt;
  return value;
}

bool fits_int(double value) { return std::abs(value) < 0x1p126; }

Value to_int(Interpreter& interpreter, const Value& value, const CallArguments& arguments) {
  const Parameters parameters("int", arguments, {"default", "base"});
  const Value standard = parameters.value(0, Value::integer(0));
  if (value.is_undefined()) fail_undefined(value);
  if (value.is_integral()) return Value::integer(value.as_int());
  if (value.is(Kind::kFloat)) {
    if (std::isnan(value.as_float())) return standard;
    if (!fits_int(value.as_float())) fail("cannot convert float {} to integer", value.as_float());
    return Value::integer(static_cast<Int>(value.as_float()));
  }
  if (!value.is_string()) return standard;
  interpreter.heap().spend_characters(value.as_text().size());
  const Int base = parameters.integer(1, 10);
  if (base != 0 && (base < 2 || base > 36)) return standard;
  if (const auto number = parse_int(value.as_text(), base)) return Value::integer(*number);
  // "42.23" is 42.
  const auto number = parse_float(value.as_text());
  return number && fits_int(*number) ? Value::integer(static_cast<Int>(*number)) : standard;
}

Value to_float(Interpreter& interpreter, const Value& value, const CallArguments& arguments) {
  const Parameters parameters("float", arguments, {"default"});
  if (value.is_undefined()) fail_undefined(value);
  if (value.is_number()) return Value::real(value.as_real());
  if (value.is_string()) {
    interpreter.heap().spend_characters(value.as_text().size());
    if (const auto number = parse_float(value.as_text())) return Value::real(*number);
  }
  return parameters.value(0, Value::real(0));
}

Value absolute(Interpreter&, const Value& value, const CallArguments& arguments) {
  const Parameters parameters("abs", arguments, {});
  if (value.is(Kind::kFloat)) return Value::real(std::abs(value.as_float()));
  if (value.is_integral()) return value.as_int() < 0 ? negate(value) : positive(value);
  fail("bad operand type for abs(): '{}'", type_name(value));
}

Value round_common(const Value& value, int digits) {
  if (value.is(Kind::kFloat)) return Value::real(round_float(value.as_float(), digits));
  Int number = value.as_int();
  if (digits >= 0) return Value::integer(number);
  if (digits < -38) return Value::integer(0);
  Int unit = 1;
  for (int i = 0; i < -digits; ++i) unit *= 10;
  // Half to even, of the magnitude.
  const bool negative = number < 0;
  const auto magnitude =
      negative ? -static_cast<unsigned __int128>(number) : static_cast<unsigned __int128>(number);
  const auto step = static_cast<unsigned __int128>(unit);
  unsigned __int128 units = magnitude / step;
  const auto rest = magnitude % step;
  if (rest > step - rest || (rest == step - rest && units % 2 == 1)) ++units;
  number = static_cast<Int>(units * step);
  return Value::integer(negative ? -number : number);
}

Value round_number(Interpreter&, const Value& value, const CallArguments& arguments) {
  const Parameters parameters("round", arguments, {"precision", "method"});
  constexpr Int kMostDigits = 400;
  const std::string_view method = parameters.text(1).value_or("common");
  if (method != "common" && method != "ceil" && method != "floor")
    fail("method must be common, ceil or floor");
  if (value.is_undefined()) fail_undefined(value);
  if (!value.is_number()) fail("type {} doesn't define __round__ method", type_name(value));
  const auto digits = static_cast<int>(std::clamp<Int>(parameters.integer(0, 0), -kMostDigits, kMostDigits));
  if (method == "common") return round_common(value, digits);
  const double unit = std::pow(10.0, digits);
  const double scaled = value.as_real() * unit;
  if (!std::isfinite(scaled) || unit == 0) fail("cannot round {} to {} digits", value.as_real(), digits);
  // Python rounds to an int on the way, which has no -0.
  return Value::real(((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) + 0.0) / unit);
}

constexpr Filter kFilters[] = {
    {"abs", absolute}, {"filesizeformat", nullptr}, {"float", to_float},
    {"int", to_int},   {"random", nullptr},         {"round", round_number},
};

}  // namespace

std::span<const Filter> number_filters() { return kFilters; }

}  // namespace peregrine::text::jinja
