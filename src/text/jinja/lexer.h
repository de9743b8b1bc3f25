// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/heap.h"

namespace peregrine::text::jinja {

enum class TokenType {
  kData,  ///< Template text, with the white space that the tags around it take already gone.
  kBlockBegin,
  kBlockEnd,
  kVariableBegin,
  kVariableEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,
  kEnd,
};

struct Token {
  TokenType type = TokenType::kEnd;
  std::string text;  ///< Data, name, operator, or the unescaped string.
  Int integer = 0;
  double real = 0;
  std::size_t line = 1;
  std::size_t column = 1;

  bool is_name(std::string_view name) const { return type == TokenType::kName && text == name; }
  bool is_operator(std::string_view symbol) const { return type == TokenType::kOperator && text == symbol; }
};

/// A token as messages name it.
std::string describe(const Token& token);

/// Cuts a template into tokens, with trim_blocks and lstrip_blocks as transformers sets them: the newline
/// after a block is dropped, and so is the white space before a block that begins its line; '-' takes all
/// white space on its side, '+' keeps it. `where` names the template in messages.
class Lexer {
 public:
  Lexer(std::string_view source, std::string where);

  /// The next token; kEnd for ever at the end. Throws core::Error with line and column.
  Token next();

  [[noreturn]] void fail_at(const Token& token, std::string_view problem,
                            core::ErrorKind kind = core::ErrorKind::kInvalidArgument) const;

 private:
  enum class State { kText, kBlock, kVariable };

  Token make(TokenType type) const;
  [[noreturn]] void fail_here(std::string_view problem,
                              core::ErrorKind kind = core::ErrorKind::kInvalidArgument) const;

  bool text_token(Token& token);
  std::size_t text_end(std::size_t tag) const;
  bool open_tag(Token& token);
  void skip_comment();
  bool open_raw(Token& token);
  bool close_tag(Token& token);
  Token code_token();
  Token number_token();
  Token string_token();
  Token name_token();
  Token operator_token();
  std::string unescape(std::string_view raw);
  char32_t escape_code(std::string_view raw, std::size_t& at, std::size_t digits);

  std::string_view rest() const { return std::string_view(source_).substr(position_); }
  bool ahead(std::string_view text) const { return rest().starts_with(text); }
  void advance(std::size_t bytes);
  void skip_space();
  void skip_newline();

  std::string source_;
  std::string where_;
  State state_ = State::kText;
  std::size_t position_ = 0;
  std::size_t line_ = 1;
  std::size_t line_start_ = 0;
  std::vector<char> brackets_;  ///< The closing brackets that are awaited.
};

}  // namespace peregrine::text::jinja
