// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja/operators.h"
#include "text/jinja/value.h"

// The syntax tree of a template. Immutable once parsed; its depth is bounded by the parser.

namespace peregrine::text::jinja {

struct Filter;
struct Test;

/// A variable's name, as a number that is the same for the same name within one template.
using Symbol = std::uint32_t;

struct Expression {
  enum class Type {
    kConstant,
    kName,
    kTuple,
    kList,
    kDict,
    kNot,
    kNegate,
    kPositive,
    kArithmetic,
    kAnd,
    kOr,
    kConcat,
    kCompare,
    kConditional,
    kAttribute,
    kItem,
    kSlice,
    kCall,
    kFilter,
    kTest,
    kBlockText,  ///< What the body of a filter or set block gave.
  };

  Expression(Type type_, std::size_t line_) : type(type_), line(static_cast<std::uint32_t>(line_)) {}
  virtual ~Expression() = default;
  Type type;
  std::uint32_t line;
  std::uint32_t depth = 1;  ///< Of the tree below, itself included.
};
using ExpressionPtr = std::unique_ptr<Expression>;

struct ConstantExpression : Expression {
  ConstantExpression(Value value_, std::size_t line)
      : Expression(Type::kConstant, line), value(std::move(value_)) {}
  Value value;
};

struct NameExpression : Expression {
  NameExpression(Symbol symbol_, std::size_t line) : Expression(Type::kName, line), symbol(symbol_) {}
  Symbol symbol;
};

/// Tuple, list, or the operands of '~'.
struct ItemsExpression : Expression {
  using Expression::Expression;
  std::vector<ExpressionPtr> items;
};

struct DictExpression : Expression {
  explicit DictExpression(std::size_t line) : Expression(Type::kDict, line) {}
  std::vector<std::pair<ExpressionPtr, ExpressionPtr>> entries;
};

struct UnaryExpression : Expression {
  UnaryExpression(Type type, ExpressionPtr operand_, std::size_t line)
      : Expression(type, line), operand(std::move(operand_)) {}
  ExpressionPtr operand;
};

/// And, or, and arithmetic.
struct BinaryExpression : Expression {
  BinaryExpression(Type type, ExpressionPtr left_, ExpressionPtr right_, std::size_t line)
      : Expression(type, line), left(std::move(left_)), right(std::move(right_)) {}
  ExpressionPtr left;
  ExpressionPtr right;
  Arithmetic operation = Arithmetic::kAdd;
};

enum class Comparison { kEqual, kNotEqual, kLess, kLessEqual, kGreater, kGreaterEqual, kIn, kNotIn };

struct CompareExpression : Expression {
  CompareExpression(ExpressionPtr first_, std::size_t line)
      : Expression(Type::kCompare, line), first(std::move(first_)) {}
  ExpressionPtr first;
  std::vector<std::pair<Comparison, ExpressionPtr>> others;
};

struct ConditionalExpression : Expression {
  explicit ConditionalExpression(std::size_t line) : Expression(Type::kConditional, line) {}
  ExpressionPtr test;
  ExpressionPtr then;
  ExpressionPtr otherwise;  ///< May be null.
};

struct AttributeExpression : Expression {
  AttributeExpression(ExpressionPtr object_, std::string name_, std::size_t line)
      : Expression(Type::kAttribute, line), object(std::move(object_)), name(std::move(name_)) {}
  ExpressionPtr object;
  std::string name;
};

struct ItemExpression : Expression {
  ItemExpression(ExpressionPtr object_, ExpressionPtr index_, std::size_t line)
      : Expression(Type::kItem, line), object(std::move(object_)), index(std::move(index_)) {}
  ExpressionPtr object;
  ExpressionPtr index;
};

struct SliceExpression : Expression {
  explicit SliceExpression(std::size_t line) : Expression(Type::kSlice, line) {}
  ExpressionPtr start, stop, step;  ///< Each may be null.
};

struct ArgumentSyntax {
  std::vector<ExpressionPtr> positional;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
  ExpressionPtr all_positional;  ///< *x, or null.
  ExpressionPtr all_named;       ///< **x, or null.
};

struct CallExpression : Expression {
  CallExpression(ExpressionPtr callee_, std::size_t line)
      : Expression(Type::kCall, line), callee(std::move(callee_)) {}
  ExpressionPtr callee;
  ArgumentSyntax arguments;
};

struct FilterExpression : Expression {
  FilterExpression(ExpressionPtr operand_, std::string name_, std::size_t line)
      : Expression(Type::kFilter, line), operand(std::move(operand_)), name(std::move(name_)) {}
  ExpressionPtr operand;
  std::string name;
  const Filter* filter = nullptr;  ///< Null for an unknown one, which is an error only where it is reached.
  ArgumentSyntax arguments;
};

struct TestExpression : Expression {
  TestExpression(ExpressionPtr operand_, std::string name_, std::size_t line)
      : Expression(Type::kTest, line), operand(std::move(operand_)), name(std::move(name_)) {}
  ExpressionPtr operand;
  std::string name;
  const Test* test = nullptr;  ///< Null for an unknown one, which is an error only where it is reached.
  ArgumentSyntax arguments;
};

struct Statement {
  enum class Type {
    kText,
    kPrint,
    kIf,
    kFor,
    kSet,
    kSetBlock,
    kMacro,
    kCallBlock,
    kFilterBlock,
    kWith,
    kScope,
    kBreak,
    kContinue,
  };

  Statement(Type type_, std::size_t line_) : type(type_), line(static_cast<std::uint32_t>(line_)) {}
  virtual ~Statement() = default;
  Type type;
  std::uint32_t line;
};
using Block = std::vector<std::unique_ptr<Statement>>;

/// What is assigned to: a name, an attribute of a namespace, or a tuple of such.
struct Target {
  enum class Type { kName, kAttribute, kTuple };
  Type type = Type::kName;
  Symbol symbol = 0;
  std::string attribute;
  std::vector<Target> targets;
};

struct TextStatement : Statement {
  TextStatement(std::string text_, std::size_t line) : Statement(Type::kText, line), text(std::move(text_)) {}
  std::string text;
};

struct PrintStatement : Statement {
  PrintStatement(ExpressionPtr expression_, std::size_t line)
      : Statement(Type::kPrint, line), expression(std::move(expression_)) {}
  ExpressionPtr expression;
};

struct IfStatement : Statement {
  explicit IfStatement(std::size_t line) : Statement(Type::kIf, line) {}
  std::vector<std::pair<ExpressionPtr, Block>> branches;
  Block otherwise;
};

struct ForStatement : Statement {
  explicit ForStatement(std::size_t line) : Statement(Type::kFor, line) {}
  Target target;
  ExpressionPtr iterable;
  ExpressionPtr filter;  ///< May be null.
  Block body;
  Block otherwise;
  bool recursive = false;
  bool uses_loop = false;  ///< The body names `loop`.
};

struct SetStatement : Statement {
  explicit SetStatement(std::size_t line) : Statement(Type::kSet, line) {}
  Target target;
  ExpressionPtr value;
};

struct SetBlockStatement : Statement {
  explicit SetBlockStatement(std::size_t line) : Statement(Type::kSetBlock, line) {}
  Target target;
  ExpressionPtr filter;  ///< Over kBlockText; null for none.
  Block body;
};

/// What a macro and the body of a call block have in common.
struct MacroSyntax {
  struct Parameter {
    Symbol symbol;
    std::string name;
    ExpressionPtr standard;  ///< The value where none is given; may be null.
  };
  std::string name;
  std::vector<Parameter> parameters;
  Block body;
  bool uses_varargs = false;
  bool uses_kwargs = false;
  bool uses_caller = false;
};

struct MacroStatement : Statement {
  explicit MacroStatement(std::size_t line) : Statement(Type::kMacro, line) {}
  Symbol symbol = 0;
  MacroSyntax macro;
};

struct CallBlockStatement : Statement {
  explicit CallBlockStatement(std::size_t line) : Statement(Type::kCallBlock, line) {}
  std::unique_ptr<CallExpression> call;
  MacroSyntax caller;
};

struct FilterBlockStatement : Statement {
  explicit FilterBlockStatement(std::size_t line) : Statement(Type::kFilterBlock, line) {}
  ExpressionPtr filter;  ///< Over kBlockText.
  Block body;
};

struct WithStatement : Statement {
  explicit WithStatement(std::size_t line) : Statement(Type::kWith, line) {}
  std::vector<std::pair<Target, ExpressionPtr>> assignments;
  Block body;
};

/// A body with names of its own: the generation block.
struct ScopeStatement : Statement {
  explicit ScopeStatement(std::size_t line) : Statement(Type::kScope, line) {}
  Block body;
};

/// Names that the interpreter itself looks for, always the first symbols.
enum KnownSymbol : Symbol { kLoopSymbol, kCallerSymbol, kVarargsSymbol, kKwargsSymbol, kKnownSymbols };

/// A parsed template.
struct Syntax {
  std::string where;  ///< Names the template in messages.
  std::vector<std::string> symbols;
  Block body;
};

}  // namespace peregrine::text::jinja
