// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/json/object.hpp>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/callables.h"
#include "text/jinja/loop.h"
#include "text/jinja/syntax.h"

namespace peregrine::text::jinja {

/// The variables of one block, and where those around it are.
struct Scope {
  explicit Scope(std::shared_ptr<Scope> parent_) : parent(std::move(parent_)) {}
  std::shared_ptr<Scope> parent;
  std::vector<std::pair<Symbol, Value>> variables;
};

/// One rendering. Throws Failure; where that happened, line() says.
class Interpreter {
 public:
  /// `now` is unix time in seconds.
  Interpreter(const Syntax& syntax, std::int64_t now);
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  std::string run(const boost::json::object& variables);

  // For functions, methods, filters and tests.

  Heap& heap() { return heap_; }
  std::int64_t now() const { return now_; }
  std::size_t line() const { return line_; }
  Value call(const Value& callee, const CallArguments& arguments);
  /// By name, as map, select and their like take them.
  Value apply_filter(std::string_view name, const Value& value, const CallArguments& arguments);
  bool apply_test(std::string_view name, const Value& value, const CallArguments& arguments);

 private:
  enum class Flow { kNext, kBreak, kContinue };

  /// Output that becomes a value, or the prompt.
  struct Capture {
    explicit Capture(Heap& heap) : reservation(heap) {}
    std::string text;
    Reservation reservation;
  };

  // Statements (interpreter.cc).
  Flow execute(const Block& block);
  Flow execute(const Statement& statement);
  Flow execute_if(const IfStatement& statement);
  Flow execute_for(const ForStatement& statement, const Value& iterable, unsigned depth);
  Flow execute_set_block(const SetBlockStatement& statement);
  Flow execute_filter_block(const FilterBlockStatement& statement);
  Flow execute_with(const WithStatement& statement);
  Flow execute_inside(const Block& block);
  void execute_call_block(const CallBlockStatement& statement);
  void define_globals(const boost::json::object& variables);
  Loop::Passes passes(const ForStatement& statement);
  /// Runs `block` in a scope of its own; its output, unless it is left by break or continue.
  std::optional<Value> capture(const Block& block, Flow& flow);
  void emit(std::string_view text);
  void print(const Value& value);
  void declare(Symbol symbol, Value value);
  void assign(const Target& target, const Value& value);
  void assign_tuple(const Target& target, const Value& value);
  const Value* find_variable(Symbol symbol);

  // Calls (calls.cc).
  Value call_macro(const Macro& macro, const CallArguments& arguments);
  void bind_arguments(const Macro& macro, const CallArguments& arguments);
  Value call_loop(Loop& loop, const CallArguments& arguments);
  CallArguments evaluate_arguments(const ArgumentSyntax& syntax);
  void add_all_positional(const ExpressionPtr& expression, CallArguments& arguments);
  void add_all_named(const ExpressionPtr& expression, CallArguments& arguments);

  // Expressions (evaluation.cc).
  Value evaluate(const Expression& expression);
  Value evaluate_name(const NameExpression& expression);
  std::vector<Value> evaluate_items(const std::vector<ExpressionPtr>& items);
  Value evaluate_dict(const DictExpression& expression);
  Value evaluate_concat(const ItemsExpression& expression);
  Value evaluate_compare(const CompareExpression& expression);
  Value evaluate_conditional(const ConditionalExpression& expression);
  Value evaluate_item(const ItemExpression& expression);
  Value evaluate_call(const CallExpression& expression);
  Value evaluate_filter(const FilterExpression& expression);
  Value evaluate_test(const TestExpression& expression);
  bool compare(Comparison comparison, const Value& left, const Value& right);

  Heap heap_;  ///< First: all values go before it.
  const Syntax& syntax_;
  const std::int64_t now_;
  std::size_t line_ = 1;
  std::shared_ptr<Scope> scope_;
  Capture* output_ = nullptr;
  Value block_text_;
};

/// A JSON value as Python's json.loads gives it.
Value from_json(Heap& heap, const boost::json::value& json);

}  // namespace peregrine::text::jinja
