// SPDX-License-Identifier: Apache-2.0
#include "text/post_processors.h"

#include <algorithm>
#include <array>
#include <limits>

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

  void process(TokenList& tokens, bool) const override {
    if (trim_offsets_) trim_offsets(tokens, add_prefix_space_);
  }

 private:
  bool trim_offsets_;
  bool add_prefix_space_;
};

/// [CLS] text [SEP]: BertProcessing, and with trimmed offsets RobertaProcessing.
class Surround final : public PostProcessor {
 public:
  Surround(const core::JsonView& json, bool trims)
      : before_(read(json.at("cls"))),
        after_(read(json.at("sep"))),
        trim_offsets_(trims && optional_bool(json, "trim_offsets", true)),
        add_prefix_space_(optional_bool(json, "add_prefix_space", true)) {}

  void process(TokenList& tokens, bool add_special_tokens) const override {
    if (trim_offsets_) trim_offsets(tokens, add_prefix_space_);
    if (add_special_tokens) tokens.surround({&before_, 1}, {&after_, 1});
  }
  std::vector<std::int32_t> added_ids() const override { return {before_, after_}; }

 private:
  static std::int32_t read(const core::JsonView& json) {
    if (!json.is_array() || json.value().get_array().size() != 2)
      json.fail_expected("an array of a token and its id");
    return token_id_of(json.items()[1]);
  }

  std::int32_t before_;
  std::int32_t after_;
  bool trim_offsets_;
  bool add_prefix_space_;
};

class Template final : public PostProcessor {
 public:
  explicit Template(const core::JsonView& json) {
    const core::JsonView single = json.at("single");
    bool has_text = false;
    for (const core::JsonView& piece : single.items()) {
      if (const auto sequence = piece.find("Sequence")) {
        if (const auto id = sequence->at("id"); id.as_string() != "A")
          id.fail_expected("A in a template for one text");
        if (has_text) piece.fail_expected("a template that has the text once");
        has_text = true;
      } else if (const auto special = piece.find("SpecialToken")) {
        add_ids(json.at("special_tokens").at(special->at("id").as_string()), has_text ? after_ : before_);
      } else {
        piece.fail_expected(R"({"Sequence": ...} or {"SpecialToken": ...})");
      }
    }
    if (!has_text) single.fail_expected(R"(a template with {"Sequence": {"id": "A"}})");
  }

  void process(TokenList& tokens, bool add_special_tokens) const override {
    if (add_special_tokens) tokens.surround(before_, after_);
  }
  std::vector<std::int32_t> added_ids() const override {
    std::vector<std::int32_t> ids = before_;
    ids.insert(ids.end(), after_.begin(), after_.end());
    return ids;
  }

 private:
  static void add_ids(const core::JsonView& special_token, std::vector<std::int32_t>& ids) {
    for (const core::JsonView& id : special_token.at("ids").items()) ids.push_back(token_id_of(id));
    // Also bounds what a file can make of a name that it defines once and uses often.
    if (ids.size() > kMaxAdded)
      special_token.fail_expected(fmt::format("at most {} tokens in all", kMaxAdded));
  }

  static constexpr std::size_t kMaxAdded = 4096;
  std::vector<std::int32_t> before_;
  std::vector<std::int32_t> after_;
};

class PostProcessorSequence final : public PostProcessor {
 public:
  explicit PostProcessorSequence(const core::JsonView& json) {
    for (const core::JsonView& part : json.at("processors").items())
      parts_.push_back(make_post_processor(part));
  }
  void process(TokenList& tokens, bool add_special_tokens) const override {
    for (const auto& part : parts_) part->process(tokens, add_special_tokens);
  }
  std::vector<std::int32_t> added_ids() const override {
    std::vector<std::int32_t> ids;
    for (const auto& part : parts_) {
      for (const std::int32_t id : part->added_ids()) ids.push_back(id);
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
    ComponentType<PostProcessor>{"RobertaProcessing",
                                 [](Json json) -> Made { return std::make_unique<Surround>(json, true); }},
    ComponentType<PostProcessor>{"BertProcessing",
                                 [](Json json) -> Made { return std::make_unique<Surround>(json, false); }},
    ComponentType<PostProcessor>{
        "Sequence", [](Json json) -> Made { return std::make_unique<PostProcessorSequence>(json); }},
};

}  // namespace

std::unique_ptr<PostProcessor> make_post_processor(const core::JsonView& json) {
  return make_component<PostProcessor>(json, kTypes);
}

}  // namespace peregrine::text
