// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/lexer.h"
#include "text/jinja/syntax.h"

namespace peregrine::text::jinja {

/// Reads a template. Throws core::Error with line and column: kInvalidArgument for what is no Jinja,
/// kUnsupported for what is not supported here.
class Parser {
 public:
  Parser(std::string_view source, std::string where);

  Syntax parse();

 private:
  /// Statements and brackets inside each other.
  static constexpr unsigned kMaxNesting = 200;
  /// Operators inside each other, a chain of them included.
  static constexpr unsigned kMaxDepth = 300;

  class Nesting {
   public:
    explicit Nesting(Parser& parser) : parser_(parser) {
      if (++parser_.nesting_ > kMaxNesting) parser_.fail_nesting();
    }
    ~Nesting() { --parser_.nesting_; }
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;

   private:
    Parser& parser_;
  };

  // Tokens.
  const Token& current() const { return current_; }
  const Token& look_ahead();
  Token take();
  bool take_name(std::string_view name);
  bool take_operator(std::string_view symbol);
  void expect_name(std::string_view name);
  void expect_operator(std::string_view symbol);
  void expect(TokenType type, std::string_view what);
  std::string take_identifier();
  [[noreturn]] void fail(const Token& token, std::string_view problem,
                         core::ErrorKind kind = core::ErrorKind::kInvalidArgument) const;
  [[noreturn]] void fail_expected(std::string_view what) const;
  [[noreturn]] void fail_nesting() const;
  Symbol symbol(const std::string& name);

  // Statements (parser.cc).
  using Ends = std::initializer_list<std::string_view>;
  Block parse_until(Ends ends);
  void parse_into(Block& block);
  std::unique_ptr<Statement> parse_statement();
  Block parse_body(Ends ends);
  std::unique_ptr<Statement> parse_if();
  std::unique_ptr<Statement> parse_for();
  std::unique_ptr<Statement> parse_set();
  std::unique_ptr<Statement> parse_macro();
  std::unique_ptr<Statement> parse_call_block();
  std::unique_ptr<Statement> parse_filter_block();
  std::unique_ptr<Statement> parse_with();
  std::unique_ptr<Statement> parse_generation();
  std::unique_ptr<Statement> parse_jump();
  void parse_print(Block& block);
  void parse_signature(MacroSyntax& macro);
  void parse_macro_body(MacroSyntax& macro, std::string_view end);
  Target parse_target(bool with_attributes);
  Target parse_one_target(bool with_attributes);
  [[noreturn]] void fail_unknown_tag(const Token& tag);

  // Expressions (expression_parser.cc).
  ExpressionPtr parse_tuple(bool with_conditional, bool parentheses = false);
  bool at_tuple_end() const;
  ExpressionPtr parse_expression(bool with_conditional = true);
  ExpressionPtr parse_or();
  ExpressionPtr parse_and();
  ExpressionPtr parse_not();
  ExpressionPtr parse_compare();
  bool take_comparison(Comparison& comparison);
  ExpressionPtr parse_sum();
  ExpressionPtr parse_concat();
  ExpressionPtr parse_product();
  ExpressionPtr parse_power();
  ExpressionPtr parse_unary(bool with_filter);
  ExpressionPtr parse_primary();
  ExpressionPtr parse_list();
  ExpressionPtr parse_dict();
  ExpressionPtr parse_postfix(ExpressionPtr node);
  ExpressionPtr parse_subscript(ExpressionPtr node);
  ExpressionPtr parse_slice_part();
  ExpressionPtr parse_filters_and_tests(ExpressionPtr node);
  ExpressionPtr parse_filter(ExpressionPtr node);
  ExpressionPtr parse_filter_chain(bool starts_with_pipe);
  ExpressionPtr parse_test(ExpressionPtr node);
  ExpressionPtr parse_call(ExpressionPtr node);
  ArgumentSyntax parse_arguments();
  std::string parse_dotted_name();
  ExpressionPtr binary(Expression::Type type, ExpressionPtr left, ExpressionPtr right);
  ExpressionPtr arithmetic(Arithmetic operation, ExpressionPtr left, ExpressionPtr right);
  /// Makes `child` count for the depth of `node`.
  void measure(Expression& node, const ExpressionPtr& child) const;
  void measure(Expression& node, const ArgumentSyntax& arguments) const;

  Lexer lexer_;
  std::string where_;
  Token current_;
  std::vector<Token> ahead_;  ///< At most one token, already read.
  unsigned nesting_ = 0;
  unsigned loops_ = 0;       ///< Loops around, within the macro at hand.
  unsigned conditions_ = 0;  ///< Conditions around: there an unknown filter may be left unreached.
  std::map<std::string, Symbol, std::less<>> symbols_;
  std::vector<std::string> symbol_names_;
  std::vector<std::size_t> symbol_uses_;  ///< How often each was named in an expression.
};

}  // namespace peregrine::text::jinja
