// SPDX-License-Identifier: Apache-2.0
// Wrong tokenizer files end in a core::Error that names the file, never in a crash or in a tokenizer that
// guesses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json/serialize.hpp>
#include <fstream>
#include <random>

#include "core/error.h"
#include "core/json.h"
#include "support/test_data.h"
#include "text/detokenizer.h"
#include "text/tokenizer.h"
#include "text/unicode.h"
#include "tiny_tokenizer.h"

namespace peregrine::text {
namespace {

using ::testing::HasSubstr;

/// A file that has a bit of everything.
testing::TinyTokenizer rich() {
  testing::TinyTokenizer tiny;
  tiny.added_tokens = R"([{"id": 261, "content": "<s>", "special": true, "normalized": false, "lstrip": true},
                          {"id": 262, "content": "  ", "special": false}])";
  tiny.normalizer =
      R"({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Prepend", "prepend": "x"},
      {"type": "Replace", "pattern": {"Regex": "\\s+x"}, "content": "y"}]})";
  tiny.pre_tokenizer =
      R"({"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": true},
      {"type": "Split", "pattern": {"Regex": "[a-c]+|\\s"}, "behavior": "MergedWithNext", "invert": false},
      {"type": "Punctuation", "behavior": "Contiguous"}, {"type": "ByteLevel", "add_prefix_space": true}]})";
  tiny.post_processor =
      R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
      {"Sequence": {"id": "A", "type_id": 0}}], "special_tokens": {"<s>": {"id": "<s>", "ids": [261], "tokens": ["<s>"]}}})";
  tiny.decoder =
      R"({"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "Ġ"}, "content": " "},
      {"type": "ByteLevel"}, {"type": "Strip", "content": " ", "start": 1, "stop": 1}]})";
  tiny.model = testing::byte_level_model(R"(, "unk_token": "a", "byte_fallback": false)");
  return tiny;
}

/// One of words.
testing::TinyTokenizer rich_words() {
  testing::TinyTokenizer tiny;
  tiny.added_tokens = R"([{"id": 5, "content": "</s>", "special": true, "normalized": false, "rstrip": true},
                          {"id": 6, "content": "ab", "special": false, "single_word": true}])";
  // A charsmap whose trie is one unit, without rules.
  tiny.normalizer =
      R"({"type": "Sequence", "normalizers": [{"type": "BertNormalizer", "clean_text": true, "strip_accents": null},
      {"type": "Precompiled", "precompiled_charsmap": "BAAAAP////8="}, {"type": "Lowercase"}]})";
  tiny.pre_tokenizer =
      R"({"type": "Sequence", "pretokenizers": [{"type": "BertPreTokenizer"}, {"type": "UnicodeScripts"},
      {"type": "CharDelimiterSplit", "delimiter": "z"}, {"type": "FixedLength", "length": 9},
      {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": true}]})";
  tiny.post_processor = R"({"type": "BertProcessing", "sep": ["</s>", 5], "cls": ["</s>", 5]})";
  tiny.decoder =
      R"({"type": "Sequence", "decoders": [{"type": "WordPiece", "prefix": "#", "cleanup": true},
      {"type": "BPEDecoder", "suffix": "b"}, {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"}]})";
  tiny.model = R"({"type": "Unigram", "unk_id": 0, "byte_fallback": true,
      "vocab": [["<unk>", 0.0], ["▁", -1.5], ["a", -2], ["bb", -2.5], ["<0x63>", -3]]})";
  return tiny;
}

/// Either an error that names the file, or a tokenizer that works.
void load_and_use(const std::string& json) {
  std::unique_ptr<const Tokenizer> tokenizer;
  try {
    tokenizer = Tokenizer::parse(json, "damaged.json");
  } catch (const core::Error& error) {
    EXPECT_NE(error.kind(), core::ErrorKind::kInternal) << error.what();
    EXPECT_THAT(error.what(), HasSubstr("damaged.json"));
    return;
  }
  try {
    const auto ids = tokenizer->encode("  <s> abc, 12 é你 \xFF", {});
    const std::string text = tokenizer->decode(ids, false);
    EXPECT_TRUE(is_valid_utf8(text));
    StreamingDetokenizer stream(*tokenizer, false);
    for (const std::int32_t id : ids) EXPECT_TRUE(is_valid_utf8(stream.push(id)));
    EXPECT_TRUE(is_valid_utf8(stream.finish()));
  } catch (const core::Error& error) {
    EXPECT_NE(error.kind(), core::ErrorKind::kInternal) << error.what();
  }
}

/// Visits every value of a document, depth first.
void for_each_value(boost::json::value& value, const std::function<void(boost::json::value&)>& visit) {
  visit(value);
  if (auto* object = value.if_object()) {
    for (auto& member : *object) for_each_value(member.value(), visit);
  } else if (auto* array = value.if_array()) {
    for (auto& element : *array) for_each_value(element, visit);
  }
}

TEST(DamagedFile, AnyValueOfAnyOtherType) {
  for (const auto& tiny : {rich(), rich_words()}) {
    const boost::json::value original = core::parse_json(tiny.json(), "rich");
    std::size_t count = 0;
    boost::json::value copy = original;
    for_each_value(copy, [&](boost::json::value&) { ++count; });
    ASSERT_GT(count, 60U);
    const std::vector<boost::json::value> replacements = {
        nullptr, true, -1, 1 << 30, 0.5, "", "Nonsense", boost::json::array(), boost::json::object()};
    std::mt19937 random(5);
    for (std::size_t target = 0; target < count; ++target) {
      for (std::size_t kind = 0; kind < replacements.size(); ++kind) {
        // The 256 byte tokens need not each see every replacement.
        if (count - target > 60 && random() % 16 != 0) continue;
        boost::json::value damaged = original;
        std::size_t at = 0;
        for_each_value(damaged, [&](boost::json::value& value) {
          if (at++ == target) value = replacements[kind];
        });
        load_and_use(boost::json::serialize(damaged));
      }
    }
  }
}

TEST(DamagedFile, AnyMemberMissing) {
  for (const auto& tiny : {rich(), rich_words()}) {
    const boost::json::value original = core::parse_json(tiny.json(), "rich");
    std::size_t members = 0;
    boost::json::value copy = original;
    for_each_value(copy, [&](boost::json::value& value) {
      members += value.is_object() ? value.get_object().size() : 0;
    });
    for (std::size_t target = 0; target < members; ++target) {
      boost::json::value damaged = original;
      std::size_t at = 0;
      for_each_value(damaged, [&](boost::json::value& value) {
        auto* object = value.if_object();
        if (object == nullptr) return;
        if (target >= at && target < at + object->size()) {
          const std::string key((object->begin() + static_cast<std::ptrdiff_t>(target - at))->key());
          at += object->size();
          object->erase(key);
        } else {
          at += object->size();
        }
      });
      load_and_use(boost::json::serialize(damaged));
    }
  }
}

TEST(DamagedFile, TruncatedOrFlippedBytes) {
  std::mt19937 random(6);
  for (const auto& tiny : {rich(), rich_words()}) {
    const std::string original = tiny.json();
    EXPECT_NO_THROW(Tokenizer::parse(original, "whole"));
    load_and_use(original);
    for (int round = 0; round < 300; ++round) {
      const std::string_view whole = original;
      EXPECT_THROW(Tokenizer::parse(whole.substr(0, random() % (whole.size() - 1)), "cut"), core::Error);
      std::string flipped = original;
      for (int i = 0; i < 3; ++i) flipped[random() % flipped.size()] ^= static_cast<char>(1 << random() % 8);
      load_and_use(flipped);
    }
  }
  EXPECT_THROW(Tokenizer::parse("", "empty"), core::Error);
  EXPECT_THROW(Tokenizer::parse("[]", "list"), core::Error);
  EXPECT_THROW(Tokenizer::parse("{}", "nothing"), core::Error);
  EXPECT_THROW(Tokenizer::parse(std::string(100'000, '['), "deep"), core::Error);
}

std::string error_of(const testing::TinyTokenizer& tiny) {
  try {
    Tokenizer::parse(tiny.json(), "tokenizer.json");
  } catch (const core::Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(DamagedFile, MessagesNameThePlace) {
  testing::TinyTokenizer tiny = rich();
  const auto with_tokens = [&](const char* tokens) {
    tiny.added_tokens = tokens;
    tiny.post_processor = "null";
    return error_of(tiny);
  };
  EXPECT_THAT(with_tokens(R"([{"id": 5, "content": "<s>"}])"),
              AllOf(HasSubstr("'added_tokens'[0]"), HasSubstr("id 5")));
  EXPECT_THAT(with_tokens(R"([{"id": 300, "content": "ab"}])"), AllOf(HasSubstr("'ab'"), HasSubstr("256")));
  EXPECT_THAT(with_tokens(R"([{"id": 300, "content": "x1"}, {"id": 300, "content": "x2"}])"),
              AllOf(HasSubstr("'added_tokens'[1]"), HasSubstr("300"), HasSubstr("x1")));
  EXPECT_THAT(with_tokens(R"([{"id": 300, "content": "x1"}, {"id": 300, "content": "x1"}])"),
              HasSubstr("twice"));
  EXPECT_THAT(with_tokens(R"([{"id": -1, "content": "x1"}])"), HasSubstr("-1"));
  EXPECT_THAT(with_tokens(R"([{"id": 2000000000, "content": "x1"}])"), HasSubstr("2000000000"));
  EXPECT_THAT(with_tokens(R"([{"id": 300}])"), HasSubstr("'content' is missing"));
  EXPECT_THAT(with_tokens(R"([{"id": 300, "content": "x", "special": "yes"}])"), HasSubstr("'special'"));
  EXPECT_EQ(with_tokens(R"([{"id": 300, "content": "x1"}])"), "no error");

  tiny = rich();
  tiny.pre_tokenizer =
      R"({"type": "Sequence", "pretokenizers": [{"type": "Digits"}, {"type": "Metaspaceship"}]})";
  EXPECT_THAT(error_of(tiny),
              AllOf(HasSubstr("tokenizer.json: 'pre_tokenizer': 'pretokenizers'[1]"),
                    HasSubstr("Metaspaceship"), HasSubstr("ByteLevel, CharDelimiterSplit, Digits")));
  tiny = rich();
  tiny.model = R"({"type": "WordSalad", "vocab": {}})";
  EXPECT_THAT(error_of(tiny), AllOf(HasSubstr("WordSalad"), HasSubstr("BPE, WordPiece, Unigram, WordLevel")));
  tiny.model = R"({"vocab": [0]})";
  EXPECT_THAT(error_of(tiny), HasSubstr("[token, score]"));
  tiny = rich();
  tiny.post_processor = R"({"type": "TemplateProcessing", "single": [], "special_tokens": {}})";
  EXPECT_THAT(error_of(tiny), HasSubstr("'single'"));
}

TEST(DamagedFile, Directories) {
  const peregrine::testing::TemporaryDirectory folder;
  const auto write = [&](const char* name, std::string_view text) {
    std::ofstream(folder.path() / name) << text;
  };
  const auto load_error = [&] {
    try {
      Tokenizer::load(folder.path());
    } catch (const core::Error& error) {
      return std::string(core::to_string(error.kind())) + " " + error.what();
    }
    return std::string("no error");
  };
  EXPECT_THAT(load_error(), AllOf(HasSubstr("not_found"), HasSubstr("tokenizer.json")));
  write("tokenizer.json", rich().json());
  EXPECT_EQ(load_error(), "no error");
  write("tokenizer_config.json", "{");
  EXPECT_THAT(load_error(), HasSubstr("tokenizer_config.json"));
  write("tokenizer_config.json", R"({"added_tokens_decoder": {"x": {"content": "<e>"}}})");
  EXPECT_THAT(load_error(), HasSubstr("tokenizer_config.json"));
  write("tokenizer_config.json", R"({"added_tokens_decoder": {"261": {"content": "<e>"}}})");
  EXPECT_THAT(load_error(), AllOf(HasSubstr("tokenizer_config.json"), HasSubstr("261"), HasSubstr("<s>")));
  write("tokenizer_config.json", R"({"added_tokens_decoder": {"99": {"content": "<s>"}}})");
  EXPECT_THAT(load_error(), HasSubstr("tokenizer_config.json"));
  write(
      "tokenizer_config.json",
      R"({"added_tokens_decoder": {"262": {"content": "  ", "special": true}, "263": {"content": "<e>", "special": true}}})");
  const auto tokenizer = Tokenizer::load(folder.path());
  EXPECT_EQ(tokenizer->token_id("<e>"), 263);
  EXPECT_TRUE(tokenizer->is_special(262)) << "the flags of tokenizer_config.json count";
}

}  // namespace
}  // namespace peregrine::text
