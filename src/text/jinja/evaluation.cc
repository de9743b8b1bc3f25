// SPDX-License-Identifier: Apache-2.0
// Expressions.

#include "text/jinja/access.h"
#include "text/jinja/filters.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/operators.h"
#include "text/jinja/printing.h"
#include "text/jinja/tests.h"

namespace peregrine::text::jinja {

using Type = Expression::Type;

Value Interpreter::evaluate(const Expression& expression) {
  heap_.spend(1);
  switch (expression.type) {
    case Type::kConstant:
      return static_cast<const ConstantExpression&>(expression).value;
    case Type::kName:
      return evaluate_name(static_cast<const NameExpression&>(expression));
    case Type::kBlockText:
      return std::exchange(block_text_, Value());
    default:
      break;
  }
  const Heap::Level level(heap_);
  const auto operand = [&]() -> const Expression& {
    return *static_cast<const UnaryExpression&>(expression).operand;
  };
  switch (expression.type) {
    case Type::kTuple:
      return make_tuple(heap_, evaluate_items(static_cast<const ItemsExpression&>(expression).items));
    case Type::kList:
      return make_list(heap_, evaluate_items(static_cast<const ItemsExpression&>(expression).items));
    case Type::kDict:
      return evaluate_dict(static_cast<const DictExpression&>(expression));
    case Type::kNot:
      return Value::boolean(!evaluate(operand()).truthy());
    case Type::kNegate:
      return negate(evaluate(operand()));
    case Type::kPositive:
      return positive(evaluate(operand()));
    case Type::kArithmetic: {
      const auto& binary = static_cast<const BinaryExpression&>(expression);
      Value left = evaluate(*binary.left);
      const Value right = evaluate(*binary.right);
      line_ = expression.line;
      return arithmetic(heap_, binary.operation, std::move(left), right);
    }
    case Type::kAnd:
    case Type::kOr: {
      const auto& binary = static_cast<const BinaryExpression&>(expression);
      Value left = evaluate(*binary.left);
      return left.truthy() == (expression.type == Type::kAnd) ? evaluate(*binary.right) : left;
    }
    case Type::kConcat:
      return evaluate_concat(static_cast<const ItemsExpression&>(expression));
    case Type::kCompare:
      return evaluate_compare(static_cast<const CompareExpression&>(expression));
    case Type::kConditional:
      return evaluate_conditional(static_cast<const ConditionalExpression&>(expression));
    case Type::kAttribute: {
      const auto& attribute = static_cast<const AttributeExpression&>(expression);
      const Value object = evaluate(*attribute.object);
      line_ = expression.line;
      return get_attribute(heap_, object, attribute.name);
    }
    case Type::kItem:
      return evaluate_item(static_cast<const ItemExpression&>(expression));
    case Type::kCall:
      return evaluate_call(static_cast<const CallExpression&>(expression));
    case Type::kFilter:
      return evaluate_filter(static_cast<const FilterExpression&>(expression));
    case Type::kTest:
      return evaluate_test(static_cast<const TestExpression&>(expression));
    default:
      fail("a slice outside of an index");
  }
}

Value Interpreter::evaluate_name(const NameExpression& expression) {
  if (const Value* value = find_variable(expression.symbol)) return *value;
  return make_undefined(heap_, fmt::format("'{}' is undefined", syntax_.symbols[expression.symbol]));
}

std::vector<Value> Interpreter::evaluate_items(const std::vector<ExpressionPtr>& items) {
  std::vector<Value> values;
  values.reserve(items.size());
  for (const ExpressionPtr& item : items) values.push_back(evaluate(*item));
  return values;
}

Value Interpreter::evaluate_dict(const DictExpression& expression) {
  std::vector<Dict::Entry> entries;
  entries.reserve(expression.entries.size());
  for (const auto& [key, value] : expression.entries) {
    Value name = evaluate(*key);
    entries.emplace_back(std::move(name), evaluate(*value));
  }
  return make_dict(heap_, std::move(entries));
}

Value Interpreter::evaluate_concat(const ItemsExpression& expression) {
  std::string out;
  for (const Value& item : evaluate_items(expression.items)) append_str(heap_, out, item);
  return make_text(heap_, std::move(out));
}

bool Interpreter::compare(Comparison comparison, const Value& left, const Value& right) {
  switch (comparison) {
    case Comparison::kEqual:
      return equal(heap_, left, right);
    case Comparison::kNotEqual:
      return !equal(heap_, left, right);
    case Comparison::kLess:
      return ordered(heap_, Order::kLess, left, right);
    case Comparison::kLessEqual:
      return ordered(heap_, Order::kLessEqual, left, right);
    case Comparison::kGreater:
      return ordered(heap_, Order::kGreater, left, right);
    case Comparison::kGreaterEqual:
      return ordered(heap_, Order::kGreaterEqual, left, right);
    case Comparison::kIn:
      return contains(heap_, left, right);
    case Comparison::kNotIn:
      return !contains(heap_, left, right);
  }
  return false;
}

/// a < b < c is a < b and b < c, with b evaluated once.
Value Interpreter::evaluate_compare(const CompareExpression& expression) {
  Value left = evaluate(*expression.first);
  for (const auto& [comparison, operand] : expression.others) {
    Value right = evaluate(*operand);
    line_ = expression.line;
    if (!compare(comparison, left, right)) return Value::boolean(false);
    left = std::move(right);
  }
  return Value::boolean(true);
}

Value Interpreter::evaluate_conditional(const ConditionalExpression& expression) {
  if (evaluate(*expression.test).truthy()) return evaluate(*expression.then);
  if (expression.otherwise) return evaluate(*expression.otherwise);
  return make_undefined(heap_,
                        fmt::format("the inline if-expression on line {} evaluated to false and no else "
                                    "section was defined.",
                                    expression.line));
}

Value Interpreter::evaluate_item(const ItemExpression& expression) {
  const Value object = evaluate(*expression.object);
  if (expression.index->type != Type::kSlice) {
    const Value key = evaluate(*expression.index);
    line_ = expression.line;
    return get_item(heap_, object, key);
  }
  const auto& slice = static_cast<const SliceExpression&>(*expression.index);
  const auto bound = [&](const ExpressionPtr& part) { return part ? evaluate(*part) : Value::none(); };
  const Value start = bound(slice.start);
  const Value stop = bound(slice.stop);
  const Value step = bound(slice.step);
  line_ = expression.line;
  return get_slice(heap_, object, start, stop, step);
}

Value Interpreter::evaluate_call(const CallExpression& expression) {
  const Value callee = evaluate(*expression.callee);
  const CallArguments arguments = evaluate_arguments(expression.arguments);
  line_ = expression.line;
  return call(callee, arguments);
}

Value Interpreter::evaluate_filter(const FilterExpression& expression) {
  const Value operand = evaluate(*expression.operand);
  const CallArguments arguments = evaluate_arguments(expression.arguments);
  line_ = expression.line;
  if (expression.filter == nullptr) fail("no filter named '{}'", expression.name);
  return expression.filter->body(*this, operand, arguments);
}

Value Interpreter::evaluate_test(const TestExpression& expression) {
  const Value operand = evaluate(*expression.operand);
  const CallArguments arguments = evaluate_arguments(expression.arguments);
  line_ = expression.line;
  if (expression.test == nullptr) fail("no test named '{}'", expression.name);
  return Value::boolean(expression.test->body(*this, operand, arguments));
}

}  // namespace peregrine::text::jinja
