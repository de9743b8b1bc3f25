// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/lexer.h"

#include <algorithm>
#include <array>
#include <cstdlib>

#include "text/jinja/strings.h"
#include "text/unicode.h"

namespace peregrine::text::jinja {
namespace {

constexpr std::size_t kMaxSource = std::size_t{1} << 20;

/// Line ends as "\n", and one of them at the end dropped.
std::string normalized(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
      out += '\n';
    } else {
      out += source[i];
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

bool begins_name(std::string_view text) {
  const char c = text.front();
  if (static_cast<unsigned char>(c) >= 0x80) return is_word(decode_at(text, 0).value);
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

/// The length of the name, or number, that `text` begins with.
std::size_t word_length(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size() && (begins_name(text.substr(at)) || is_ascii_digit(text[at]))) {
    at += decode_at(text, at).bytes;
  }
  return at;
}

/// The length of digits, which single underscores may separate, at `at`; 0 for none.
template <typename IsDigit>
std::size_t digits_length(std::string_view text, std::size_t at, IsDigit is_digit) {
  std::size_t length = 0;
  while (at + length < text.size()) {
    if (is_digit(text[at + length])) {
      ++length;
    } else if (length > 0 && text[at + length] == '_' && at + length + 1 < text.size() &&
               is_digit(text[at + length + 1])) {
      length += 2;
    } else {
      break;
    }
  }
  return length;
}

/// The length of a float literal, or 0: digits with a fraction, an exponent or both.
std::size_t float_length(std::string_view text) {
  std::size_t at = digits_length(text, 0, is_ascii_digit);
  if (at == 0) return 0;
  bool is_float = false;
  if (at < text.size() && text[at] == '.') {
    const std::size_t fraction = digits_length(text, at + 1, is_ascii_digit);
    if (fraction > 0) {
      at += 1 + fraction;
      is_float = true;
    }
  }
  if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    std::size_t exponent = at + 1;
    if (exponent < text.size() && (text[exponent] == '+' || text[exponent] == '-')) ++exponent;
    const std::size_t digits = digits_length(text, exponent, is_ascii_digit);
    if (digits > 0) return exponent + digits;
  }
  return is_float ? at : 0;
}

struct Base {
  int value;
  std::size_t prefix;  ///< Bytes before the digits.
};

Base base_of(std::string_view text) {
  if (text.size() >= 2 && text[0] == '0') {
    switch (text[1] | 0x20) {
      case 'b':
        return {2, 2};
      case 'o':
        return {8, 2};
      case 'x':
        return {16, 2};
      default:
        break;
    }
  }
  return {10, 0};
}

int digit_value(char c) {
  if (is_ascii_digit(c)) return c - '0';
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : 99;
}

}  // namespace

std::string describe(const Token& token) {
  switch (token.type) {
    case TokenType::kData:
      return "template text";
    case TokenType::kBlockBegin:
      return "'{%'";
    case TokenType::kBlockEnd:
      return "'%}'";
    case TokenType::kVariableBegin:
      return "'{{'";
    case TokenType::kVariableEnd:
      return "'}}'";
    case TokenType::kString:
      return "the string " + core::quoted(token.text, 40);
    case TokenType::kInteger:
    case TokenType::kFloat:
      return "a number";
    case TokenType::kEnd:
      return "the end of the template";
    case TokenType::kName:
    case TokenType::kOperator:
      break;
  }
  return core::quoted(token.text, 40);
}

Lexer::Lexer(std::string_view source, std::string where)
    : source_(normalized(source)), where_(std::move(where)) {
  if (source.size() > kMaxSource) {
    core::fail(core::ErrorKind::kInvalidArgument, "{}: a chat template of {} bytes; at most {} are allowed",
               where_, source.size(), kMaxSource);
  }
  if (!is_valid_utf8(source))
    core::fail(core::ErrorKind::kInvalidArgument, "{}: the chat template is not valid UTF-8", where_);
}

void Lexer::fail_at(const Token& token, std::string_view problem, core::ErrorKind kind) const {
  core::fail(kind, "{}: line {}, column {}: {}", where_, token.line, token.column, problem);
}

void Lexer::fail_here(std::string_view problem, core::ErrorKind kind) const {
  fail_at(make(TokenType::kEnd), problem, kind);
}

Token Lexer::make(TokenType type) const {
  Token token;
  token.type = type;
  token.line = line_;
  token.column = position_ - line_start_ + 1;
  return token;
}

void Lexer::advance(std::size_t bytes) {
  for (const std::size_t end = position_ + bytes; position_ < end;) {
    if (source_[position_++] == '\n') {
      ++line_;
      line_start_ = position_;
    }
  }
}

void Lexer::skip_space() { advance(rest().size() - strip(rest(), Side::kLeft).size()); }

void Lexer::skip_newline() {
  if (ahead("\n")) advance(1);
}

Token Lexer::next() {
  Token token;
  while (state_ == State::kText) {
    if (position_ == source_.size()) return make(TokenType::kEnd);
    if (text_token(token) || open_tag(token)) return token;
  }
  return code_token();
}

/// Moves to the next tag, or to the end; whether there was text on the way.
bool Lexer::text_token(Token& token) {
  std::size_t tag = source_.find('{', position_);
  while (tag != kNotFound &&
         (tag + 1 == source_.size() || std::string_view("{%#").find(source_[tag + 1]) == kNotFound)) {
    tag = source_.find('{', tag + 1);
  }
  const std::size_t end = tag == kNotFound ? source_.size() : text_end(tag);
  const std::size_t next = tag == kNotFound ? source_.size() : tag;
  token = make(TokenType::kData);
  token.text = source_.substr(position_, end - position_);
  advance(next - position_);
  return !token.text.empty();
}

/// Where the text before the tag at `tag` ends, by the tag's sign and lstrip_blocks.
std::size_t Lexer::text_end(std::size_t tag) const {
  const std::string_view text = std::string_view(source_).substr(position_, tag - position_);
  const char sign = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
  if (sign == '-') return position_ + strip(text, Side::kRight).size();
  if (sign == '+' || source_[tag + 1] == '{') return tag;
  const std::size_t newline = text.rfind('\n');
  if (newline == kNotFound && position_ > 0 && source_[position_ - 1] != '\n') return tag;
  const std::size_t line = newline == kNotFound ? 0 : newline + 1;
  return strip(text.substr(line), Side::kLeft).empty() ? position_ + line : tag;
}

/// At a tag: enters it. Comments and raw blocks are taken whole. Whether that gave a token.
bool Lexer::open_tag(Token& token) {
  if (position_ == source_.size()) return false;
  if (ahead("{#")) {
    skip_comment();
    return false;
  }
  if (ahead("{%") && open_raw(token)) return !token.text.empty();
  state_ = ahead("{%") ? State::kBlock : State::kVariable;
  token = make(state_ == State::kBlock ? TokenType::kBlockBegin : TokenType::kVariableBegin);
  advance(2);
  if (ahead("-") || ahead("+")) advance(1);
  return true;
}

void Lexer::skip_comment() {
  std::size_t begin = position_ + 2;
  if (begin < source_.size() && (source_[begin] == '-' || source_[begin] == '+')) ++begin;
  const std::size_t end = source_.find("#}", begin);
  if (end == kNotFound) fail_here("the comment has no end ('#}')");
  const char sign = end > begin ? source_[end - 1] : '\0';
  advance(end + 2 - position_);
  if (sign == '-') {
    skip_space();
  } else if (sign != '+') {
    skip_newline();
  }
}

/// A raw block is text up to its endraw; false, and nothing moved, where the block is another.
bool Lexer::open_raw(Token& token) {
  const auto after = [](std::string_view text, std::string_view word) -> std::optional<std::string_view> {
    text = strip(text, Side::kLeft);
    if (!text.starts_with(word)) return std::nullopt;
    return strip(text.substr(word.size()), Side::kLeft);
  };
  std::string_view text = rest().substr(2);
  if (text.starts_with('-') || text.starts_with('+')) text.remove_prefix(1);
  auto body = after(text, "raw");
  if (!body) return false;
  if (body->starts_with("-%}")) {
    body = strip(body->substr(3), Side::kLeft);
  } else if (body->starts_with("%}")) {
    body = body->substr(2);
  } else {
    return false;
  }
  const Token opening = make(TokenType::kBlockBegin);
  advance(rest().size() - body->size());
  for (std::size_t tag = source_.find("{%", position_); tag != kNotFound; tag = source_.find("{%", tag + 2)) {
    std::string_view closing = std::string_view(source_).substr(tag + 2);
    if (closing.starts_with('-') || closing.starts_with('+')) closing.remove_prefix(1);
    const auto end = after(closing, "endraw");
    if (!end || !(end->starts_with("%}") || end->starts_with("-%}") || end->starts_with("+%}"))) continue;
    token = make(TokenType::kData);
    token.text = source_.substr(position_, text_end(tag) - position_);
    advance(rest().size() - end->size());
    if (ahead("-")) {
      advance(3);
      skip_space();
    } else if (ahead("+")) {
      advance(3);
    } else {
      advance(2);
      skip_newline();
    }
    return true;
  }
  fail_at(opening, "the raw block has no end ('{% endraw %}')");
}

/// Leaves the tag where it ends here.
bool Lexer::close_tag(Token& token) {
  if (!brackets_.empty()) return false;
  const bool block = state_ == State::kBlock;
  const std::string_view end = block ? "%}" : "}}";
  const bool signed_end = (ahead("-") || (block && ahead("+"))) && rest().substr(1).starts_with(end);
  if (!signed_end && !ahead(end)) return false;
  token = make(block ? TokenType::kBlockEnd : TokenType::kVariableEnd);
  const bool strips = ahead("-");
  advance(signed_end ? 3 : 2);
  if (strips) {
    skip_space();
  } else if (block && !signed_end) {
    skip_newline();
  }
  state_ = State::kText;
  return true;
}

Token Lexer::code_token() {
  Token token;
  for (;;) {
    if (close_tag(token)) return token;
    if (position_ == source_.size()) return make(TokenType::kEnd);
    const std::size_t before = position_;
    skip_space();
    if (position_ == before) break;
  }
  const char c = source_[position_];
  if (is_ascii_digit(c)) return number_token();
  if (c == '\'' || c == '"') return string_token();
  if (begins_name(rest())) return name_token();
  return operator_token();
}

Token Lexer::number_token() {
  const bool after_dot = position_ > 0 && source_[position_ - 1] == '.';
  if (const std::size_t length = after_dot ? 0 : float_length(rest())) {
    Token token = make(TokenType::kFloat);
    std::string digits(rest().substr(0, length));
    std::erase(digits, '_');
    token.real = std::strtod(digits.c_str(), nullptr);
    advance(length);
    return token;
  }
  Token token = make(TokenType::kInteger);
  Base base = base_of(rest());
  const auto fits = [&](char c) { return digit_value(c) < base.value; };
  std::size_t length = 0;
  if (base.value != 10) {
    // A single underscore may stand behind the prefix too.
    if (rest().size() > 2 && rest()[2] == '_') ++base.prefix;
    length = digits_length(rest(), base.prefix, fits);
    if (length == 0) base = {10, 0};
  }
  if (base.value == 10) {
    // A decimal number begins with no zero, but zero may be several.
    const bool zero = source_[position_] == '0';
    length = digits_length(rest(), 0, [&](char c) { return zero ? c == '0' : is_ascii_digit(c); });
  }
  for (const char c : rest().substr(base.prefix, length)) {
    if (c == '_') continue;
    if (__builtin_mul_overflow(token.integer, Int{base.value}, &token.integer) ||
        __builtin_add_overflow(token.integer, Int{digit_value(c)}, &token.integer)) {
      fail_at(token, "the integer does not fit into 127 bits", core::ErrorKind::kUnsupported);
    }
  }
  advance(base.prefix + length);
  return token;
}

Token Lexer::string_token() {
  Token token = make(TokenType::kString);
  const char quote = source_[position_];
  std::size_t end = position_ + 1;
  while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
  if (end >= source_.size()) fail_here("the string has no end");
  token.text = unescape(std::string_view(source_).substr(position_ + 1, end - position_ - 1));
  advance(end + 1 - position_);
  return token;
}

Token Lexer::name_token() {
  Token token = make(TokenType::kName);
  const std::size_t length = word_length(rest());
  token.text = rest().substr(0, length);
  advance(length);
  return token;
}

Token Lexer::operator_token() {
  static constexpr std::array<std::string_view, 25> kOperators = {
      "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
      "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ","};
  Token token = make(TokenType::kOperator);
  for (const std::string_view symbol : kOperators) {
    if (!ahead(symbol)) continue;
    token.text = symbol;
    if (symbol == "(") brackets_.push_back(')');
    if (symbol == "[") brackets_.push_back(']');
    if (symbol == "{") brackets_.push_back('}');
    if (symbol == ")" || symbol == "]" || symbol == "}") {
      if (brackets_.empty()) fail_here(fmt::format("unexpected '{}'", symbol));
      if (brackets_.back() != symbol[0])
        fail_here(fmt::format("unexpected '{}', expected '{}'", symbol, brackets_.back()));
      brackets_.pop_back();
    }
    advance(symbol.size());
    return token;
  }
  const std::size_t bytes = decode_at(rest(), 0).bytes;
  fail_here(fmt::format("unexpected character {}", core::quoted(rest().substr(0, bytes))));
}

/// The number that `digits` hexadecimal digits at `at` give; moves behind them.
char32_t Lexer::escape_code(std::string_view raw, std::size_t& at, std::size_t digits) {
  char32_t code = 0;
  for (std::size_t i = 0; i < digits; ++i, ++at) {
    const int digit = at < raw.size() ? digit_value(raw[at]) : 99;
    if (digit >= 16)
      fail_here(fmt::format("an escape in the string lacks some of its {} hex digits", digits));
    code = code * 16 + static_cast<char32_t>(digit);
  }
  if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000))
    fail_here("an escape in the string names no character", core::ErrorKind::kUnsupported);
  return code;
}

/// Python's escapes; an unknown one stays as it is.
std::string Lexer::unescape(std::string_view raw) {
  static constexpr std::string_view kLetters = "abfnrtv\\'\"";
  static constexpr std::string_view kMeanings = "\a\b\f\n\r\t\v\\'\"";
  std::string out;
  for (std::size_t at = 0; at < raw.size();) {
    if (raw[at] != '\\' || at + 1 == raw.size()) {
      out += raw[at++];
      continue;
    }
    const char letter = raw[at + 1];
    at += 2;
    if (const std::size_t which = kLetters.find(letter); which != kNotFound) {
      out += kMeanings[which];
    } else if (letter == '\n') {
      // A line that goes on.
    } else if (letter == 'x' || letter == 'u' || letter == 'U') {
      append_utf8(out, escape_code(raw, at, letter == 'x' ? 2 : (letter == 'u' ? 4 : 8)));
    } else if (letter >= '0' && letter <= '7') {
      char32_t code = static_cast<char32_t>(letter - '0');
      for (int i = 0; i < 2 && at < raw.size() && raw[at] >= '0' && raw[at] <= '7'; ++i, ++at)
        code = code * 8 + static_cast<char32_t>(raw[at] - '0');
      append_utf8(out, code);
    } else if (letter == 'N') {
      fail_here("\\N escapes in strings are not supported", core::ErrorKind::kUnsupported);
    } else {
      out += '\\';
      out += letter;
    }
  }
  return out;
}

}  // namespace peregrine::text::jinja
