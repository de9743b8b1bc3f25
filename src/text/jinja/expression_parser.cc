// SPDX-License-Identifier: Apache-2.0
// The expressions of the language, from the loosest binding to the tightest: if else, or, and, not,
// comparisons,
// + -, ~, * / // %, **, signs, then calls, items, attributes, filters and tests behind a value.

#include <algorithm>
#include <array>

#include "text/jinja/filters.h"
#include "text/jinja/parser.h"
#include "text/jinja/tests.h"

namespace peregrine::text::jinja {

using Type = Expression::Type;

void Parser::measure(Expression& node, const ExpressionPtr& child) const {
  if (!child) return;
  node.depth = std::max(node.depth, child->depth + 1);
  if (node.depth > kMaxDepth)
    fail(current(), fmt::format("an expression of more than {} operators inside each other", kMaxDepth));
}

void Parser::measure(Expression& node, const ArgumentSyntax& arguments) const {
  for (const ExpressionPtr& value : arguments.positional) measure(node, value);
  for (const auto& [name, value] : arguments.named) measure(node, value);
  measure(node, arguments.all_positional);
  measure(node, arguments.all_named);
}

ExpressionPtr Parser::binary(Type type, ExpressionPtr left, ExpressionPtr right) {
  auto node = std::make_unique<BinaryExpression>(type, std::move(left), std::move(right), current().line);
  measure(*node, node->left);
  measure(*node, node->right);
  return node;
}

ExpressionPtr Parser::arithmetic(Arithmetic operation, ExpressionPtr left, ExpressionPtr right) {
  ExpressionPtr node = binary(Type::kArithmetic, std::move(left), std::move(right));
  static_cast<BinaryExpression&>(*node).operation = operation;
  return node;
}

bool Parser::at_tuple_end() const {
  return current().type == TokenType::kVariableEnd || current().type == TokenType::kBlockEnd ||
         current().is_operator(")") || current().is_name("recursive");
}

/// An expression, or a tuple where commas follow.
ExpressionPtr Parser::parse_tuple(bool with_conditional, bool parentheses) {
  auto tuple = std::make_unique<ItemsExpression>(Type::kTuple, current().line);
  bool is_tuple = false;
  for (;;) {
    if (!tuple->items.empty()) expect_operator(",");
    if (at_tuple_end()) break;
    tuple->items.push_back(parse_expression(with_conditional));
    measure(*tuple, tuple->items.back());
    if (!current().is_operator(",")) break;
    is_tuple = true;
  }
  if (!is_tuple) {
    if (!tuple->items.empty()) return std::move(tuple->items.front());
    if (!parentheses) fail_expected("an expression");
  }
  return tuple;
}

ExpressionPtr Parser::parse_expression(bool with_conditional) {
  const Nesting nesting(*this);
  ExpressionPtr node = parse_or();
  while (with_conditional && current().is_name("if")) {
    auto conditional = std::make_unique<ConditionalExpression>(take().line);
    ++conditions_;
    conditional->then = std::move(node);
    conditional->test = parse_or();
    if (take_name("else")) conditional->otherwise = parse_expression();
    --conditions_;
    measure(*conditional, conditional->then);
    measure(*conditional, conditional->test);
    measure(*conditional, conditional->otherwise);
    node = std::move(conditional);
  }
  return node;
}

ExpressionPtr Parser::parse_or() {
  ExpressionPtr left = parse_and();
  while (take_name("or")) left = binary(Type::kOr, std::move(left), parse_and());
  return left;
}

ExpressionPtr Parser::parse_and() {
  ExpressionPtr left = parse_not();
  while (take_name("and")) left = binary(Type::kAnd, std::move(left), parse_not());
  return left;
}

ExpressionPtr Parser::parse_not() {
  if (!current().is_name("not")) return parse_compare();
  const Nesting nesting(*this);
  const std::size_t line = take().line;
  auto node = std::make_unique<UnaryExpression>(Type::kNot, parse_not(), line);
  measure(*node, node->operand);
  return node;
}

bool Parser::take_comparison(Comparison& comparison) {
  static constexpr std::array<std::pair<std::string_view, Comparison>, 6> kSymbols = {{
      {"==", Comparison::kEqual},
      {"!=", Comparison::kNotEqual},
      {"<", Comparison::kLess},
      {"<=", Comparison::kLessEqual},
      {">", Comparison::kGreater},
      {">=", Comparison::kGreaterEqual},
  }};
  for (const auto& [symbol, meaning] : kSymbols) {
    if (take_operator(symbol)) {
      comparison = meaning;
      return true;
    }
  }
  if (take_name("in")) {
    comparison = Comparison::kIn;
    return true;
  }
  if (current().is_name("not") && look_ahead().is_name("in")) {
    take();
    take();
    comparison = Comparison::kNotIn;
    return true;
  }
  return false;
}

ExpressionPtr Parser::parse_compare() {
  ExpressionPtr first = parse_sum();
  Comparison comparison{};
  if (!take_comparison(comparison)) return first;
  auto node = std::make_unique<CompareExpression>(std::move(first), current().line);
  measure(*node, node->first);
  do {
    node->others.emplace_back(comparison, parse_sum());
    measure(*node, node->others.back().second);
  } while (take_comparison(comparison));
  return node;
}

ExpressionPtr Parser::parse_sum() {
  ExpressionPtr left = parse_concat();
  for (;;) {
    if (take_operator("+")) {
      left = arithmetic(Arithmetic::kAdd, std::move(left), parse_concat());
    } else if (take_operator("-")) {
      left = arithmetic(Arithmetic::kSubtract, std::move(left), parse_concat());
    } else {
      return left;
    }
  }
}

ExpressionPtr Parser::parse_concat() {
  ExpressionPtr first = parse_product();
  if (!current().is_operator("~")) return first;
  auto node = std::make_unique<ItemsExpression>(Type::kConcat, current().line);
  node->items.push_back(std::move(first));
  while (take_operator("~")) node->items.push_back(parse_product());
  for (const ExpressionPtr& item : node->items) measure(*node, item);
  return node;
}

ExpressionPtr Parser::parse_product() {
  static constexpr std::array<std::pair<std::string_view, Arithmetic>, 4> kSymbols = {{
      {"*", Arithmetic::kMultiply},
      {"/", Arithmetic::kDivide},
      {"//", Arithmetic::kFloorDivide},
      {"%", Arithmetic::kModulo},
  }};
  ExpressionPtr left = parse_power();
  for (bool found = true; found;) {
    found = false;
    for (const auto& [symbol, operation] : kSymbols) {
      if (!take_operator(symbol)) continue;
      left = arithmetic(operation, std::move(left), parse_power());
      found = true;
    }
  }
  return left;
}

/// Binds to the left, other than Python's.
ExpressionPtr Parser::parse_power() {
  ExpressionPtr left = parse_unary(true);
  while (take_operator("**")) left = arithmetic(Arithmetic::kPower, std::move(left), parse_unary(true));
  return left;
}

ExpressionPtr Parser::parse_unary(bool with_filter) {
  ExpressionPtr node;
  if (current().is_operator("-") || current().is_operator("+")) {
    const Nesting nesting(*this);
    const Token sign = take();
    auto unary = std::make_unique<UnaryExpression>(sign.text == "-" ? Type::kNegate : Type::kPositive,
                                                   parse_unary(false), sign.line);
    measure(*unary, unary->operand);
    node = std::move(unary);
  } else {
    node = parse_primary();
  }
  node = parse_postfix(std::move(node));
  return with_filter ? parse_filters_and_tests(std::move(node)) : std::move(node);
}

ExpressionPtr Parser::parse_primary() {
  const std::size_t line = current().line;
  const auto constant = [&](Value value) {
    return std::make_unique<ConstantExpression>(std::move(value), line);
  };
  switch (current().type) {
    case TokenType::kName: {
      const std::string name = take().text;
      if (name == "true" || name == "True") return constant(Value::boolean(true));
      if (name == "false" || name == "False") return constant(Value::boolean(false));
      if (name == "none" || name == "None") return constant(Value::none());
      const Symbol id = symbol(name);
      ++symbol_uses_[id];
      return std::make_unique<NameExpression>(id, line);
    }
    case TokenType::kString: {
      std::string text = take().text;
      while (current().type == TokenType::kString) text += take().text;
      return constant(make_constant(std::move(text)));
    }
    case TokenType::kInteger:
      return constant(Value::integer(take().integer));
    case TokenType::kFloat:
      return constant(Value::real(take().real));
    default:
      break;
  }
  if (take_operator("(")) {
    const Nesting nesting(*this);
    ExpressionPtr node = parse_tuple(true, true);
    expect_operator(")");
    return node;
  }
  if (current().is_operator("[")) return parse_list();
  if (current().is_operator("{")) return parse_dict();
  fail_expected("an expression");
}

ExpressionPtr Parser::parse_list() {
  auto list = std::make_unique<ItemsExpression>(Type::kList, take().line);
  while (!current().is_operator("]")) {
    if (!list->items.empty()) expect_operator(",");
    if (current().is_operator("]")) break;
    list->items.push_back(parse_expression());
    measure(*list, list->items.back());
  }
  expect_operator("]");
  return list;
}

ExpressionPtr Parser::parse_dict() {
  auto dict = std::make_unique<DictExpression>(take().line);
  while (!current().is_operator("}")) {
    if (!dict->entries.empty()) expect_operator(",");
    if (current().is_operator("}")) break;
    ExpressionPtr key = parse_expression();
    expect_operator(":");
    dict->entries.emplace_back(std::move(key), parse_expression());
    measure(*dict, dict->entries.back().first);
    measure(*dict, dict->entries.back().second);
  }
  expect_operator("}");
  return dict;
}

ExpressionPtr Parser::parse_postfix(ExpressionPtr node) {
  for (;;) {
    if (current().is_operator(".") || current().is_operator("[")) {
      node = parse_subscript(std::move(node));
    } else if (current().is_operator("(")) {
      node = parse_call(std::move(node));
    } else {
      return node;
    }
  }
}

ExpressionPtr Parser::parse_subscript(ExpressionPtr node) {
  const Token token = take();
  ExpressionPtr index;
  if (token.text == ".") {
    if (current().type == TokenType::kName) {
      auto attribute = std::make_unique<AttributeExpression>(std::move(node), take().text, token.line);
      measure(*attribute, attribute->object);
      return attribute;
    }
    if (current().type != TokenType::kInteger) fail_expected("a name or number behind '.'");
    index = std::make_unique<ConstantExpression>(Value::integer(take().integer), token.line);
  } else {
    auto several = std::make_unique<ItemsExpression>(Type::kTuple, token.line);
    while (!current().is_operator("]")) {
      if (!several->items.empty()) expect_operator(",");
      several->items.push_back(parse_slice_part());
      measure(*several, several->items.back());
    }
    expect_operator("]");
    if (several->items.size() == 1) {
      index = std::move(several->items.front());
    } else {
      for (const ExpressionPtr& part : several->items) {
        if (part->type == Type::kSlice)
          fail(token, "a slice in a tuple is not supported", core::ErrorKind::kUnsupported);
      }
      index = std::move(several);
    }
  }
  auto item = std::make_unique<ItemExpression>(std::move(node), std::move(index), token.line);
  measure(*item, item->object);
  measure(*item, item->index);
  return item;
}

/// An index, or a slice "start:stop:step" any part of which may be missing.
ExpressionPtr Parser::parse_slice_part() {
  const auto at_end = [&] {
    return current().is_operator(":") || current().is_operator("]") || current().is_operator(",");
  };
  auto slice = std::make_unique<SliceExpression>(current().line);
  if (!current().is_operator(":")) {
    slice->start = parse_expression();
    if (!current().is_operator(":")) return std::move(slice->start);
  }
  expect_operator(":");
  if (!at_end()) slice->stop = parse_expression();
  if (take_operator(":") && !at_end()) slice->step = parse_expression();
  measure(*slice, slice->start);
  measure(*slice, slice->stop);
  measure(*slice, slice->step);
  return slice;
}

ExpressionPtr Parser::parse_filters_and_tests(ExpressionPtr node) {
  for (;;) {
    if (current().is_operator("|")) {
      take();
      node = parse_filter(std::move(node));
    } else if (current().is_name("is")) {
      node = parse_test(std::move(node));
    } else if (current().is_operator("(")) {
      node = parse_call(std::move(node));
    } else {
      return node;
    }
  }
}

std::string Parser::parse_dotted_name() {
  std::string name = take_identifier();
  while (take_operator(".")) name += "." + take_identifier();
  return name;
}

ExpressionPtr Parser::parse_filter(ExpressionPtr node) {
  const Token at = current();
  auto filter = std::make_unique<FilterExpression>(std::move(node), parse_dotted_name(), at.line);
  filter->filter = find_filter(filter->name);
  if (filter->filter == nullptr && conditions_ == 0)
    fail(at, fmt::format("no filter named '{}'", filter->name));
  if (filter->filter != nullptr && filter->filter->body == nullptr)
    fail(at, fmt::format("the filter '{}' is not supported", filter->name), core::ErrorKind::kUnsupported);
  if (current().is_operator("(")) filter->arguments = parse_arguments();
  measure(*filter, filter->operand);
  measure(*filter, filter->arguments);
  return filter;
}

/// The filters of a filter or set block, over its text.
ExpressionPtr Parser::parse_filter_chain(bool starts_with_pipe) {
  ExpressionPtr node = std::make_unique<Expression>(Type::kBlockText, current().line);
  if (!starts_with_pipe) node = parse_filter(std::move(node));
  while (take_operator("|")) node = parse_filter(std::move(node));
  return node;
}

ExpressionPtr Parser::parse_test(ExpressionPtr node) {
  const std::size_t line = take().line;
  const bool negated = take_name("not");
  const Token at = current();
  auto test = std::make_unique<TestExpression>(std::move(node), parse_dotted_name(), line);
  test->test = find_test(test->name);
  if (test->test == nullptr && conditions_ == 0) fail(at, fmt::format("no test named '{}'", test->name));
  const Token& next = current();
  const bool value_follows =
      next.type == TokenType::kString || next.type == TokenType::kInteger || next.type == TokenType::kFloat ||
      next.is_operator("[") || next.is_operator("{") ||
      (next.type == TokenType::kName && !next.is_name("else") && !next.is_name("or") && !next.is_name("and"));
  if (next.is_operator("(")) {
    test->arguments = parse_arguments();
  } else if (next.is_name("is")) {
    fail(next, "tests cannot be chained with 'is'");
  } else if (value_follows && !next.is_name("if")) {
    test->arguments.positional.push_back(parse_postfix(parse_primary()));
  }
  measure(*test, test->operand);
  measure(*test, test->arguments);
  if (!negated) return test;
  auto node_not = std::make_unique<UnaryExpression>(Type::kNot, std::move(test), line);
  measure(*node_not, node_not->operand);
  return node_not;
}

ExpressionPtr Parser::parse_call(ExpressionPtr node) {
  auto call = std::make_unique<CallExpression>(std::move(node), current().line);
  call->arguments = parse_arguments();
  measure(*call, call->callee);
  measure(*call, call->arguments);
  return call;
}

ArgumentSyntax Parser::parse_arguments() {
  const Token opening = current();
  expect_operator("(");
  ArgumentSyntax arguments;
  const auto require = [&](bool condition) {
    if (!condition) fail(opening, "the arguments are in a wrong order");
  };
  for (bool first = true; !current().is_operator(")"); first = false) {
    if (!first) {
      expect_operator(",");
      if (current().is_operator(")")) break;
    }
    if (take_operator("*")) {
      require(!arguments.all_positional && !arguments.all_named);
      arguments.all_positional = parse_expression();
    } else if (take_operator("**")) {
      require(!arguments.all_named);
      arguments.all_named = parse_expression();
    } else if (current().type == TokenType::kName && look_ahead().is_operator("=")) {
      require(!arguments.all_named);
      std::string name = take().text;
      take();
      arguments.named.emplace_back(std::move(name), parse_expression());
    } else {
      require(!arguments.all_positional && !arguments.all_named && arguments.named.empty());
      arguments.positional.push_back(parse_expression());
    }
  }
  expect_operator(")");
  return arguments;
}

}  // namespace peregrine::text::jinja
