// SPDX-License-Identifier: Apache-2.0
#include "text/pre_tokenizers.h"

#include <array>
#include <utility>

#include "text/byte_level.h"
#include "text/component.h"
#include "text/pattern.h"
#include "text/regex.h"
#include "text/unicode.h"

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

class PreTokenizerSequence final : public PreTokenizer {
 public:
  explicit PreTokenizerSequence(const core::JsonView& json) {
    for (const core::JsonView& part : json.at("pretokenizers").items())
      parts_.push_back(make_pre_tokenizer(part));
  }
  void pre_tokenize(PreTokenized& text) const override {
    for (const auto& part : parts_) part->pre_tokenize(text);
  }

 private:
  std::vector<std::unique_ptr<PreTokenizer>> parts_;
};

using Made = std::unique_ptr<PreTokenizer>;
using Json = const core::JsonView&;

constexpr std::array kTypes = {
    ComponentType<PreTokenizer>{"ByteLevel",
                                [](Json json) -> Made { return std::make_unique<ByteLevel>(json); }},
    ComponentType<PreTokenizer>{"Digits", [](Json json) -> Made { return std::make_unique<Digits>(json); }},
    ComponentType<PreTokenizer>{"Punctuation",
                                [](Json json) -> Made { return std::make_unique<Punctuation>(json); }},
    ComponentType<PreTokenizer>{"Split", [](Json json) -> Made { return std::make_unique<Split>(json); }},
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
