// SPDX-License-Identifier: Apache-2.0
// Unigram, WordPiece and WordLevel, and long words through every model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "core/error.h"
#include "core/json.h"
#include "golden_data.h"
#include "support/test_data.h"
#include "text/byte_trie.h"
#include "text/model.h"
#include "text/tokenizer.h"
#include "tiny_tokenizer.h"

namespace peregrine::text {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::unique_ptr<Model> make(const std::string& json) {
  const boost::json::value value = core::parse_json(json, "file");
  return make_model(core::JsonView(value, "model"));
}

/// Each token as "id:begin-end".
std::vector<std::string> tokens(const Model& model, std::string_view piece) {
  std::vector<ModelToken> found;
  model.tokenize(piece, found);
  std::vector<std::string> out;
  for (const ModelToken& token : found)
    out.push_back(fmt::format("{}:{}-{}", token.id, token.begin, token.end));
  return out;
}

std::string error_of(const std::string& json, std::string_view piece = "x") {
  try {
    tokens(*make(json), piece);
  } catch (const core::Error& error) {
    EXPECT_EQ(error.kind(), core::ErrorKind::kInvalidArgument);
    return error.what();
  }
  return "no error";
}

TEST(ByteTrie, FindsEveryPrefixShortestFirst) {
  const ByteTrie trie({{"ab", 1}, {"a", 2}, {"", 3}, {"abcd", 4}, {"b", 5}, {"ab", 6}, {"\xFF", 7}});
  const auto found = [&](std::string_view text) {
    std::vector<std::pair<std::size_t, int>> out;
    trie.for_each_prefix(text, [&](std::size_t bytes, int value) { out.emplace_back(bytes, value); });
    return out;
  };
  using Pair = std::pair<std::size_t, int>;
  EXPECT_THAT(found("abcde"), ElementsAre(Pair(1, 2), Pair(2, 6), Pair(4, 4)));
  EXPECT_THAT(found("abc"), ElementsAre(Pair(1, 2), Pair(2, 6)));
  EXPECT_THAT(found("\xFF"), ElementsAre(Pair(1, 7)));
  EXPECT_THAT(found("x"), ElementsAre());
  EXPECT_THAT(found(""), ElementsAre());
  ByteTrie({}).for_each_prefix("a", [](std::size_t, int) { FAIL(); });
}

TEST(Unigram, AgreesWithAllSegmentations) {
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    std::map<std::string, double> scores;
    std::string vocab = R"(["<unk>", 0])";
    while (scores.size() < 10) {
      std::string token;
      for (std::size_t i = 1 + random() % 3; i > 0; --i) token += static_cast<char>('a' + random() % 3);
      const double score = -static_cast<double>(random() % 1000) / 64;
      if (scores.emplace(token, score).second) vocab += fmt::format(R"(, ["{}", {}])", token, score);
    }
    double lowest = 0;
    for (const auto& [token, score] : scores) lowest = std::min(lowest, score);
    const auto model = make(R"({"type": "Unigram", "unk_id": 0, "vocab": [)" + vocab + "]}");
    std::string word;
    for (int i = 0; i < 12; ++i) word += static_cast<char>('a' + random() % 3);
    // best[n] is the score of the first n characters.
    std::vector<double> best(word.size() + 1, -1e9);
    best[0] = 0;
    for (std::size_t begin = 0; begin < word.size(); ++begin) {
      for (std::size_t size = 1; size <= 3 && begin + size <= word.size(); ++size) {
        const auto known = scores.find(word.substr(begin, size));
        if (known != scores.end())
          best[begin + size] = std::max(best[begin + size], best[begin] + known->second);
      }
      if (!scores.contains(word.substr(begin, 1)))
        best[begin + 1] = std::max(best[begin + 1], best[begin] + lowest - 10);
    }
    std::vector<ModelToken> found;
    model->tokenize(word, found);
    double sum = 0;
    std::uint32_t end = 0;
    for (const ModelToken& token : found) {
      EXPECT_EQ(token.begin, end);
      end = token.end;
      sum += token.id == 0 ? (lowest - 10) * (token.end - token.begin)
                           : scores.at(std::string(*model->vocabulary().token(token.id)));
    }
    EXPECT_EQ(end, word.size());
    EXPECT_NEAR(sum, best.back(), 1e-9) << word;
  }
}

TEST(Unigram, UnknownCharacters) {
  const std::string vocab =
      R"("vocab": [["<unk>", 0.0], ["a", -1], ["b", -1.5], ["ab", -2], ["<0xC3>", -9], ["<0xA9>", -9]])";
  const auto model = make(R"({"type": "Unigram", "unk_id": 0, )" + vocab + "}");
  EXPECT_THAT(tokens(*model, "abxéyb"), ElementsAre("3:0-2", "0:2-6", "2:6-7")) << "unknown ones are fused";
  EXPECT_THAT(tokens(*model, "a<unk>x"), ElementsAre("1:0-1", "0:1-7"));
  const auto bytes = make(R"({"type": "Unigram", "unk_id": 0, "byte_fallback": true, )" + vocab + "}");
  EXPECT_THAT(tokens(*bytes, "aéb"), ElementsAre("1:0-1", "4:1-3", "5:1-3", "2:3-4"));
  EXPECT_THAT(tokens(*bytes, "éx"), ElementsAre("0:0-3")) << "<0x78> is missing: all of the run is unknown";
  // Without type the list says what it is; without unk_id what is known still works.
  const auto plain = make("{" + vocab + "}");
  EXPECT_THAT(tokens(*plain, "aab"), ElementsAre("1:0-1", "3:1-3"));
  EXPECT_THAT(error_of("{" + vocab + "}"), HasSubstr("unk_id"));
  const auto repeated = make(R"({"vocab": [["a", -1], ["a", -2]], "unk_id": null})");
  EXPECT_THAT(tokens(*repeated, "a"), ElementsAre("1:0-1")) << "the last one counts";
  EXPECT_EQ(repeated->vocabulary().token(0), "a");
}

TEST(Unigram, WrongFilesAreNamed) {
  EXPECT_THAT(error_of(R"({"type": "Unigram", "vocab": {}})"), HasSubstr("'vocab'"));
  EXPECT_THAT(error_of(R"({"vocab": [["a", -1], ["b"]]})"), HasSubstr("'vocab'[1]"));
  EXPECT_THAT(error_of(R"({"vocab": [["a", "b"]]})"), HasSubstr("'vocab'[0]"));
  EXPECT_THAT(error_of(R"({"vocab": [["a", -1]], "unk_id": 1})"), HasSubstr("unk_id"));
  EXPECT_THAT(error_of(R"({"vocab": []})"), HasSubstr("unk_id"));
}

TEST(WordPiece, LongestTokenAtEveryStep) {
  const std::string vocab =
      R"("vocab": {"[UNK]":0,"un":1,"##aff":2,"##able":3,"##a":4,"##b":5,"a":6,"é":7,"##é":8,"##ab":9})";
  const auto model =
      make(R"({"type": "WordPiece", "unk_token": "[UNK]", "max_input_chars_per_word": 9, )" + vocab + "}");
  EXPECT_THAT(tokens(*model, "unaffable"), ElementsAre("1:0-2", "2:2-5", "3:5-9"));
  EXPECT_THAT(tokens(*model, "aab"), ElementsAre("6:0-1", "9:1-3"));
  EXPECT_THAT(tokens(*model, "éé"), ElementsAre("7:0-2", "8:2-4"));
  EXPECT_THAT(tokens(*model, "unx"), ElementsAre("0:0-3")) << "no way on: the whole word";
  EXPECT_THAT(tokens(*model, "b"), ElementsAre("0:0-1"));
  EXPECT_THAT(tokens(*model, "ééééééééé").size(), 9) << "characters count, not bytes";
  EXPECT_THAT(tokens(*model, "aaaaaaaaaa"), ElementsAre("0:0-10"));
  EXPECT_THAT(tokens(*model, "##a"), ElementsAre("4:0-3")) << "as the reference does";
  const auto old = make(R"({"continuing_subword_prefix": "", )" + vocab + "}");
  EXPECT_THAT(tokens(*old, "una"), ElementsAre("1:0-2", "6:2-3")) << "no type";
  EXPECT_THAT(error_of(R"({"type": "WordPiece", "vocab": {"a": 0}})"), HasSubstr("[UNK]"));
  EXPECT_EQ(error_of(R"({"type": "WordPiece", "vocab": {"x": 0}})"), "no error");
}

TEST(WordLevel, WordsOrUnknown) {
  const auto model = make(R"({"type": "WordLevel", "unk_token": "?", "vocab": {"a": 0, "ab": 1, "?": 2}})");
  EXPECT_THAT(tokens(*model, "ab"), ElementsAre("1:0-2"));
  EXPECT_THAT(tokens(*model, "abc"), ElementsAre("2:0-3"));
  EXPECT_THAT(tokens(*make(R"({"vocab": {"ab": 1}})"), "ab"), ElementsAre("1:0-2")) << "no type";
  EXPECT_THAT(error_of(R"({"type": "WordLevel", "vocab": {"a": 0}})"), HasSubstr("<unk>"));
}

// A megabyte of one word. Anything quadratic takes hours here, and the test its time limit.
constexpr std::size_t kLong = 1'000'000;

TEST(LongWords, EveryModelIsLinear) {
  const std::string same(kLong, 'a');
  std::string mixed;
  std::mt19937 random(7);
  while (mixed.size() < kLong) mixed += static_cast<char>('a' + random() % 26);
  std::string unknown;
  while (unknown.size() < kLong) unknown += "\u4E2D";
  const std::vector<std::string> models = {
      R"({"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0], ["a", -1], ["aa", -1.5], ["aaaaaaaaaaaaaaaa", -4]]})",
      R"({"type": "Unigram", "unk_id": 0, "byte_fallback": true, "vocab": [["<unk>", 0], ["a", -1], ["b", -1.5]]})",
      R"({"type": "WordPiece", "vocab": {"[UNK]": 0, "a": 1, "##a": 2, "##aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa": 3}})",
      R"({"type": "WordPiece", "max_input_chars_per_word": 1000000000, "vocab": {"[UNK]": 0, "a": 1, "##a": 2, "##aaaaaaaa": 3}})",
      R"({"type": "WordLevel", "unk_token": "a", "vocab": {"a": 0}})",
      R"({"type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true, "merges": ["a a", "aa aa"],
          "vocab": {"<unk>": 0, "a": 1, "aa": 2, "aaaa": 3, "b": 4}})",
      R"({"type": "BPE", "ignore_merges": true, "unk_token": "<unk>", "merges": [], "vocab": {"<unk>": 0, "a": 1}})",
  };
  for (const std::string& json : models) {
    const auto model = make(json);
    for (const std::string& word : {same, mixed, unknown}) {
      std::vector<ModelToken> found;
      model->tokenize(word, found);
      ASSERT_FALSE(found.empty()) << json;
      EXPECT_EQ(found.front().begin, 0U);
      EXPECT_EQ(found.back().end, word.size());
    }
  }
}

TEST(LongWords, RealTokenizersToo) {
  PEREGRINE_REQUIRE_TEST_DATA("tokenizers/t5-small");
  std::string marks = "e";
  while (marks.size() < kLong) marks += "\u0301\u0323";
  std::string zeros(kLong, '\0');
  for (const std::string family : {"t5-small", "bert-base-uncased", "mistral-7b", "llama-2", "gpt2"}) {
    const auto tokenizer = testing::golden_tokenizer(family);
    for (const std::string& text : {std::string(kLong, 'a'), std::string(kLong, ' '), marks, zeros}) {
      const auto encoding = tokenizer->encode_with_offsets(text, {});
      EXPECT_EQ(encoding.ids.size(), encoding.offsets.size());
      EXPECT_EQ(encoding.ids, tokenizer->encode(text, {}));
    }
  }
}

}  // namespace
}  // namespace peregrine::text
