// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/operators.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "text/jinja/formatting.h"
#include "text/jinja/strings.h"

namespace peregrine::text::jinja {
namespace {

std::string_view symbol(Arithmetic operation) {
  switch (operation) {
    case Arithmetic::kAdd:
      return "+";
    case Arithmetic::kSubtract:
      return "-";
    case Arithmetic::kMultiply:
      return "*";
    case Arithmetic::kDivide:
      return "/";
    case Arithmetic::kFloorDivide:
      return "//";
    case Arithmetic::kModulo:
      return "%";
    case Arithmetic::kPower:
      return "** or pow()";
  }
  return "?";
}

[[noreturn]] void fail_types(Arithmetic operation, const Value& left, const Value& right) {
  if (operation == Arithmetic::kAdd && (left.is_string() || left.is_list_or_tuple())) {
    fail("can only concatenate {} (not \"{}\") to {}", type_name(left), type_name(right), type_name(left));
  }
  fail("unsupported operand type(s) for {}: '{}' and '{}'", symbol(operation), type_name(left),
       type_name(right));
}

[[noreturn]] void fail_overflow() { fail("an integer grows beyond 127 bits"); }

Int floor_divide(Int a, Int b) {
  if (b == 0) fail("integer division or modulo by zero");
  if (b == -1) {
    Int out = 0;
    if (__builtin_sub_overflow(Int{0}, a, &out)) fail_overflow();
    return out;
  }
  const Int quotient = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

Int modulo(Int a, Int b) {
  if (b == 0) fail("integer modulo by zero");
  if (b == -1) return 0;
  const Int rest = a % b;
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

Int power(Int base, Int exponent) {
  // Each squaring doubles the bits: beyond 0, 1 and -1 no more than seven of them fit.
  if (base == 0 || base == 1) return exponent == 0 ? 1 : base;
  if (base == -1) return exponent % 2 == 0 ? 1 : -1;
  Int out = 1;
  for (; exponent > 0; --exponent) {
    if (__builtin_mul_overflow(out, base, &out)) fail_overflow();
  }
  return out;
}

Value int_arithmetic(Arithmetic operation, Int a, Int b) {
  Int out = 0;
  switch (operation) {
    case Arithmetic::kAdd:
      if (__builtin_add_overflow(a, b, &out)) fail_overflow();
      return Value::integer(out);
    case Arithmetic::kSubtract:
      if (__builtin_sub_overflow(a, b, &out)) fail_overflow();
      return Value::integer(out);
    case Arithmetic::kMultiply:
      if (__builtin_mul_overflow(a, b, &out)) fail_overflow();
      return Value::integer(out);
    case Arithmetic::kDivide:
      if (b == 0) fail("division by zero");
      return Value::real(static_cast<double>(a) / static_cast<double>(b));
    case Arithmetic::kFloorDivide:
      return Value::integer(floor_divide(a, b));
    case Arithmetic::kModulo:
      return Value::integer(modulo(a, b));
    case Arithmetic::kPower:
      if (b >= 0) return Value::integer(power(a, b));
      if (a == 0) fail("0.0 cannot be raised to a negative power");
      return Value::real(std::pow(static_cast<double>(a), static_cast<double>(b)));
  }
  return {};
}

double float_modulo(double a, double b) {
  if (b == 0) fail("float modulo");
  const double rest = std::fmod(a, b);
  if (rest == 0) return std::copysign(0.0, b);
  return (rest < 0) != (b < 0) ? rest + b : rest;
}

double float_floor_divide(double a, double b) {
  if (b == 0) fail("float floor division by zero");
  // The quotient goes with the remainder, as divmod has it, and not with a rounded a / b.
  const double quotient = (a - float_modulo(a, b)) / b;
  if (quotient == 0) return std::copysign(0.0, a / b);
  const double whole = std::floor(quotient);
  return quotient - whole > 0.5 ? whole + 1 : whole;
}

Value float_arithmetic(Arithmetic operation, double a, double b) {
  switch (operation) {
    case Arithmetic::kAdd:
      return Value::real(a + b);
    case Arithmetic::kSubtract:
      return Value::real(a - b);
    case Arithmetic::kMultiply:
      return Value::real(a * b);
    case Arithmetic::kDivide:
      if (b == 0) fail("float division by zero");
      return Value::real(a / b);
    case Arithmetic::kFloorDivide:
      return Value::real(float_floor_divide(a, b));
    case Arithmetic::kModulo:
      return Value::real(float_modulo(a, b));
    case Arithmetic::kPower:
      if (a == 0 && b < 0) fail("0.0 cannot be raised to a negative power");
      if (a < 0 && b != std::floor(b)) fail("a power of a negative number is not real");
      const double out = std::pow(a, b);
      if (std::isinf(out) && !std::isinf(a) && !std::isinf(b)) fail("numerical result out of range");
      return Value::real(out);
  }
  return {};
}

Value add_texts(Heap& heap, Value left, const Value& right) {
  const bool markup = left.text().markup || right.text().markup;
  if (markup) {
    // Markup escapes what joins it and is not markup itself.
    std::string out = left.text().markup ? std::string(left.as_text()) : escape_html(left.as_text());
    out += right.text().markup ? std::string(right.as_text()) : escape_html(right.as_text());
    return make_text(heap, std::move(out), true);
  }
  if (left.object<Text>().references() == 1) {
    // Nobody else sees it: a chain of additions is then linear in its length.
    left.object<Text>().append(right.as_text());
    return left;
  }
  const std::string_view a = left.as_text();
  const std::string_view b = right.as_text();
  Heap::check_text(a.size() + b.size());
  std::string out;
  out.reserve(a.size() + b.size());
  out += a;
  out += b;
  return make_text(heap, std::move(out));
}

Value add_sequences(Heap& heap, const Value& left, const Value& right) {
  std::vector<Value> items = left.sequence().items;
  const auto& more = right.sequence().items;
  items.insert(items.end(), more.begin(), more.end());
  return left.is(Kind::kList) ? make_list(heap, std::move(items)) : make_tuple(heap, std::move(items));
}

Value repeat(Heap& heap, const Value& what, Int times) {
  const auto count = static_cast<std::size_t>(times < 0 ? 0 : std::min<Int>(times, kMaxTextBytes + 1));
  if (what.is_string()) {
    const std::string_view text = what.as_text();
    if (!text.empty() && count > kMaxTextBytes / text.size()) Heap::check_text(kMaxTextBytes + 1);
    std::string out;
    const std::size_t size = text.size() * count;
    out.reserve(size);
    if (size > 0) out = text;
    // By doubling: a short text many times is as fast as a long one twice.
    while (out.size() < size) out.append(out, 0, std::min(out.size(), size - out.size()));
    return make_text(heap, std::move(out), what.text().markup);
  }
  const auto& once = what.sequence().items;
  std::vector<Value> items;
  if (!once.empty()) {
    Reservation reservation(heap);
    if (count > kMaxMemoryBytes / sizeof(Value) / once.size()) heap.allocate(kMaxMemoryBytes + 1);
    reservation.add(count * once.size() * sizeof(Value));
    items.reserve(count * once.size());
    for (std::size_t i = 0; i < count; ++i) items.insert(items.end(), once.begin(), once.end());
  }
  return what.is(Kind::kList) ? make_list(heap, std::move(items)) : make_tuple(heap, std::move(items));
}

bool sequences_equal(Heap& heap, const Value& a, const Value& b) {
  const auto& x = a.sequence().items;
  const auto& y = b.sequence().items;
  if (x.size() != y.size()) return false;
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (!equal(heap, x[i], y[i])) return false;
  }
  return true;
}

bool dicts_equal(Heap& heap, const Value& a, const Value& b) {
  const Dict& x = a.dict();
  const Dict& y = b.dict();
  if (x.entries.size() != y.entries.size()) return false;
  for (const auto& [key, value] : x.entries) {
    const Value* other = y.find(key);
    if (other == nullptr || !equal(heap, value, *other)) return false;
  }
  return true;
}

bool ranges_equal(const Range& a, const Range& b) {
  if (a.count != b.count) return false;
  return a.count == 0 || (a.start == b.start && (a.count == 1 || a.step == b.step));
}

std::string_view symbol(Order order) {
  switch (order) {
    case Order::kLess:
      return "<";
    case Order::kLessEqual:
      return "<=";
    case Order::kGreater:
      return ">";
    case Order::kGreaterEqual:
      return ">=";
  }
  return "?";
}

bool holds(Order order, int comparison) {
  switch (order) {
    case Order::kLess:
      return comparison < 0;
    case Order::kLessEqual:
      return comparison <= 0;
    case Order::kGreater:
      return comparison > 0;
    case Order::kGreaterEqual:
      return comparison >= 0;
  }
  return false;
}

bool is_nan(const Value& value) { return value.is(Kind::kFloat) && std::isnan(value.as_float()); }

}  // namespace

Value arithmetic(Heap& heap, Arithmetic operation, Value left, const Value& right) {
  // A string on the left formats whatever is on the right, even an Undefined.
  if (operation == Arithmetic::kModulo && left.is_string()) return format_percent(heap, left, right);
  if (left.is_undefined()) fail_undefined(left);
  if (right.is_undefined()) fail_undefined(right);
  if (left.is_number() && right.is_number()) {
    if (left.is(Kind::kFloat) || right.is(Kind::kFloat))
      return float_arithmetic(operation, left.as_real(), right.as_real());
    return int_arithmetic(operation, left.as_int(), right.as_int());
  }
  if (operation == Arithmetic::kAdd) {
    if (left.is_string() && right.is_string()) return add_texts(heap, std::move(left), right);
    if (left.is_list_or_tuple() && left.kind() == right.kind()) return add_sequences(heap, left, right);
  }
  if (operation == Arithmetic::kMultiply) {
    const bool repeats_left = left.is_string() || left.is_list_or_tuple();
    if (repeats_left && right.is_integral()) return repeat(heap, left, right.as_int());
    const bool repeats_right = right.is_string() || right.is_list_or_tuple();
    if (repeats_right && left.is_integral()) return repeat(heap, right, left.as_int());
  }
  fail_types(operation, left, right);
}

Value negate(const Value& value) {
  if (value.is_undefined()) fail_undefined(value);
  if (value.is(Kind::kFloat)) return Value::real(-value.as_float());
  if (value.is_integral()) return int_arithmetic(Arithmetic::kSubtract, 0, value.as_int());
  fail("bad operand type for unary -: '{}'", type_name(value));
}

Value positive(const Value& value) {
  if (value.is_undefined()) fail_undefined(value);
  if (value.is(Kind::kFloat)) return value;
  if (value.is_integral()) return Value::integer(value.as_int());
  fail("bad operand type for unary +: '{}'", type_name(value));
}

bool equal(Heap& heap, const Value& a, const Value& b) {
  heap.spend(1);
  if (a.is_number() && b.is_number()) return !is_nan(a) && !is_nan(b) && compare_numbers(a, b) == 0;
  if (a.kind() != b.kind()) return false;
  // What is the same is equal, as Python has it inside of containers.
  if (a.identity() != nullptr && a.identity() == b.identity()) return true;
  switch (a.kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return true;
    case Kind::kString:
      if (a.as_text().size() != b.as_text().size()) return false;
      heap.spend_copy(a.as_text().size());
      return a.as_text() == b.as_text();
    case Kind::kList:
    case Kind::kTuple:
      return sequences_equal(heap, a, b);
    case Kind::kDict:
      return dicts_equal(heap, a, b);
    case Kind::kRange:
      return ranges_equal(a.object<Range>(), b.object<Range>());
    default:
      return false;
  }
}

bool ordered(Heap& heap, Order order, const Value& a, const Value& b) {
  heap.spend(1);
  if (a.is_undefined()) fail_undefined(a);
  if (b.is_undefined()) fail_undefined(b);
  if (a.is_number() && b.is_number()) {
    return !is_nan(a) && !is_nan(b) && holds(order, compare_numbers(a, b));
  }
  if (a.is_string() && b.is_string()) {
    heap.spend_copy(std::min(a.as_text().size(), b.as_text().size()));
    // UTF-8 sorts as its code points do.
    return holds(order, a.as_text().compare(b.as_text()));
  }
  if (a.is_list_or_tuple() && a.kind() == b.kind()) {
    const auto& x = a.sequence().items;
    const auto& y = b.sequence().items;
    for (std::size_t i = 0; i < x.size() && i < y.size(); ++i) {
      if (!equal(heap, x[i], y[i])) return ordered(heap, order, x[i], y[i]);
    }
    return holds(order, x.size() < y.size() ? -1 : (x.size() > y.size() ? 1 : 0));
  }
  fail("'{}' not supported between instances of '{}' and '{}'", symbol(order), type_name(a), type_name(b));
}

double round_float(double value, int digits) {
  if (!std::isfinite(value)) return value;
  // printf rounds the exact value, half to even; a number has no more than 17 + 308 digits that matter.
  constexpr int kMostDigits = 330;
  if (digits > kMostDigits) return value;
  if (digits >= 0) return std::strtod(fmt::format("{:.{}f}", value, digits).c_str(), nullptr);
  if (digits < -308) return std::copysign(0.0, value);
  const double unit = std::pow(10.0, -digits);
  return std::nearbyint(value / unit) * unit;
}

}  // namespace peregrine::text::jinja
