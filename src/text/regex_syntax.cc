// SPDX-License-Identifier: Apache-2.0
#include "text/regex_syntax.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <utility>
#include <vector>

#include "core/error.h"
#include "text/unicode.h"
#include "text/unicode_scripts.h"

namespace peregrine::text {
namespace {

// What \w and \h match in Oniguruma, as members of a PCRE2 class. PCRE2's own \w lacks marks, its \s has
// U+180E.
constexpr std::string_view kWordMembers = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";
constexpr std::string_view kHexMembers = "0-9A-Fa-f";
constexpr int kMaxClassDepth = 32;

struct PropertyName {
  std::string_view from;
  std::string_view to;
};

// Property names (lower case, without '_' and ' ') that PCRE2 10.42 does not know.
constexpr std::array kPropertyNames = {
    PropertyName{"letter", "L"},
    PropertyName{"uppercaseletter", "Lu"},
    PropertyName{"lowercaseletter", "Ll"},
    PropertyName{"titlecaseletter", "Lt"},
    PropertyName{"modifierletter", "Lm"},
    PropertyName{"otherletter", "Lo"},
    PropertyName{"mark", "M"},
    PropertyName{"nonspacingmark", "Mn"},
    PropertyName{"number", "N"},
    PropertyName{"decimalnumber", "Nd"},
    PropertyName{"letternumber", "Nl"},
    PropertyName{"othernumber", "No"},
    PropertyName{"punctuation", "P"},
    PropertyName{"punct", "P"},
    PropertyName{"symbol", "S"},
    PropertyName{"separator", "Z"},
    PropertyName{"other", "C"},
    PropertyName{"alpha", "Alphabetic"},
    PropertyName{"space", "White_Space"},
    PropertyName{"digit", "Nd"},
    PropertyName{"upper", "Uppercase"},
    PropertyName{"lower", "Lowercase"},
};

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_hex(char c) { return std::isxdigit(static_cast<unsigned char>(c)) != 0; }

/// A property's name as names are compared: in lower case, without '_', ' ' and '-' (UAX #44, section 5.9.3).
std::string loose(std::string_view name) {
  std::string key;
  for (const char c : name) {
    if (c != '_' && c != ' ' && c != '-')
      key += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return key;
}

class Translator {
 public:
  Translator(std::string_view pattern, std::string_view where) : pattern_(pattern), where_(where) {}

  std::string run() {
    group_starts_.push_back(0);
    while (at_ < pattern_.size()) step();
    return std::move(out_);
  }

 private:
  bool done() const { return at_ >= pattern_.size(); }
  bool next_is(std::string_view text) const { return pattern_.substr(at_).starts_with(text); }

  [[noreturn]] void unsupported(std::string_view construct) const {
    core::fail(core::ErrorKind::kUnsupported, "{}: {} is not supported in a regular expression, found in {}",
               where_, construct, core::quoted(pattern_));
  }

  /// One character, escape, class, group border or quantifier.
  void step() {
    switch (pattern_[at_]) {
      case '\\':
        escape();
        break;
      case '[': {
        atom_start_ = out_.size();
        std::string members;
        const bool negated = character_class(members, 0);
        out_ += (negated ? "[^" : "[") + members + "]";
        break;
      }
      case '(':
        open_group();
        break;
      case ')':
        close_group();
        break;
      case '{':
        interval();
        break;
      case '*':
      case '+':
      case '?':
      case '^':
      case '$':
        out_ += pattern_[at_++];
        break;
      case '|':
        out_ += pattern_[at_++];
        branch_start_ = out_.size();
        break;
      default:
        literal();
        break;
    }
  }

  void literal() {
    atom_start_ = out_.size();
    const std::size_t bytes = decode_at(pattern_, at_).bytes;
    out_ += pattern_.substr(at_, bytes);
    at_ += bytes;
  }

  void escape() {
    atom_start_ = out_.size();
    if (at_ + 1 >= pattern_.size()) {
      out_ += pattern_[at_++];  // a lone backslash: PCRE2 says so
      return;
    }
    const char c = pattern_[at_ + 1];
    const auto replace = [&](std::string_view text) {
      out_ += text;
      at_ += 2;
    };
    const std::string word = std::string("[") + std::string(kWordMembers) + "]";
    switch (c) {
      case 's':
        return replace(R"(\p{White_Space})");
      case 'S':
        return replace(R"(\P{White_Space})");
      case 'w':
        return replace(word);
      case 'W':
        return replace("[^" + std::string(kWordMembers) + "]");
      case 'b':
        return replace("(?:(?<=" + word + ")(?!" + word + ")|(?<!" + word + ")(?=" + word + "))");
      case 'B':
        return replace("(?:(?<=" + word + ")(?=" + word + ")|(?<!" + word + ")(?!" + word + "))");
      case 'h':
        return replace("[" + std::string(kHexMembers) + "]");
      case 'H':
        return replace("[^" + std::string(kHexMembers) + "]");
      case 'v':
        return replace(R"(\x0B)");
      case 'O':
        return replace("(?s:.)");
      case 'K':
      case 'C':
      case 'y':
      case 'Y':
      case 'Q':
      case 'E':
        unsupported(std::string("\\") + c);
      default:
        out_ += shared_escape();
        return;
    }
  }

  /// An escape that means the same inside a class and outside: \p{..}, \uHHHH, or anything PCRE2 reads alike.
  std::string shared_escape() {
    const char c = pattern_[at_ + 1];
    if ((c == 'p' || c == 'P') && at_ + 2 < pattern_.size() && pattern_[at_ + 2] == '{') return property();
    if (c == 'u') {
      const std::string_view digits = pattern_.substr(std::min(at_ + 2, pattern_.size()), 4);
      if (digits.size() != 4 || !std::all_of(digits.begin(), digits.end(), is_hex))
        unsupported("\\u without 4 digits");
      at_ += 6;
      return "\\x{" + std::string(digits) + "}";
    }
    const std::size_t bytes = 1 + decode_at(pattern_, at_ + 1).bytes;
    std::string text(pattern_.substr(at_, bytes));
    at_ += bytes;
    return text;
  }

  std::string property() {
    const std::size_t close = pattern_.find('}', at_);
    if (close == std::string_view::npos) unsupported("\\p without '}'");
    std::string_view name = pattern_.substr(at_ + 3, close - at_ - 3);
    bool negated = pattern_[at_ + 1] == 'P';
    if (name.starts_with('^')) {
      negated = !negated;
      name.remove_prefix(1);
    }
    const std::string key = loose(name);
    const auto* known = std::find_if(kPropertyNames.begin(), kPropertyNames.end(),
                                     [&](const auto& p) { return p.from == key; });
    const auto scripts = unicode_scripts();
    const bool is_script = key == "unknown" || std::any_of(scripts.begin(), scripts.end(),
                                                           [&](auto script) { return loose(script) == key; });
    at_ = close + 1;
    return (negated ? "\\P{" : "\\p{") + std::string(is_script ? "sc:" : "") +
           std::string(known != kPropertyNames.end() ? known->to : name) + "}";
  }

  void open_group() {
    group_starts_.push_back(out_.size());
    if (next_is("(*")) unsupported("(*");
    if (next_is("(?#")) {
      const std::size_t close = pattern_.find(')', at_);
      if (close == std::string_view::npos) unsupported("an unclosed comment");
      at_ = close + 1;
      group_starts_.pop_back();
      return;
    }
    if (next_is("(?~")) unsupported("the absence operator (?~");
    out_ += pattern_[at_++];
    if (!next_is("?")) {
      branch_start_ = out_.size();
      return;
    }
    out_ += pattern_[at_++];
    if (next_is("<") && !next_is("<=") && !next_is("<!")) {
      const std::size_t close = std::min(pattern_.find('>', at_), pattern_.size() - 1);
      out_ += pattern_.substr(at_, close + 1 - at_);
      at_ = close + 1;
    } else if (next_is("<=") || next_is("<!")) {
      out_ += pattern_.substr(at_, 2);
      at_ += 2;
    } else if (!done() &&
               (std::isalpha(static_cast<unsigned char>(pattern_[at_])) != 0 || pattern_[at_] == '-')) {
      options();
      return;
    } else if (!done()) {
      out_ += pattern_[at_++];  // one of : = ! >
    }
    branch_start_ = out_.size();
  }

  /// The option letters of (?imx-imx) or (?imx-imx:...), behind "(?".
  void options() {
    const std::size_t group = group_starts_.back();
    for (; !done() && pattern_[at_] != ':' && pattern_[at_] != ')'; ++at_) {
      const char c = pattern_[at_];
      if (c != 'i' && c != 'm' && c != '-') unsupported(std::string("the option (?") + c + ")");
      out_ += c == 'm' ? 's' : c;  // Ruby's (?m) lets '.' match a newline
    }
    if (done()) return;
    if (pattern_[at_] == ':') {
      out_ += pattern_[at_++];
      branch_start_ = out_.size();
      return;
    }
    // An isolated option reaches over the alternatives behind it; in PCRE2 they stay alternatives of the
    // whole group. Both mean the same only where nothing stands before it.
    if (branch_start_ != group) unsupported("an option behind the start of its group");
    out_ += pattern_[at_++];
    group_starts_.pop_back();
    branch_start_ = out_.size();
  }

  void close_group() {
    out_ += pattern_[at_++];
    if (group_starts_.size() > 1) {
      atom_start_ = group_starts_.back();
      group_starts_.pop_back();
    }
  }

  void interval() {
    std::size_t i = at_ + 1;
    const auto number = [&] {
      const std::size_t begin = i;
      while (i < pattern_.size() && is_digit(pattern_[i])) ++i;
      return pattern_.substr(begin, i - begin);
    };
    const std::string_view low = number();
    const bool comma = i < pattern_.size() && pattern_[i] == ',';
    if (comma) ++i;
    const std::string_view high = comma ? number() : std::string_view();
    if (i >= pattern_.size() || pattern_[i] != '}' || (low.empty() && high.empty())) {
      atom_start_ = out_.size();
      out_ += "\\{";
      ++at_;
      return;
    }
    const bool bare = !comma;
    out_ += "{" + (low.empty() ? std::string("0") : std::string(low)) +
            (comma ? "," + std::string(high) : "") + "}";
    at_ = i + 1;
    // Ruby reads X{n,m}+ as (?:X{n,m})+, not as possessive, and X{n}? as (?:X{n})?, not as lazy.
    if (!done() && (pattern_[at_] == '+' || (bare && pattern_[at_] == '?'))) {
      out_.insert(atom_start_, "(?:");
      out_ += ")";
    }
  }

  /// Translates the class at '['; its members go to `out`, nested classes flattened. Returns whether it is
  /// negated.
  bool character_class(std::string& out, int depth) {
    if (depth > kMaxClassDepth) unsupported("such a deeply nested class");
    ++at_;
    const bool negated = next_is("^");
    if (negated) ++at_;
    for (bool first = true;; first = false) {
      if (done()) unsupported("a class without ']'");
      if (pattern_[at_] == ']' && !first) break;
      if (next_is("&&")) unsupported("the class intersection &&");
      if (next_is("[:")) {
        posix_class(out);
      } else if (pattern_[at_] == '[') {
        if (character_class(out, depth + 1)) unsupported("a negated class inside a class");
      } else {
        member_or_range(out);
      }
    }
    ++at_;
    return negated;
  }

  void posix_class(std::string& out) {
    const std::size_t close = pattern_.find(":]", at_);
    if (close == std::string_view::npos) unsupported("'[:' without ':]'");
    out += pattern_.substr(at_, close + 2 - at_);
    at_ = close + 2;
  }

  /// One member, or a range of two characters. Literals that mean something in a class are escaped:
  /// flattening may have moved them to where they would.
  void member_or_range(std::string& out) {
    const bool dash = pattern_[at_] == '-';
    bool single = true;
    out += class_member(single);
    if (dash || !single || !next_is("-") || at_ + 1 >= pattern_.size()) return;
    const char behind = pattern_[at_ + 1];
    if (behind == ']' || behind == '[') return;
    ++at_;
    out += '-';
    out += class_member(single);
    if (!single) unsupported("a range that ends in a class");
  }

  std::string class_member(bool& single) {
    const char c = pattern_[at_];
    if (c == '\\' && at_ + 1 < pattern_.size()) {
      const auto set = [&](std::string_view members) {
        at_ += 2;
        single = false;
        return std::string(members);
      };
      switch (pattern_[at_ + 1]) {
        case 's':
          return set(R"(\p{White_Space})");
        case 'S':
          return set(R"(\P{White_Space})");
        case 'w':
          return set(kWordMembers);
        case 'h':
          return set(kHexMembers);
        case 'd':
          return set(R"(\d)");
        case 'D':
          return set(R"(\D)");
        case 'W':
        case 'H':
        case 'R':
        case 'X':
          unsupported(std::string("\\") + pattern_[at_ + 1] + " inside a class");
        case 'v':
          at_ += 2;
          return R"(\x0B)";
        case 'p':
        case 'P':
          single = false;
          break;
        default:
          break;
      }
      return shared_escape();
    }
    const std::size_t bytes = decode_at(pattern_, at_).bytes;
    const std::string_view text = pattern_.substr(at_, bytes);
    at_ += bytes;
    return c == '-' || c == ']' || c == '^' || c == '\\' ? "\\" + std::string(text) : std::string(text);
  }

  std::string_view pattern_;
  std::string_view where_;
  std::size_t at_ = 0;
  std::string out_;
  std::size_t atom_start_ = 0;             ///< In out_, of what a quantifier here would repeat.
  std::size_t branch_start_ = 0;           ///< In out_, behind the last '(' or '|'.
  std::vector<std::size_t> group_starts_;  ///< In out_, of the '(' that are open.
};

}  // namespace

std::string translate_regex(std::string_view pattern, std::string_view where) {
  return Translator(pattern, where).run();
}

}  // namespace peregrine::text
