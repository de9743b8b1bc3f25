// SPDX-License-Identifier: Apache-2.0
// Two texts as one input, and token types.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <fstream>

#include "core/error.h"
#include "golden_data.h"
#include "support/test_data.h"
#include "text/tokenizer.h"
#include "tiny_tokenizer.h"

namespace peregrine::text {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Ids = std::vector<std::int32_t>;
using Pair = Tokenizer::PairEncoding;

/// Characters of "abcdefgh[]" are tokens 0 to 9.
testing::TinyTokenizer letters(std::string post_processor) {
  testing::TinyTokenizer tiny;
  tiny.model = testing::character_model("abcdefgh[]");
  tiny.pre_tokenizer = "null";
  tiny.post_processor = std::move(post_processor);
  return tiny;
}

std::unique_ptr<const Tokenizer> parse(const testing::TinyTokenizer& tiny) {
  return Tokenizer::parse(tiny.json(), "tiny");
}

constexpr const char* kBert = R"({"type": "BertProcessing", "cls": ["[", 8], "sep": ["]", 9]})";
constexpr const char* kRoberta = R"({"type": "RobertaProcessing", "cls": ["[", 8], "sep": ["]", 9]})";

/// A template whose pieces are written as "[:0 A:0 ]:3": names of texts and tokens, each with its type.
std::string template_of(const std::vector<std::string>& single, const std::vector<std::string>& pair) {
  const auto pieces = [](const std::vector<std::string>& names) {
    std::string out;
    for (const std::string& name : names) {
      const bool text = name[0] == 'A' || name[0] == 'B';
      out += fmt::format(R"({}{{"{}": {{"id": "{}", "type_id": {}}}}})", out.empty() ? "" : ", ",
                         text ? "Sequence" : "SpecialToken", name[0], name.substr(2));
    }
    return out;
  };
  return fmt::format(
      R"({{"type": "TemplateProcessing", "single": [{}], "pair": [{}], "special_tokens":)"
      R"( {{"[": {{"id": "[", "ids": [8, 7], "tokens": []}}, "]": {{"id": "]", "ids": [9], "tokens": []}}}}}})",
      pieces(single), pieces(pair));
}

TEST(Pairs, WithoutPostProcessorOneFollowsTheOther) {
  const auto tokenizer = parse(letters("null"));
  const Pair pair = tokenizer->encode_pair("ab", "c", {});
  EXPECT_THAT(pair.ids, ElementsAre(0, 1, 2));
  EXPECT_THAT(pair.token_types, ElementsAre(0, 0, 1));
  EXPECT_THAT(tokenizer->encode_pair("", "c", {}).token_types, ElementsAre(1));
  EXPECT_THAT(tokenizer->encode_pair("", "", {}).ids, IsEmpty());
}

TEST(Pairs, BertAndRobertaForms) {
  const Pair bert = parse(letters(kBert))->encode_pair("ab", "c", {});
  EXPECT_THAT(bert.ids, ElementsAre(8, 0, 1, 9, 2, 9));
  EXPECT_THAT(bert.token_types, ElementsAre(0, 0, 0, 0, 1, 1));
  const Pair roberta = parse(letters(kRoberta))->encode_pair("ab", "c", {});
  EXPECT_THAT(roberta.ids, ElementsAre(8, 0, 1, 9, 9, 2, 9));
  EXPECT_THAT(roberta.token_types, ElementsAre(0, 0, 0, 0, 0, 0, 0));
  const Pair plain = parse(letters(kBert))->encode_pair("ab", "c", {.add_special_tokens = false});
  EXPECT_THAT(plain.ids, ElementsAre(0, 1, 2));
  EXPECT_THAT(plain.token_types, ElementsAre(0, 0, 1));
  const Pair plain_roberta = parse(letters(kRoberta))->encode_pair("ab", "c", {.add_special_tokens = false});
  EXPECT_THAT(plain_roberta.token_types, ElementsAre(0, 0, 0)) << "its types are 0, come what may";
}

TEST(Pairs, TemplatesSayOrderAndTypes) {
  const auto tokenizer =
      parse(letters(template_of({"[:0", "A:5", "]:2"}, {"]:1", "B:4", "[:2", "A:3", "]:7"})));
  const Pair single = tokenizer->encode_with_types("ab", {});
  EXPECT_THAT(single.ids, ElementsAre(8, 7, 0, 1, 9));
  EXPECT_THAT(single.token_types, ElementsAre(0, 0, 5, 5, 2));
  const Pair pair = tokenizer->encode_pair("ab", "c", {});
  EXPECT_THAT(pair.ids, ElementsAre(9, 2, 8, 7, 0, 1, 9));
  EXPECT_THAT(pair.token_types, ElementsAre(1, 4, 2, 2, 3, 3, 7));
  const Pair plain = tokenizer->encode_pair("ab", "c", {.add_special_tokens = false});
  EXPECT_THAT(plain.ids, ElementsAre(2, 0, 1)) << "the order of the texts is the template's still";
  EXPECT_THAT(plain.token_types, ElementsAre(4, 3, 3));
}

TEST(Pairs, SequencesApplyTheirPartsInOrder) {
  const std::string sequence = R"({"type": "Sequence", "processors": [{"type": "ByteLevel"}, )" +
                               std::string(kRoberta) + R"(, {"type": "ByteLevel"}]})";
  EXPECT_THAT(parse(letters(sequence))->encode_pair("ab", "c", {}).ids, ElementsAre(8, 0, 1, 9, 9, 2, 9));
}

TEST(Pairs, ATemplateWithoutAFormForTwoStillTakesOne) {
  for (const std::vector<std::string>& pair :
       {std::vector<std::string>{}, {"A:0"}, {"A:0", "A:0"}, {"A:0", "B:0", "B:0"}}) {
    const auto tokenizer = parse(letters(template_of({"A:0", "]:0"}, pair)));
    EXPECT_THAT(tokenizer->encode("a", {}), ElementsAre(0, 9));
    try {
      tokenizer->encode_pair("a", "b", {});
      ADD_FAILURE() << "joined by " << pair.size() << " pieces";
    } catch (const core::Error& error) {
      EXPECT_EQ(error.kind(), core::ErrorKind::kUnsupported);
      EXPECT_THAT(error.what(), HasSubstr("post_processor"));
    }
  }
  EXPECT_THROW(parse(letters(template_of({"A:0"}, {"A:0", "C:0"}))), core::Error) << "no such token";
}

/// The texts have `first` tokens a and `second` tokens b; how many of each are left, and the error's text
/// where they do not fit.
struct Kept {
  std::size_t first = 0;
  std::size_t second = 0;
  std::string error{};
};

Kept keep(const Tokenizer& tokenizer, std::size_t first, std::size_t second, std::size_t most) {
  try {
    const Pair pair =
        tokenizer.encode_pair(std::string(first, 'a'), std::string(second, 'b'), {.max_tokens = most});
    EXPECT_EQ(pair.ids.size(), pair.token_types.size());
    return {static_cast<std::size_t>(std::count(pair.ids.begin(), pair.ids.end(), 0)),
            static_cast<std::size_t>(std::count(pair.ids.begin(), pair.ids.end(), 1))};
  } catch (const core::Error& error) {
    return {0, 0, error.what()};
  }
}

TEST(Pairs, TheLongerTextIsCutFirst) {
  const auto tokenizer = parse(letters(kBert));
  for (std::size_t first = 0; first < 9; ++first) {
    for (std::size_t second = 0; second < 9; ++second) {
      for (std::size_t most = 0; most < 22; ++most) {
        // One token after the other from the longer text; of two equal ones from that which was the shorter
        // one to begin with, or else from the first.
        std::size_t room = most < 3 ? 0 : most - 3;
        std::size_t a = first;
        std::size_t b = second;
        while (a + b > room) (a > b || (a == b && first <= second) ? a : b) -= 1;
        const Kept kept = keep(*tokenizer, first, second, most);
        EXPECT_EQ(kept.first, a) << first << " and " << second << " in " << most;
        EXPECT_EQ(kept.second, b) << first << " and " << second << " in " << most;
      }
    }
  }
}

std::unique_ptr<const Tokenizer> with_truncation(const std::string& strategy, const std::string& direction) {
  std::string json = letters(kBert).json();
  json.insert(
      1,
      fmt::format(R"("truncation": {{"direction": "{}", "max_length": 4, "strategy": "{}", "stride": 0}}, )",
                  direction, strategy));
  return Tokenizer::parse(json, "tiny");
}

TEST(Pairs, AFileMayLetOneTextBeCutAlone) {
  const auto first = with_truncation("OnlyFirst", "Right");
  EXPECT_EQ(keep(*first, 6, 2, 8).first, 3U);
  EXPECT_EQ(keep(*first, 6, 2, 8).second, 2U);
  EXPECT_EQ(keep(*first, 2, 2, 7).error, "") << "nothing has to be cut";
  EXPECT_THAT(keep(*first, 6, 5, 8).error, AllOf(HasSubstr("6 and 5"), HasSubstr("the first one only")));
  const auto second = with_truncation("OnlySecond", "Right");
  EXPECT_EQ(keep(*second, 2, 6, 8).second, 3U);
  EXPECT_THAT(keep(*second, 5, 1, 8).error, HasSubstr("the second one only"));
  EXPECT_THROW(with_truncation("Longest", "Right"), core::Error);
  EXPECT_THAT(with_truncation("LongestFirst", "Left")->encode_pair("abcd", "efg", {.max_tokens = 7}).ids,
              ElementsAre(8, 2, 3, 9, 5, 6, 9))
      << "both lose their start";
}

/// A model directory with these files.
std::unique_ptr<const Tokenizer> load(const std::vector<std::pair<std::string, std::string>>& files) {
  const peregrine::testing::TemporaryDirectory directory;
  for (const auto& [name, text] : files) std::ofstream(directory.path() / name) << text;
  return Tokenizer::load(directory.path());
}

TEST(Pairs, FilesFromBeforeTokenizerJsonHaveTheFormsOfTheirClasses) {
  const auto bert = load({{"vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\n"}});
  EXPECT_THAT(bert->encode_pair("a", "b", {}).ids, ElementsAre(2, 5, 3, 6, 3));
  EXPECT_THAT(bert->encode_pair("a", "b", {}).token_types, ElementsAre(0, 0, 0, 1, 1));
  const std::string vocab = R"({"<s>": 0, "</s>": 1, "<pad>": 2, "<unk>": 3, "<mask>": 4, "a": 5, "b": 6})";
  const auto roberta = load({{"vocab.json", vocab},
                             {"merges.txt", "#version: 0.2\n"},
                             {"tokenizer_config.json", R"({"tokenizer_class": "RobertaTokenizer"})"}});
  EXPECT_THAT(roberta->encode_pair("a", "b", {}).ids, ElementsAre(0, 5, 1, 1, 6, 1));
  const auto gpt2 =
      load({{"vocab.json", R"({"<|endoftext|>": 0, "a": 1, "b": 2})"},
            {"merges.txt", "#version: 0.2\n"},
            {"tokenizer_config.json", R"({"tokenizer_class": "GPT2Tokenizer", "add_bos_token": true})"}});
  EXPECT_THAT(gpt2->encode_pair("a", "b", {}).ids, ElementsAre(0, 1, 2));
  EXPECT_THAT(gpt2->encode_pair("a", "b", {}).token_types, ElementsAre(0, 0, 1));
}

struct Form {
  const char* family;
  Ids before;
  Ids between;
  Ids after;
  std::array<std::int32_t, 3> types;  ///< Of `before` and the first text; of `between`; of what follows.
};

/// The forms that the papers and the model cards of these families give.
const std::vector<Form> kForms = {
    {"bert-base-uncased", {101}, {102}, {102}, {0, 0, 1}},
    {"minilm-l6-v2", {101}, {102}, {102}, {0, 0, 1}},
    {"roberta-base", {0}, {2, 2}, {2}, {0, 0, 0}},
    {"t5-small", {}, {1}, {1}, {0, 0, 0}},
    {"llama-2", {1}, {1}, {}, {0, 1, 1}},
    {"mistral-7b", {1}, {1}, {}, {0, 1, 1}},
    {"opt", {2}, {2}, {}, {0, 1, 1}},
    {"phi-3-mini", {}, {}, {}, {0, 0, 1}},
    {"gpt2", {}, {}, {}, {0, 0, 1}},
    {"falcon", {}, {}, {}, {0, 0, 1}},
    {"gpt-neox-20b", {}, {}, {}, {0, 0, 1}},
    {"qwen2.5", {}, {}, {}, {0, 0, 1}},
    {"starcoder2", {}, {}, {}, {0, 0, 1}},
    {"phi-2", {}, {}, {}, {0, 0, 1}},
};

class GoldenPairs : public ::testing::TestWithParam<Form> {};

TEST_P(GoldenPairs, AreTwoEncodingsComposed) {
  const Form& form = GetParam();
  PEREGRINE_REQUIRE_TEST_DATA(std::string("tokenizers/") + form.family);
  const auto tokenizer = testing::golden_tokenizer(form.family);
  const auto rows = testing::read_lines(testing::family_folder(form.family) / "cases.jsonl.gz");
  std::vector<std::string> texts;
  for (const auto& row : rows) {
    if (!row.at("parse_special").as_bool() || row.at("text").as_string().size() > 400) continue;
    texts.push_back(testing::string_of(row.at("text")));
  }
  ASSERT_GT(texts.size(), 100U);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const std::string& second = texts[(i * 7 + 3) % texts.size()];
    const Ids a = tokenizer->encode(texts[i], {.add_special_tokens = false});
    const Ids b = tokenizer->encode(second, {.add_special_tokens = false});
    Pair expected;
    const auto add = [&](const Ids& ids, std::int32_t type) {
      expected.ids.insert(expected.ids.end(), ids.begin(), ids.end());
      expected.token_types.insert(expected.token_types.end(), ids.size(), type);
    };
    add(form.before, form.types[0]);
    add(a, form.types[0]);
    add(form.between, form.types[1]);
    add(b, form.types[2]);
    add(form.after, form.types[2]);
    const Pair pair = tokenizer->encode_pair(texts[i], second, {});
    EXPECT_EQ(pair.ids, expected.ids) << core::quoted(texts[i]) << " and " << core::quoted(second);
    EXPECT_EQ(pair.token_types, expected.token_types);

    const Pair single = tokenizer->encode_with_types(texts[i], {});
    EXPECT_EQ(single.ids, tokenizer->encode(texts[i], {}));
    EXPECT_EQ(single.token_types, Ids(single.ids.size(), 0));
  }
}

INSTANTIATE_TEST_SUITE_P(Families, GoldenPairs, ::testing::ValuesIn(kForms), [](const auto& parameter) {
  std::string name = parameter.param.family;
  std::replace_if(
      name.begin(), name.end(), [](char c) { return c == '-' || c == '.'; }, '_');
  return name;
});

}  // namespace
}  // namespace peregrine::text
