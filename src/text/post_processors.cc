// SPDX-License-Identifier: Apache-2.0
#include "text/post_processors.h"

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <span>
#include <utility>

#include "text/component.h"

namespace peregrine::text {
namespace {

std::int32_t token_id_of(const core::JsonView& json) {
  return static_cast<std::int32_t>(json.as_int(0, std::numeric_limits<std::int32_t>::max()));
}

/// Takes leading and trailing blanks out of the offsets. With `add_prefix_space` the one blank that the first
/// token starts with is the tokenizer's own, and not in the text.
void trim_offsets(TokenList& tokens, bool add_prefix_space) {
  for (std::size_t i = 0; i < tokens.offsets.size(); ++i) {
    CodePointRange& range = tokens.offsets[i];
    auto [leading, trailing] = tokens.blanks[i];
    const bool first = i == 0 || range.begin == 0;
    if (first && add_prefix_space && leading == 1) leading = 0;
    range.begin = std::min(range.begin + leading, range.end);
    if (range.end >= trailing) range.end = std::max(range.end - trailing, range.begin);
  }
}

class ByteLevelProcessor final : public PostProcessor {
 public:
  explicit ByteLevelProcessor(const core::JsonView& json)
      : trim_offsets_(optional_bool(json, "trim_offsets", true)),
        add_prefix_space_(optional_bool(json, "add_prefix_space", true)) {}

  void process(std::vector<TokenList>& texts, bool) const override {
    if (!trim_offsets_) return;
    for (TokenList& text : texts) trim_offsets(text, add_prefix_space_);
  }
  std::vector<std::int32_t> added_ids(std::size_t) const override { return {}; }

 private:
  bool trim_offsets_;
  bool add_prefix_space_;
};

/// BertProcessing: [CLS] text [SEP], and before a second text nothing; its tokens have type 1.
/// RobertaProcessing: [CLS] text [SEP], then [SEP] text [SEP]; trims offsets, and all types are 0.
class Surround final : public PostProcessor {
 public:
  enum class Kind { kBert, kRoberta };

  Surround(const core::JsonView& json, Kind kind)
      : kind_(kind),
        before_(read(json.at("cls"))),
        after_(read(json.at("sep"))),
        trim_offsets_(kind == Kind::kRoberta && optional_bool(json, "trim_offsets", true)),
        add_prefix_space_(optional_bool(json, "add_prefix_space", true)) {}

  void process(std::vector<TokenList>& texts, bool add_special_tokens) const override {
    for (std::size_t i = 0; i < texts.size(); ++i) {
      TokenList& text = texts[i];
      if (trim_offsets_) trim_offsets(text, add_prefix_space_);
      if (kind_ == Kind::kRoberta) text.set_types(0);
      if (!add_special_tokens) continue;
      const std::int32_t type = kind_ == Kind::kBert && i > 0 ? 1 : 0;
      TokenList out{text.details};
      out.append_added(before(i), type);
      out.append(text);
      out.append_added({&after_, 1}, type);
      text = std::move(out);
    }
  }

  std::vector<std::int32_t> added_ids(std::size_t texts) const override {
    std::vector<std::int32_t> ids;
    for (std::size_t i = 0; i < texts; ++i) {
      const auto first = before(i);
      ids.insert(ids.end(), first.begin(), first.end());
      ids.push_back(after_);
    }
    return ids;
  }

 private:
  static std::int32_t read(const core::JsonView& json) {
    if (!json.is_array() || json.value().get_array().size() != 2)
      json.fail_expected("an array of a token and its id");
    return token_id_of(json.items()[1]);
  }

  std::span<const std::int32_t> before(std::size_t text) const {
    if (text == 0) return {&before_, 1};
    if (kind_ == Kind::kRoberta) return {&after_, 1};
    return {};
  }

  Kind kind_;
  std::int32_t before_;
  std::int32_t after_;
  bool trim_offsets_;
  bool add_prefix_space_;
};

/// What a template puts where: texts and special tokens in order, each with the type of its tokens.
class Template final : public PostProcessor {
 public:
  explicit Template(const core::JsonView& json) : where_(json.where()), single_(read(json, "single", "A")) {
    if (!single_.has_all)
      json.at("single").fail_expected(R"(a template that has {"Sequence": {"id": "A"}} once)");
    // A pair template is needed only by who joins two texts: what is wrong in it shows then.
    if (const auto pair = json.find("pair")) pair_ = read(json, "pair", "AB");
  }

  void process(std::vector<TokenList>& texts, bool add_special_tokens) const override {
    const Form& form = texts.size() == 1 ? single_ : pair_;
    if (!form.has_all) {
      core::fail(
          core::ErrorKind::kUnsupported,
          R"({}: two texts cannot be joined: its "pair" does not have each of the sequences A and B once)",
          where_);
    }
    TokenList out{texts.front().details};
    for (const Piece& piece : form.pieces) {
      if (piece.text) {
        TokenList& text = texts[*piece.text];
        text.set_types(piece.type);
        out.append(text);
      } else if (add_special_tokens) {
        out.append_added(piece.ids, piece.type);
      }
    }
    texts.clear();
    texts.push_back(std::move(out));
  }

  std::vector<std::int32_t> added_ids(std::size_t texts) const override {
    std::vector<std::int32_t> ids;
    for (const Piece& piece : (texts == 1 ? single_ : pair_).pieces)
      ids.insert(ids.end(), piece.ids.begin(), piece.ids.end());
    return ids;
  }

 private:
  struct Piece {
    std::optional<std::size_t> text{};  ///< Which; none for special tokens.
    std::vector<std::int32_t> ids{};    ///< Of special tokens.
    std::int32_t type = 0;
  };
  struct Form {
    std::vector<Piece> pieces{};
    bool has_all = false;  ///< Every text is there, and once.
  };

  /// The template `key` of the texts that `names` has the letters of.
  static Form read(const core::JsonView& json, std::string_view key, std::string_view names) {
    Form form;
    std::array<int, 2> uses{};
    std::size_t added = 0;
    for (const core::JsonView& item : json.at(key).items()) {
      Piece piece;
      if (const auto sequence = item.find("Sequence")) {
        piece.type = type_of(*sequence);
        piece.text = index_of(sequence->at("id"), names);
        ++uses.at(*piece.text);
      } else if (const auto special = item.find("SpecialToken")) {
        piece.type = type_of(*special);
        const core::JsonView token = json.at("special_tokens").at(special->at("id").as_string());
        for (const core::JsonView& id : token.at("ids").items()) piece.ids.push_back(token_id_of(id));
        // Also bounds what a file can make of a name that it defines once and uses often.
        added += piece.ids.size();
        if (added > kMaxAdded) token.fail_expected(fmt::format("at most {} tokens in all", kMaxAdded));
      } else {
        item.fail_expected(R"({"Sequence": ...} or {"SpecialToken": ...})");
      }
      form.pieces.push_back(std::move(piece));
    }
    form.has_all = std::all_of(uses.begin(), uses.begin() + static_cast<std::ptrdiff_t>(names.size()),
                               [](int count) { return count == 1; });
    return form;
  }

  static std::size_t index_of(const core::JsonView& id, std::string_view names) {
    const std::string_view name = id.as_string();
    const std::size_t index = name.size() == 1 ? names.find(name) : std::string_view::npos;
    if (index != std::string_view::npos) return index;
    id.fail_expected(names.size() == 1 ? "A in a template for one text" : "A or B");
  }

  static std::int32_t type_of(const core::JsonView& piece) {
    const auto type = piece.find("type_id");
    return type ? token_id_of(*type) : 0;
  }

  static constexpr std::size_t kMaxAdded = 4096;
  std::string where_;
  Form single_;
  Form pair_;
};

class PostProcessorSequence final : public PostProcessor {
 public:
  explicit PostProcessorSequence(const core::JsonView& json) {
    for (const core::JsonView& part : json.at("processors").items())
      parts_.push_back(make_post_processor(part));
  }
  void process(std::vector<TokenList>& texts, bool add_special_tokens) const override {
    for (const auto& part : parts_) part->process(texts, add_special_tokens);
  }
  std::vector<std::int32_t> added_ids(std::size_t texts) const override {
    std::vector<std::int32_t> ids;
    for (const auto& part : parts_) {
      for (const std::int32_t id : part->added_ids(texts)) ids.push_back(id);
    }
    return ids;
  }

 private:
  std::vector<std::unique_ptr<PostProcessor>> parts_;
};

using Made = std::unique_ptr<PostProcessor>;
using Json = const core::JsonView&;

constexpr std::array kTypes = {
    ComponentType<PostProcessor>{
        "ByteLevel", [](Json json) -> Made { return std::make_unique<ByteLevelProcessor>(json); }},
    ComponentType<PostProcessor>{"TemplateProcessing",
                                 [](Json json) -> Made { return std::make_unique<Template>(json); }},
    ComponentType<PostProcessor>{
        "RobertaProcessing",
        [](Json json) -> Made { return std::make_unique<Surround>(json, Surround::Kind::kRoberta); }},
    ComponentType<PostProcessor>{
        "BertProcessing",
        [](Json json) -> Made { return std::make_unique<Surround>(json, Surround::Kind::kBert); }},
    ComponentType<PostProcessor>{
        "Sequence", [](Json json) -> Made { return std::make_unique<PostProcessorSequence>(json); }},
};

}  // namespace

std::unique_ptr<PostProcessor> make_post_processor(const core::JsonView& json) {
  return make_component<PostProcessor>(json, kTypes);
}

}  // namespace peregrine::text
