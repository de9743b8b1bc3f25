// SPDX-License-Identifier: Apache-2.0
#include "text/pre_tokenizers.h"

#include <algorithm>
#include <array>
#include <utility>

#include "text/byte_level.h"
#include "text/component.h"
#include "text/metaspace.h"
#include "text/pattern.h"
#include "text/regex.h"
#include "text/unicode.h"
#include "text/unicode_scripts.h"

namespace peregrine::text {

void PreTokenized::append(const AlignedText& section, std::size_t begin, std::size_t end,
                          std::int32_t token) {
  const auto first = static_cast<std::uint32_t>(text_.text().size());
  text_.append(section, begin, end);
  check_text_size(text_.text().size());
  pieces_.push_back({first, static_cast<std::uint32_t>(text_.text().size()), token});
}

void PreTokenized::split(const std::function<void(std::string_view, std::vector<Range>&)>& cut) {
  std::vector<Piece> pieces;
  pieces.reserve(pieces_.size());
  std::vector<Range> parts;
  for (const Piece& piece : pieces_) {
    if (piece.token != kText) {
      pieces.push_back(piece);
      continue;
    }
    parts.clear();
    cut(text_of(piece), parts);
    for (const Range& part : parts) {
      if (!part.empty()) pieces.push_back({piece.begin + part.begin, piece.begin + part.end, kText});
    }
  }
  pieces_ = std::move(pieces);
}

void PreTokenized::rewrite(const std::function<void(const AlignedText&, const Piece&, AlignedText&)>& write) {
  AlignedText out(text_.aligned());
  out.reserve(text_.text().size() + text_.text().size() / 2);
  for (Piece& piece : pieces_) {
    const auto begin = static_cast<std::uint32_t>(out.text().size());
    if (piece.token == kText) {
      write(text_, piece, out);
    } else {
      out.append(text_, piece.begin, piece.end);
    }
    check_text_size(out.text().size());
    piece.begin = begin;
    piece.end = static_cast<std::uint32_t>(out.text().size());
  }
  text_ = std::move(out);
}

namespace {

// GPT-2's, from encoder.py.
constexpr std::string_view kByteLevelPattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

/// Cuts at every character that `is_delimiter` names.
template <typename IsDelimiter>
void split_at_characters(PreTokenized& text, SplitBehavior behavior, IsDelimiter is_delimiter) {
  std::vector<Range> matches;
  text.split([&](std::string_view piece, std::vector<Range>& parts) {
    matches.clear();
    for (std::size_t i = 0; i < piece.size();) {
      const CodePoint c = decode_at(piece, i);
      const std::size_t end = i + c.bytes;
      if (is_delimiter(c.value))
        matches.push_back({static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(end)});
      i = end;
    }
    split_at_matches(static_cast<std::uint32_t>(piece.size()), matches, behavior, false, parts);
  });
}

class ByteLevel final : public PreTokenizer {
 public:
  explicit ByteLevel(const core::JsonView& json)
      : add_prefix_space_(optional_bool(json, "add_prefix_space", true)) {
    if (optional_bool(json, "use_regex", true)) regex_.emplace(kByteLevelPattern, "ByteLevel");
  }

  void pre_tokenize(PreTokenized& text) const override {
    if (add_prefix_space_) add_prefix_spaces(text);
    if (regex_) {
      RegexSearch search(*regex_);
      std::vector<Range> matches;
      text.split([&](std::string_view piece, std::vector<Range>& parts) {
        search.find_all(piece, matches);
        split_at_matches(static_cast<std::uint32_t>(piece.size()), matches, SplitBehavior::kIsolated, false,
                         parts);
      });
    }
    text.rewrite([](const AlignedText& from, const PreTokenized::Piece& piece, AlignedText& out) {
      const std::string_view source = from.text();
      for (std::size_t i = piece.begin; i < piece.end; ++i) {
        out.append(byte_level_character(static_cast<unsigned char>(source[i])), from, i);
      }
    });
  }
  bool rewrites() const override { return true; }

 private:
  static void add_prefix_spaces(PreTokenized& text) {
    text.rewrite([](const AlignedText& from, const PreTokenized::Piece& piece, AlignedText& out) {
      if (from.text()[piece.begin] != ' ') out.append(" ", from, piece.begin);
      out.append(from, piece.begin, piece.end);
    });
  }

  bool add_prefix_space_;
  std::optional<Regex> regex_;
};

class Digits final : public PreTokenizer {
 public:
  explicit Digits(const core::JsonView& json)
      : behavior_(optional_bool(json, "individual_digits", false) ? SplitBehavior::kIsolated
                                                                  : SplitBehavior::kContiguous) {}
  void pre_tokenize(PreTokenized& text) const override { split_at_characters(text, behavior_, is_numeric); }

 private:
  SplitBehavior behavior_;
};

class Punctuation final : public PreTokenizer {
 public:
  explicit Punctuation(const core::JsonView& json) {
    if (const auto behavior = json.find("behavior")) behavior_ = parse_split_behavior(*behavior);
  }
  void pre_tokenize(PreTokenized& text) const override {
    split_at_characters(text, behavior_, is_punctuation);
  }

 private:
  SplitBehavior behavior_ = SplitBehavior::kIsolated;
};

class Split final : public PreTokenizer {
 public:
  explicit Split(const core::JsonView& json)
      : pattern_(json.at("pattern")),
        behavior_(parse_split_behavior(json.at("behavior"))),
        invert_(optional_bool(json, "invert", false)) {}

  void pre_tokenize(PreTokenized& text) const override {
    PatternSearch search(pattern_);
    std::vector<Range> matches;
    text.split([&](std::string_view piece, std::vector<Range>& parts) {
      search.find_all(piece, matches);
      split_at_matches(static_cast<std::uint32_t>(piece.size()), matches, behavior_, invert_, parts);
    });
  }

 private:
  Pattern pattern_;
  SplitBehavior behavior_;
  bool invert_;
};

/// Runs of word characters and runs of other characters, white space dropped: \w+|[^\w\s]+.
class Whitespace final : public PreTokenizer {
 public:
  void pre_tokenize(PreTokenized& text) const override {
    text.split([](std::string_view piece, std::vector<Range>& parts) {
      Kind last = Kind::kSpace;
      for (std::size_t i = 0; i < piece.size();) {
        const CodePoint c = decode_at(piece, i);
        const Kind kind = is_word(c.value)          ? Kind::kWord
                          : is_white_space(c.value) ? Kind::kSpace
                                                    : Kind::kOther;
        const auto begin = static_cast<std::uint32_t>(i);
        i += c.bytes;
        if (kind != Kind::kSpace) {
          if (kind != last) parts.push_back({begin, begin});
          parts.back().end = static_cast<std::uint32_t>(i);
        }
        last = kind;
      }
    });
  }

 private:
  enum class Kind { kSpace, kWord, kOther };
};

class WhitespaceSplit final : public PreTokenizer {
 public:
  void pre_tokenize(PreTokenized& text) const override {
    split_at_characters(text, SplitBehavior::kRemoved, is_white_space);
  }
};

/// BERT's: words between white space, every punctuation character alone.
class BertPreTokenizer final : public PreTokenizer {
 public:
  void pre_tokenize(PreTokenized& text) const override {
    split_at_characters(text, SplitBehavior::kRemoved, is_white_space);
    split_at_characters(text, SplitBehavior::kIsolated, is_punctuation);
  }
};

class CharDelimiterSplit final : public PreTokenizer {
 public:
  explicit CharDelimiterSplit(const core::JsonView& json) {
    const core::JsonView delimiter = json.at("delimiter");
    if (count_code_points(delimiter.as_string()) != 1) delimiter.fail_expected("a single character");
    delimiter_ = decode_at(delimiter.as_string(), 0).value;
  }
  void pre_tokenize(PreTokenized& text) const override {
    split_at_characters(text, SplitBehavior::kRemoved, [this](char32_t c) { return c == delimiter_; });
  }

 private:
  char32_t delimiter_ = 0;
};

/// Pieces of so many characters.
class FixedLength final : public PreTokenizer {
 public:
  explicit FixedLength(const core::JsonView& json) {
    if (const auto length = json.find("length")) length_ = length->as_int(1, kMaxMappedBytes);
  }
  void pre_tokenize(PreTokenized& text) const override {
    text.split([this](std::string_view piece, std::vector<Range>& parts) {
      std::int64_t characters = length_;
      for (std::size_t i = 0; i < piece.size();) {
        const auto begin = static_cast<std::uint32_t>(i);
        if (characters == length_) {
          parts.push_back({begin, begin});
          characters = 0;
        }
        i += decode_at(piece, i).bytes;
        parts.back().end = static_cast<std::uint32_t>(i);
        ++characters;
      }
    });
  }

 private:
  std::int64_t length_ = 5;
};

/// Spaces written as another character, one in front, and a cut before each.
class Metaspace final : public PreTokenizer {
 public:
  explicit Metaspace(const core::JsonView& json) : options_(parse_metaspace(json)) {
    append_utf8(replacement_, options_.replacement);
  }

  void pre_tokenize(PreTokenized& text) const override {
    text.rewrite([this](const AlignedText& from, const PreTokenized::Piece& piece, AlignedText& out) {
      if (prepends(from, piece)) out.append(replacement_, from, piece.begin);
      const std::string_view source = from.text();
      for (std::size_t i = piece.begin; i < piece.end;) {
        const std::size_t space = std::min<std::size_t>(source.find(' ', i), piece.end);
        out.append(from, i, space);
        if (space < piece.end) out.append(replacement_, from, space);
        i = space + 1;
      }
    });
    if (!options_.split) return;
    split_at_characters(text, SplitBehavior::kMergedWithNext,
                        [this](char32_t c) { return c == options_.replacement; });
  }
  bool rewrites() const override { return true; }
  bool needs_sources(bool rewritten) const override {
    return rewritten && options_.prepend == MetaspaceOptions::Prepend::kFirst;
  }

 private:
  bool prepends(const AlignedText& from, const PreTokenized::Piece& piece) const {
    const char32_t first = decode_at(from.text(), piece.begin).value;
    if (first == ' ' || first == options_.replacement) return false;
    switch (options_.prepend) {
      case MetaspaceOptions::Prepend::kAlways:
        return true;
      case MetaspaceOptions::Prepend::kNever:
        return false;
      case MetaspaceOptions::Prepend::kFirst:
        break;
    }
    // Text that is not aligned is as it was, so that what comes first stands for what comes first.
    return (from.aligned() ? from.source_of(piece.begin, piece.end).begin : piece.begin) == 0;
  }

  MetaspaceOptions options_;
  std::string replacement_;
};

/// Runs of one script. Spaces and characters of no script belong to the script before them; in front of the
/// first script they are dropped. Japanese is one script.
class UnicodeScripts final : public PreTokenizer {
 public:
  UnicodeScripts() : regex_(pattern(), "UnicodeScripts") {}

  void pre_tokenize(PreTokenized& text) const override {
    RegexSearch search(regex_);
    text.split([&](std::string_view piece, std::vector<Range>& parts) {
      std::vector<Range> matches;
      search.find_all(piece, matches);
      parts.insert(parts.end(), matches.begin(), matches.end());
    });
  }

 private:
  static std::string pattern() {
    const std::string any = " \\p{Unknown}";
    const std::string japanese = "\\p{Han}\\p{Hiragana}\\p{Katakana}\\u30FC";
    std::string out = "[" + japanese + "][" + japanese + any + "]*";
    for (const std::string_view script : unicode_scripts()) {
      if (script == "Han" || script == "Hiragana" || script == "Katakana") continue;
      const std::string property = fmt::format("\\p{{{}}}", script);
      // The space and U+30FC, which have been dealt with, are Common. A script goes on up to a character that
      // begins another one.
      const std::string first = script == "Common" ? "(?![ \\u30FC])" + property : property;
      const std::string more =
          script == "Common" ? "(?:" + first + "|[" + any + "])" : "[" + property + any + "]";
      out += "|" + first + more + "*";
    }
    return out;
  }

  Regex regex_;
};

class PreTokenizerSequence final : public PreTokenizer {
 public:
  explicit PreTokenizerSequence(const core::JsonView& json) {
    for (const core::JsonView& part : json.at("pretokenizers").items())
      parts_.push_back(make_pre_tokenizer(part));
  }
  void pre_tokenize(PreTokenized& text) const override {
    for (const auto& part : parts_) part->pre_tokenize(text);
  }
  bool rewrites() const override {
    return std::any_of(parts_.begin(), parts_.end(), [](const auto& part) { return part->rewrites(); });
  }
  bool needs_sources(bool rewritten) const override {
    for (const auto& part : parts_) {
      if (part->needs_sources(rewritten)) return true;
      rewritten = rewritten || part->rewrites();
    }
    return false;
  }

 private:
  std::vector<std::unique_ptr<PreTokenizer>> parts_;
};

using Made = std::unique_ptr<PreTokenizer>;
using Json = const core::JsonView&;

constexpr std::array kTypes = {
    ComponentType<PreTokenizer>{"BertPreTokenizer",
                                [](Json) -> Made { return std::make_unique<BertPreTokenizer>(); }},
    ComponentType<PreTokenizer>{"ByteLevel",
                                [](Json json) -> Made { return std::make_unique<ByteLevel>(json); }},
    ComponentType<PreTokenizer>{"CharDelimiterSplit",
                                [](Json json) -> Made { return std::make_unique<CharDelimiterSplit>(json); }},
    ComponentType<PreTokenizer>{"Digits", [](Json json) -> Made { return std::make_unique<Digits>(json); }},
    ComponentType<PreTokenizer>{"FixedLength",
                                [](Json json) -> Made { return std::make_unique<FixedLength>(json); }},
    ComponentType<PreTokenizer>{"Metaspace",
                                [](Json json) -> Made { return std::make_unique<Metaspace>(json); }},
    ComponentType<PreTokenizer>{"Punctuation",
                                [](Json json) -> Made { return std::make_unique<Punctuation>(json); }},
    ComponentType<PreTokenizer>{"Split", [](Json json) -> Made { return std::make_unique<Split>(json); }},
    ComponentType<PreTokenizer>{"UnicodeScripts",
                                [](Json) -> Made { return std::make_unique<UnicodeScripts>(); }},
    ComponentType<PreTokenizer>{"Whitespace", [](Json) -> Made { return std::make_unique<Whitespace>(); }},
    ComponentType<PreTokenizer>{"WhitespaceSplit",
                                [](Json) -> Made { return std::make_unique<WhitespaceSplit>(); }},
    ComponentType<PreTokenizer>{
        "Sequence", [](Json json) -> Made { return std::make_unique<PreTokenizerSequence>(json); }},
};

}  // namespace

std::unique_ptr<PreTokenizer> make_pre_tokenizer(const core::JsonView& json) {
  return make_component<PreTokenizer>(json, kTypes);
}

}  // namespace peregrine::text
