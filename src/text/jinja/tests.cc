// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/tests.h"

#include <algorithm>
#include <iterator>

#include "text/jinja/arguments.h"
#include "text/jinja/case_mapping.h"
#include "text/jinja/filters.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/operators.h"
#include "text/jinja/printing.h"

namespace peregrine::text::jinja {
namespace {

void expect_none(const CallArguments& arguments) { const Parameters parameters("test", arguments, {}); }

template <Kind kind>
bool is_kind(Interpreter&, const Value& value, const CallArguments& arguments) {
  expect_none(arguments);
  return value.is(kind);
}

bool is_defined(Interpreter&, const Value& value, const CallArguments& arguments) {
  expect_none(arguments);
  return !value.is_undefined();
}

template <bool expected>
bool is_boolean(Interpreter&, const Value& value, const CallArguments& arguments) {
  expect_none(arguments);
  return value.is(Kind::kBool) && value.as_bool() == expected;
}

bool is_number(Interpreter&, const Value& value, const CallArguments& arguments) {
  expect_none(arguments);
  return value.is_number();
}

/// What has a length and an index: a string and a dict too, and, as in Jinja, an Undefined.
bool is_sequence(Interpreter&, const Value& value, const CallArguments& arguments) {
  expect_none(arguments);
  return size_of(value).has_value() && !value.is(Kind::kDictView);
}

bool is_iterable_value(Interpreter&, const Value& value, const CallArguments& arguments) {
  expect_none(arguments);
  return is_iterable(value);
}

bool is_callable(Interpreter&, const Value& value, const CallArguments& arguments) {
  expect_none(arguments);
  switch (value.kind()) {
    case Kind::kUndefined:  // Calling is what its class can; it only fails.
    case Kind::kMacro:
    case Kind::kLoop:
    case Kind::kFunction:
    case Kind::kMethod:
    case Kind::kJoiner:
      return true;
    default:
      return false;
  }
}

bool leaves(Interpreter& interpreter, const Value& value, const Value& divisor, Int expected) {
  const Value rest = arithmetic(interpreter.heap(), Arithmetic::kModulo, value, divisor);
  return equal(interpreter.heap(), rest, Value::integer(expected));
}

bool is_odd(Interpreter& interpreter, const Value& value, const CallArguments& arguments) {
  expect_none(arguments);
  return leaves(interpreter, value, Value::integer(2), 1);
}

bool is_even(Interpreter& interpreter, const Value& value, const CallArguments& arguments) {
  expect_none(arguments);
  return leaves(interpreter, value, Value::integer(2), 0);
}

bool is_divisible_by(Interpreter& interpreter, const Value& value, const CallArguments& arguments) {
  return leaves(interpreter, value, Parameters("divisibleby", arguments, {"num"}, 1)[0], 0);
}

bool is_lower(Interpreter& interpreter, const Value& value, const CallArguments& arguments) {
  expect_none(arguments);
  const std::string text = to_str(interpreter.heap(), value);
  interpreter.heap().spend_characters(text.size());
  return is_lower_text(text);
}

bool is_upper(Interpreter& interpreter, const Value& value, const CallArguments& arguments) {
  expect_none(arguments);
  const std::string text = to_str(interpreter.heap(), value);
  interpreter.heap().spend_characters(text.size());
  return is_upper_text(text);
}

bool is_escaped(Interpreter&, const Value& value, const CallArguments& arguments) {
  expect_none(arguments);
  return value.is_string() && value.text().markup;
}

bool is_equal(Interpreter& interpreter, const Value& value, const CallArguments& arguments) {
  return equal(interpreter.heap(), value, Parameters("eq", arguments, {"other"}, 1)[0]);
}

bool is_unequal(Interpreter& interpreter, const Value& value, const CallArguments& arguments) {
  return !equal(interpreter.heap(), value, Parameters("ne", arguments, {"other"}, 1)[0]);
}

template <Order order>
bool is_ordered(Interpreter& interpreter, const Value& value, const CallArguments& arguments) {
  return ordered(interpreter.heap(), order, value, Parameters("comparison", arguments, {"other"}, 1)[0]);
}

bool is_in(Interpreter& interpreter, const Value& value, const CallArguments& arguments) {
  return contains(interpreter.heap(), value, Parameters("in", arguments, {"seq"}, 1)[0]);
}

/// The same object; small things are the same where they are equal, as Python keeps one of each.
bool is_same(Interpreter& interpreter, const Value& value, const CallArguments& arguments) {
  const Value& other = Parameters("sameas", arguments, {"other"}, 1)[0];
  if (value.kind() != other.kind()) return false;
  if (value.identity() != nullptr && !value.is_string()) return value.identity() == other.identity();
  return equal(interpreter.heap(), value, other);
}

bool is_filter(Interpreter&, const Value& value, const CallArguments& arguments) {
  expect_none(arguments);
  return value.is_string() && find_filter(value.as_text()) != nullptr;
}

bool is_test(Interpreter&, const Value& value, const CallArguments& arguments) {
  expect_none(arguments);
  return value.is_string() && find_test(value.as_text()) != nullptr;
}

constexpr Test kTests[] = {
    {"!=", is_unequal},
    {"<", is_ordered<Order::kLess>},
    {"<=", is_ordered<Order::kLessEqual>},
    {"==", is_equal},
    {">", is_ordered<Order::kGreater>},
    {">=", is_ordered<Order::kGreaterEqual>},
    {"boolean", is_kind<Kind::kBool>},
    {"callable", is_callable},
    {"defined", is_defined},
    {"divisibleby", is_divisible_by},
    {"eq", is_equal},
    {"equalto", is_equal},
    {"escaped", is_escaped},
    {"even", is_even},
    {"false", is_boolean<false>},
    {"filter", is_filter},
    {"float", is_kind<Kind::kFloat>},
    {"ge", is_ordered<Order::kGreaterEqual>},
    {"greaterthan", is_ordered<Order::kGreater>},
    {"gt", is_ordered<Order::kGreater>},
    {"in", is_in},
    {"integer", is_kind<Kind::kInt>},
    {"iterable", is_iterable_value},
    {"le", is_ordered<Order::kLessEqual>},
    {"lessthan", is_ordered<Order::kLess>},
    {"lower", is_lower},
    {"lt", is_ordered<Order::kLess>},
    {"mapping", is_kind<Kind::kDict>},
    {"ne", is_unequal},
    {"none", is_kind<Kind::kNone>},
    {"number", is_number},
    {"odd", is_odd},
    {"sameas", is_same},
    {"sequence", is_sequence},
    {"string", is_kind<Kind::kString>},
    {"test", is_test},
    {"true", is_boolean<true>},
    {"undefined", is_kind<Kind::kUndefined>},
    {"upper", is_upper},
};

}  // namespace

const Test* find_test(std::string_view name) {
  const auto* at =
      std::lower_bound(std::begin(kTests), std::end(kTests), name,
                       [](const Test& test, std::string_view wanted) { return test.name < wanted; });
  return at != std::end(kTests) && at->name == name ? at : nullptr;
}

}  // namespace peregrine::text::jinja
