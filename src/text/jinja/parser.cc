// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/parser.h"

#include <algorithm>
#include <array>

namespace peregrine::text::jinja {
namespace {

bool assigns(const Target& target, Symbol symbol) {
  if (target.type == Target::Type::kName) return target.symbol == symbol;
  return std::any_of(target.targets.begin(), target.targets.end(),
                     [&](const Target& inner) { return assigns(inner, symbol); });
}

}  // namespace

Parser::Parser(std::string_view source, std::string where) : lexer_(source, where), where_(std::move(where)) {
  for (const char* known : {"loop", "caller", "varargs", "kwargs"}) symbol(known);
  current_ = lexer_.next();
}

Syntax Parser::parse() {
  Syntax syntax;
  while (current().type != TokenType::kEnd) parse_into(syntax.body);
  syntax.where = where_;
  syntax.symbols = symbol_names_;
  return syntax;
}

const Token& Parser::look_ahead() {
  if (ahead_.empty()) ahead_.push_back(lexer_.next());
  return ahead_.back();
}

Token Parser::take() {
  Token taken = std::move(current_);
  if (ahead_.empty()) {
    current_ = lexer_.next();
  } else {
    current_ = std::move(ahead_.back());
    ahead_.pop_back();
  }
  return taken;
}

bool Parser::take_name(std::string_view name) {
  if (!current().is_name(name)) return false;
  take();
  return true;
}

bool Parser::take_operator(std::string_view symbol) {
  if (!current().is_operator(symbol)) return false;
  take();
  return true;
}

void Parser::expect_name(std::string_view name) {
  if (!take_name(name)) fail_expected(fmt::format("'{}'", name));
}

void Parser::expect_operator(std::string_view symbol) {
  if (!take_operator(symbol)) fail_expected(fmt::format("'{}'", symbol));
}

void Parser::expect(TokenType type, std::string_view what) {
  if (current().type != type) fail_expected(what);
  take();
}

std::string Parser::take_identifier() {
  if (current().type != TokenType::kName) fail_expected("a name");
  return take().text;
}

void Parser::fail(const Token& token, std::string_view problem, core::ErrorKind kind) const {
  lexer_.fail_at(token, problem, kind);
}

void Parser::fail_expected(std::string_view what) const {
  fail(current(), fmt::format("expected {}, found {}", what, describe(current())));
}

void Parser::fail_nesting() const {
  fail(current(), fmt::format("brackets and blocks are nested more than {} deep", kMaxNesting));
}

Symbol Parser::symbol(const std::string& name) {
  const auto [at, is_new] = symbols_.try_emplace(name, static_cast<Symbol>(symbol_names_.size()));
  if (is_new) {
    symbol_names_.push_back(name);
    symbol_uses_.push_back(0);
  }
  return at->second;
}

/// One piece of a body: text, a printed expression, or a statement.
void Parser::parse_into(Block& block) {
  const std::size_t line = current().line;
  if (current().type == TokenType::kData) {
    block.push_back(std::make_unique<TextStatement>(take().text, line));
    return;
  }
  if (current().type == TokenType::kVariableBegin) {
    take();
    block.push_back(std::make_unique<PrintStatement>(parse_tuple(true), line));
    expect(TokenType::kVariableEnd, "'}}'");
    return;
  }
  expect(TokenType::kBlockBegin, "a tag or text");
  if (current().is_name("print")) {
    parse_print(block);
  } else {
    block.push_back(parse_statement());
  }
  expect(TokenType::kBlockEnd, "'%}'");
}

/// Pieces up to a block that begins with one of `ends`, whose name is then current.
Block Parser::parse_until(Ends ends) {
  const Nesting nesting(*this);
  Block block;
  for (;;) {
    if (current().type == TokenType::kEnd) {
      std::string expected;
      for (const std::string_view end : ends)
        expected += fmt::format("{}'{}'", expected.empty() ? "" : " or ", end);
      fail_expected(expected);
    }
    if (current().type == TokenType::kBlockBegin && look_ahead().type == TokenType::kName &&
        std::find(ends.begin(), ends.end(), look_ahead().text) != ends.end()) {
      take();
      return block;
    }
    parse_into(block);
  }
}

/// The rest of an opening block, then its body.
Block Parser::parse_body(Ends ends) {
  take_operator(":");
  expect(TokenType::kBlockEnd, "'%}'");
  return parse_until(ends);
}

std::unique_ptr<Statement> Parser::parse_statement() {
  using Parse = std::unique_ptr<Statement> (Parser::*)();
  static constexpr std::array<std::pair<std::string_view, Parse>, 10> kStatements = {{
      {"if", &Parser::parse_if},
      {"for", &Parser::parse_for},
      {"set", &Parser::parse_set},
      {"macro", &Parser::parse_macro},
      {"call", &Parser::parse_call_block},
      {"filter", &Parser::parse_filter_block},
      {"with", &Parser::parse_with},
      {"generation", &Parser::parse_generation},
      {"break", &Parser::parse_jump},
      {"continue", &Parser::parse_jump},
  }};
  if (current().type != TokenType::kName) fail_expected("the name of a tag");
  for (const auto& [name, parse] : kStatements) {
    if (current().text == name) return (this->*parse)();
  }
  fail_unknown_tag(current());
}

void Parser::fail_unknown_tag(const Token& tag) {
  for (const char* known : {"extends", "block", "include", "import", "from", "autoescape"}) {
    if (tag.text == known)
      fail(tag, fmt::format("the tag '{}' is not supported in chat templates", tag.text),
           core::ErrorKind::kUnsupported);
  }
  fail(tag, fmt::format("unknown tag {}", core::quoted(tag.text, 40)));
}

std::unique_ptr<Statement> Parser::parse_if() {
  auto node = std::make_unique<IfStatement>(take().line);
  ++conditions_;
  for (;;) {
    ExpressionPtr test = parse_tuple(false);
    Block body = parse_body({"elif", "else", "endif"});
    node->branches.emplace_back(std::move(test), std::move(body));
    if (take_name("elif")) continue;
    if (take_name("else")) {
      node->otherwise = parse_body({"endif"});
    }
    expect_name("endif");
    --conditions_;
    return node;
  }
}

std::unique_ptr<Statement> Parser::parse_for() {
  auto node = std::make_unique<ForStatement>(take().line);
  const Token at = current();
  node->target = parse_target(false);
  if (assigns(node->target, kLoopSymbol)) fail(at, "'loop' cannot be the target of a loop");
  expect_name("in");
  node->iterable = parse_tuple(false);
  if (take_name("if")) node->filter = parse_expression();
  node->recursive = take_name("recursive");
  const std::size_t uses = symbol_uses_[kLoopSymbol];
  ++loops_;
  node->body = parse_body({"endfor", "else"});
  --loops_;
  node->uses_loop = node->recursive || symbol_uses_[kLoopSymbol] > uses;
  if (take_name("else")) node->otherwise = parse_body({"endfor"});
  expect_name("endfor");
  return node;
}

std::unique_ptr<Statement> Parser::parse_set() {
  const std::size_t line = take().line;
  Target target = parse_target(true);
  if (take_operator("=")) {
    auto node = std::make_unique<SetStatement>(line);
    node->target = std::move(target);
    node->value = parse_tuple(true);
    return node;
  }
  auto node = std::make_unique<SetBlockStatement>(line);
  node->target = std::move(target);
  if (current().is_operator("|")) node->filter = parse_filter_chain(true);
  node->body = parse_body({"endset"});
  expect_name("endset");
  return node;
}

/// "(a, b=1)" of a macro.
void Parser::parse_signature(MacroSyntax& macro) {
  expect_operator("(");
  while (!current().is_operator(")")) {
    if (!macro.parameters.empty()) expect_operator(",");
    MacroSyntax::Parameter parameter;
    const Token name = current();
    parameter.name = take_identifier();
    parameter.symbol = symbol(parameter.name);
    for (const auto& other : macro.parameters) {
      if (other.symbol == parameter.symbol)
        fail(name, fmt::format("the parameter '{}' is there twice", parameter.name));
    }
    if (take_operator("=")) {
      parameter.standard = parse_expression();
    } else if (!macro.parameters.empty() && macro.parameters.back().standard) {
      fail(name, "a parameter without default follows one with a default");
    }
    macro.parameters.push_back(std::move(parameter));
  }
  expect_operator(")");
}

void Parser::parse_macro_body(MacroSyntax& macro, std::string_view end) {
  const std::vector<std::size_t> uses(symbol_uses_.begin(), symbol_uses_.begin() + kKnownSymbols);
  // A break inside would leave the macro.
  const unsigned loops = std::exchange(loops_, 0);
  macro.body = parse_body({end});
  loops_ = loops;
  const auto used = [&](KnownSymbol symbol) { return symbol_uses_[symbol] > uses[symbol]; };
  macro.uses_caller = used(kCallerSymbol);
  macro.uses_varargs = used(kVarargsSymbol);
  macro.uses_kwargs = used(kKwargsSymbol);
  expect_name(end);
}

std::unique_ptr<Statement> Parser::parse_macro() {
  auto node = std::make_unique<MacroStatement>(take().line);
  node->macro.name = take_identifier();
  node->symbol = symbol(node->macro.name);
  parse_signature(node->macro);
  parse_macro_body(node->macro, "endmacro");
  return node;
}

std::unique_ptr<Statement> Parser::parse_call_block() {
  auto node = std::make_unique<CallBlockStatement>(take().line);
  node->caller.name = "caller";
  if (current().is_operator("(")) parse_signature(node->caller);
  const Token at = current();
  ExpressionPtr call = parse_expression();
  if (call->type != Expression::Type::kCall) fail(at, "a call block needs a call");
  node->call.reset(static_cast<CallExpression*>(call.release()));
  parse_macro_body(node->caller, "endcall");
  return node;
}

std::unique_ptr<Statement> Parser::parse_filter_block() {
  auto node = std::make_unique<FilterBlockStatement>(take().line);
  node->filter = parse_filter_chain(false);
  node->body = parse_body({"endfilter"});
  expect_name("endfilter");
  return node;
}

std::unique_ptr<Statement> Parser::parse_with() {
  auto node = std::make_unique<WithStatement>(take().line);
  while (current().type != TokenType::kBlockEnd) {
    if (!node->assignments.empty()) expect_operator(",");
    Target target = parse_one_target(false);
    expect_operator("=");
    node->assignments.emplace_back(std::move(target), parse_expression());
  }
  node->body = parse_body({"endwith"});
  expect_name("endwith");
  return node;
}

/// What the assistant said, which training looks for; here just a body.
std::unique_ptr<Statement> Parser::parse_generation() {
  auto node = std::make_unique<ScopeStatement>(take().line);
  const unsigned loops = std::exchange(loops_, 0);
  node->body = parse_body({"endgeneration"});
  loops_ = loops;
  expect_name("endgeneration");
  return node;
}

std::unique_ptr<Statement> Parser::parse_jump() {
  const Token word = take();
  if (loops_ == 0) fail(word, fmt::format("'{}' outside of a loop", word.text));
  const auto type = word.text == "break" ? Statement::Type::kBreak : Statement::Type::kContinue;
  return std::make_unique<Statement>(type, word.line);
}

void Parser::parse_print(Block& block) {
  const std::size_t line = take().line;
  bool first = true;
  while (current().type != TokenType::kBlockEnd) {
    if (!first) expect_operator(",");
    first = false;
    block.push_back(std::make_unique<PrintStatement>(parse_expression(), line));
  }
}

/// One target, or several with commas between.
Target Parser::parse_target(bool with_attributes) {
  Target first = parse_one_target(with_attributes);
  if (!current().is_operator(",")) return first;
  Target tuple;
  tuple.type = Target::Type::kTuple;
  tuple.targets.push_back(std::move(first));
  while (take_operator(",")) {
    if (current().type == TokenType::kBlockEnd || current().is_operator("=") || current().is_operator(")") ||
        current().is_name("in")) {
      break;
    }
    tuple.targets.push_back(parse_one_target(with_attributes));
  }
  return tuple;
}

Target Parser::parse_one_target(bool with_attributes) {
  const Nesting nesting(*this);
  if (take_operator("(")) {
    Target inner = parse_target(with_attributes);
    expect_operator(")");
    return inner;
  }
  const Token token = current();
  Target target;
  const std::string name = take_identifier();
  for (const char* constant : {"true", "false", "none", "True", "False", "None"}) {
    if (name == constant) fail(token, fmt::format("'{}' cannot be assigned to", name));
  }
  target.symbol = symbol(name);
  if (with_attributes && take_operator(".")) {
    target.type = Target::Type::kAttribute;
    target.attribute = take_identifier();
  }
  return target;
}

}  // namespace peregrine::text::jinja
