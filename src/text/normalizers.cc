// SPDX-License-Identifier: Apache-2.0
#include "text/normalizers.h"

#include <utf8proc.h>

#include <array>
#include <utility>
#include <vector>

#include "text/byte_level.h"
#include "text/charsmap.h"
#include "text/component.h"
#include "text/normal_forms.h"
#include "text/pattern.h"
#include "text/unicode.h"

namespace peregrine::text {
namespace {

/// Calls visit(position, character, bytes) for each character.
template <typename Visit>
void for_each_character(std::string_view text, Visit visit) {
  for (std::size_t i = 0; i < text.size();) {
    const CodePoint c = decode_at(text, i);
    visit(i, c.value, c.bytes);
    i += c.bytes;
  }
}

template <typename Keep>
void keep_characters(AlignedText& text, Keep keep) {
  AlignedText out(text.aligned());
  out.reserve(text.text().size());
  for_each_character(text.text(), [&](std::size_t at, char32_t c, std::size_t bytes) {
    if (keep(c)) out.append(text, at, at + bytes);
  });
  text = std::move(out);
}

class Form final : public Normalizer {
 public:
  explicit Form(NormalForm form) : form_(form) {}
  void normalize(AlignedText& text) const override { apply_normal_form(text, form_); }

 private:
  NormalForm form_;
};

void lower_case(AlignedText& text) {
  // The one character whose lower case has two (SpecialCasing.txt).
  constexpr char32_t kCapitalIWithDot = 0x130;
  AlignedText out(text.aligned());
  out.reserve(text.text().size());
  for_each_character(text.text(), [&](std::size_t at, char32_t c, std::size_t) {
    if (c == kCapitalIWithDot) {
      out.append("i\xCC\x87", text, at);
    } else {
      out.append(static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))), text, at);
    }
  });
  check_text_size(out.text().size());
  text = std::move(out);
}

class Lowercase final : public Normalizer {
 public:
  void normalize(AlignedText& text) const override { lower_case(text); }
};

class StripAccents final : public Normalizer {
 public:
  void normalize(AlignedText& text) const override {
    keep_characters(text, [](char32_t c) { return !is_mark(c); });
  }
};

class StripNormalizer final : public Normalizer {
 public:
  explicit StripNormalizer(const core::JsonView& json)
      : left_(json.at("strip_left").as_bool()), right_(json.at("strip_right").as_bool()) {}

  void normalize(AlignedText& text) const override {
    const std::string_view source = text.text();
    std::size_t begin = 0;
    std::size_t end = source.size();
    while (left_ && begin < end) {
      const CodePoint c = decode_at(source, begin);
      if (!is_white_space(c.value)) break;
      begin += c.bytes;
    }
    while (right_ && end > begin) {
      const std::size_t last = previous_character(source, end);
      if (!is_white_space(decode_at(source, last).value)) break;
      end = last;
    }
    if (begin == 0 && end == source.size()) return;
    AlignedText out(text.aligned());
    out.append(text, begin, end);
    text = std::move(out);
  }

 private:
  bool left_;
  bool right_;
};

/// SentencePiece's nmt rules: drops control characters, makes spaces of other white space.
class Nmt final : public Normalizer {
 public:
  void normalize(AlignedText& text) const override {
    AlignedText out(text.aligned());
    out.reserve(text.text().size());
    for_each_character(text.text(), [&](std::size_t at, char32_t c, std::size_t bytes) {
      if (is_dropped(c)) return;
      if (is_space(c)) {
        out.append(U' ', text, at);
      } else {
        out.append(text, at, at + bytes);
      }
    });
    text = std::move(out);
  }

 private:
  static bool is_dropped(char32_t c) {
    return (c >= 0x01 && c <= 0x08) || c == 0x0B || (c >= 0x0E && c <= 0x1F) || c == 0x7F || c == 0x8F ||
           c == 0x9F;
  }
  static bool is_space(char32_t c) {
    return c == 0x09 || c == 0x0A || c == 0x0C || c == 0x0D || c == 0x1680 || (c >= 0x200B && c <= 0x200F) ||
           c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xFEFF || c == 0xFFFD;
  }
};

/// What BERT does to a text: control characters go, white space becomes spaces, spaces come around CJK
/// ideographs, accents go, capitals become small.
class BertNormalizer final : public Normalizer {
 public:
  explicit BertNormalizer(const core::JsonView& json)
      : clean_text_(optional_bool(json, "clean_text", true)),
        handle_chinese_chars_(optional_bool(json, "handle_chinese_chars", true)),
        lowercase_(optional_bool(json, "lowercase", true)),
        strip_accents_(optional_bool(json, "strip_accents", lowercase_)) {}

  void normalize(AlignedText& text) const override {
    if (clean_text_) clean(text);
    if (handle_chinese_chars_) separate_ideographs(text);
    if (strip_accents_) {
      apply_normal_form(text, NormalForm::kNfd);
      keep_characters(text, [](char32_t c) { return !is_nonspacing_mark(c); });
    }
    if (lowercase_) lower_case(text);
  }

 private:
  static void clean(AlignedText& text) {
    AlignedText out(text.aligned());
    out.reserve(text.text().size());
    for_each_character(text.text(), [&](std::size_t at, char32_t c, std::size_t bytes) {
      const bool is_line_space = c == '\t' || c == '\n' || c == '\r';
      if (c == 0xFFFD || (is_control_or_private(c) && !is_line_space)) return;
      if (is_white_space(c)) {
        out.append(U' ', text, at);
      } else {
        out.append(text, at, at + bytes);
      }
    });
    text = std::move(out);
  }

  static void separate_ideographs(AlignedText& text) {
    AlignedText out(text.aligned());
    out.reserve(text.text().size());
    for_each_character(text.text(), [&](std::size_t at, char32_t c, std::size_t bytes) {
      const bool separate = is_ideograph(c);
      if (separate) out.append(U' ', text, at);
      out.append(text, at, at + bytes);
      if (separate) out.append(U' ', text, at);
    });
    check_text_size(out.text().size());
    text = std::move(out);
  }

  /// The blocks that BERT's own code calls Chinese (its fifth range begins at U+2B920).
  static bool is_ideograph(char32_t c) {
    const auto within = [c](char32_t low, char32_t high) { return c >= low && c <= high; };
    return within(0x4E00, 0x9FFF) || within(0x3400, 0x4DBF) || within(0x20000, 0x2A6DF) ||
           within(0x2A700, 0x2B73F) || within(0x2B740, 0x2B81F) || within(0x2B920, 0x2CEAF) ||
           within(0xF900, 0xFAFF) || within(0x2F800, 0x2FA1F);
  }

  bool clean_text_;
  bool handle_chinese_chars_;
  bool lowercase_;
  bool strip_accents_;
};

class Precompiled final : public Normalizer {
 public:
  explicit Precompiled(const core::JsonView& json) : charsmap_(read(json.at("precompiled_charsmap"))) {}
  void normalize(AlignedText& text) const override { charsmap_.apply(text); }

 private:
  static Charsmap read(const core::JsonView& json) {
    return Charsmap(decode_base64(json.as_string(), json.where()), json.where());
  }

  Charsmap charsmap_;
};

class Prepend final : public Normalizer {
 public:
  explicit Prepend(const core::JsonView& json) : prefix_(json.at("prepend").as_string()) {}

  void normalize(AlignedText& text) const override {
    const std::size_t size = text.text().size();
    if (size == 0) return;
    check_text_size(prefix_.size() + size);
    AlignedText out(text.aligned());
    out.reserve(prefix_.size() + size);
    out.append(prefix_, text, 0);
    out.append(text, 0, size);
    text = std::move(out);
  }

 private:
  std::string prefix_;
};

class ReplaceNormalizer final : public Normalizer {
 public:
  explicit ReplaceNormalizer(const core::JsonView& json)
      : pattern_(json.at("pattern")), content_(json.at("content").as_string()) {}

  void normalize(AlignedText& text) const override {
    std::vector<Range> matches;
    PatternSearch(pattern_).find_all(text.text(), matches);
    if (matches.empty()) return;
    check_text_size(text.text().size() + matches.size() * content_.size());
    AlignedText out(text.aligned());
    out.reserve(text.text().size() + matches.size() * content_.size());
    std::size_t at = 0;
    for (const Range& match : matches) {
      out.append(text, at, match.begin);
      out.append(content_, text, match.end > 0 ? match.end - 1 : 0);
      at = match.end;
    }
    out.append(text, at, text.text().size());
    text = std::move(out);
  }

 private:
  Pattern pattern_;
  std::string content_;
};

class ByteLevelNormalizer final : public Normalizer {
 public:
  void normalize(AlignedText& text) const override {
    const std::string_view source = text.text();
    AlignedText out(text.aligned());
    out.reserve(source.size() * 2);
    for (std::size_t i = 0; i < source.size(); ++i) {
      out.append(byte_level_character(static_cast<unsigned char>(source[i])), text, i);
    }
    check_text_size(out.text().size());
    text = std::move(out);
  }
};

class NormalizerSequence final : public Normalizer {
 public:
  explicit NormalizerSequence(const core::JsonView& json) {
    for (const core::JsonView& part : json.at("normalizers").items()) parts_.push_back(make_normalizer(part));
  }
  void normalize(AlignedText& text) const override {
    for (const auto& part : parts_) part->normalize(text);
  }

 private:
  std::vector<std::unique_ptr<Normalizer>> parts_;
};

using Made = std::unique_ptr<Normalizer>;
using Json = const core::JsonView&;

constexpr std::array kTypes = {
    ComponentType<Normalizer>{"NFC", [](Json) -> Made { return std::make_unique<Form>(NormalForm::kNfc); }},
    ComponentType<Normalizer>{"NFD", [](Json) -> Made { return std::make_unique<Form>(NormalForm::kNfd); }},
    ComponentType<Normalizer>{"NFKC", [](Json) -> Made { return std::make_unique<Form>(NormalForm::kNfkc); }},
    ComponentType<Normalizer>{"NFKD", [](Json) -> Made { return std::make_unique<Form>(NormalForm::kNfkd); }},
    ComponentType<Normalizer>{"Lowercase", [](Json) -> Made { return std::make_unique<Lowercase>(); }},
    ComponentType<Normalizer>{"StripAccents", [](Json) -> Made { return std::make_unique<StripAccents>(); }},
    ComponentType<Normalizer>{"Strip",
                              [](Json json) -> Made { return std::make_unique<StripNormalizer>(json); }},
    ComponentType<Normalizer>{"Nmt", [](Json) -> Made { return std::make_unique<Nmt>(); }},
    ComponentType<Normalizer>{"BertNormalizer",
                              [](Json json) -> Made { return std::make_unique<BertNormalizer>(json); }},
    ComponentType<Normalizer>{"Precompiled",
                              [](Json json) -> Made { return std::make_unique<Precompiled>(json); }},
    ComponentType<Normalizer>{"Prepend", [](Json json) -> Made { return std::make_unique<Prepend>(json); }},
    ComponentType<Normalizer>{"Replace",
                              [](Json json) -> Made { return std::make_unique<ReplaceNormalizer>(json); }},
    ComponentType<Normalizer>{"ByteLevel",
                              [](Json) -> Made { return std::make_unique<ByteLevelNormalizer>(); }},
    ComponentType<Normalizer>{"Sequence",
                              [](Json json) -> Made { return std::make_unique<NormalizerSequence>(json); }},
};

}  // namespace

std::unique_ptr<Normalizer> make_normalizer(const core::JsonView& json) {
  return make_component<Normalizer>(json, kTypes);
}

}  // namespace peregrine::text
