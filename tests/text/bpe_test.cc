// SPDX-License-Identifier: Apache-2.0
#include "text/bpe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "core/error.h"
#include "core/json.h"

namespace peregrine::text {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Bpe make(const std::string& json) {
  const boost::json::value value = core::parse_json(json, "model");
  return Bpe(core::JsonView(value, "model"));
}

std::vector<std::int32_t> ids(const Bpe& bpe, std::string_view piece) {
  std::vector<ModelToken> tokens;
  bpe.tokenize(piece, tokens);
  std::vector<std::int32_t> out;
  for (const ModelToken& token : tokens) out.push_back(token.id);
  return out;
}

/// A random vocabulary of strings over "abc" in which every merge makes a known token.
struct RandomVocabulary {
  std::vector<std::string> tokens = {"a", "b", "c"};
  std::vector<std::pair<std::string, std::string>> merges;

  explicit RandomVocabulary(std::mt19937& random) {
    std::set<std::string> known(tokens.begin(), tokens.end());
    std::set<std::pair<std::string, std::string>> paired;
    while (merges.size() < 60) {
      const std::string left = tokens[random() % tokens.size()];
      const std::string right = tokens[random() % tokens.size()];
      if (left.size() + right.size() > 12 || !paired.insert({left, right}).second) continue;
      merges.emplace_back(left, right);
      if (known.insert(left + right).second) tokens.push_back(left + right);
    }
  }

  std::string json(bool pairs) const {
    std::string vocab;
    for (std::size_t i = 0; i < tokens.size(); ++i)
      vocab += fmt::format(R"({}"{}": {})", i > 0 ? "," : "", tokens[i], i);
    std::string list;
    for (const auto& [left, right] : merges) {
      list += list.empty() ? "" : ",";
      list += pairs ? fmt::format(R"(["{}","{}"])", left, right) : fmt::format(R"("{} {}")", left, right);
    }
    return fmt::format(R"({{"vocab": {{{}}}, "merges": [{}]}})", vocab, list);
  }

  /// The definition of BPE: join the leftmost pair of the lowest rank until no pair has one.
  std::vector<std::string> encode(const std::string& text) const {
    std::map<std::pair<std::string, std::string>, std::size_t> ranks;
    for (std::size_t i = 0; i < merges.size(); ++i) ranks[merges[i]] = i;
    std::vector<std::string> symbols;
    for (const char c : text) symbols.emplace_back(1, c);
    for (;;) {
      std::size_t best = merges.size();
      std::size_t at = 0;
      for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
        const auto rank = ranks.find({symbols[i], symbols[i + 1]});
        if (rank != ranks.end() && rank->second < best) {
          best = rank->second;
          at = i;
        }
      }
      if (best == merges.size()) return symbols;
      symbols[at] += symbols[at + 1];
      symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(at) + 1);
    }
  }
};

TEST(Bpe, AgreesWithItsDefinitionOnShortAndLongWords) {
  std::mt19937 random(1);
  for (int round = 0; round < 40; ++round) {
    const RandomVocabulary vocabulary(random);
    const Bpe bpe = make(vocabulary.json(round % 2 == 0));
    for (const int size : {1, 2, 3, 7, 20, 47, 48, 49, 50, 200}) {
      std::string word;
      for (int i = 0; i < size; ++i) word += static_cast<char>('a' + random() % (round % 3 + 1));
      std::vector<ModelToken> tokens;
      bpe.tokenize(word, tokens);
      std::vector<std::string> texts;
      for (const ModelToken& token : tokens) {
        texts.emplace_back(*bpe.vocabulary().token(token.id));
        EXPECT_EQ(word.substr(token.begin, token.end - token.begin), texts.back());
      }
      ASSERT_EQ(texts, vocabulary.encode(word)) << word;
    }
  }
}

TEST(Bpe, LongWordsAreNotQuadratic) {
  const Bpe bpe = make(R"({"vocab": {"a":0,"aa":1,"aaaa":2}, "merges": ["a a", "aa aa"]})");
  // With a quadratic algorithm this would take many minutes.
  EXPECT_EQ(ids(bpe, std::string(1'000'000, 'a')).size(), 250'000U);
}

TEST(Bpe, UnknownCharacters) {
  const std::string vocab = R"("vocab": {"a":0,"<unk>":1,"<0xC3>":2,"<0xA9>":3}, "merges": [])";
  EXPECT_THAT(ids(make("{" + vocab + "}"), "axya"), ElementsAre(0, 0));
  EXPECT_THAT(ids(make("{" + vocab + R"(, "unk_token": "<unk>"})"), "axya"), ElementsAre(0, 1, 1, 0));
  EXPECT_THAT(ids(make("{" + vocab + R"(, "unk_token": "<unk>", "fuse_unk": true})"), "axya"),
              ElementsAre(0, 1, 0));
  const Bpe bytes = make("{" + vocab + R"(, "unk_token": "<unk>", "byte_fallback": true})");
  EXPECT_THAT(ids(bytes, "aéx"), ElementsAre(0, 2, 3, 1));
  EXPECT_THAT(ids(bytes, "è"), ElementsAre(1)) << "<0xA8> is missing: the whole character is unknown";
  const Bpe missing = make("{" + vocab + R"(, "unk_token": "[UNK]"})");
  EXPECT_THAT(ids(missing, "aa"), ElementsAre(0, 0));
  EXPECT_THROW(ids(missing, "x"), core::Error);
}

TEST(Bpe, PrefixSuffixAndIgnoredMerges) {
  const Bpe affixes = make(
      R"({"vocab": {"a":0,"##b":1,"##b</w>":2,"a##b":9,"ab</w>":3,"a</w>":4,"ab":5}, "merges": [["a","##b"],["a","##b</w>"]],
          "continuing_subword_prefix": "##", "end_of_word_suffix": "</w>"})");
  EXPECT_THAT(ids(affixes, "ab"), ElementsAre(3));
  EXPECT_THAT(ids(affixes, "a"), ElementsAre(4));
  EXPECT_THAT(ids(affixes, "abb"), ElementsAre(5, 2));
  const std::string vocab = R"({"vocab": {"a":0,"b":1,"c":2,"ab":3,"abc":4}, "merges": ["a b"])";
  EXPECT_THAT(ids(make(vocab + "}"), "abc"), ElementsAre(3, 2));
  EXPECT_THAT(ids(make(vocab + R"(, "ignore_merges": true})"), "abc"), ElementsAre(4));
}

std::string error_of(const std::string& json) {
  try {
    make(json);
  } catch (const core::Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Bpe, WrongFilesAreNamed) {
  EXPECT_THAT(error_of(R"({"vocab": {"a":0}, "merges": ["a b"]})"),
              AllOf(HasSubstr("merge 0"), HasSubstr("'b'")));
  EXPECT_THAT(error_of(R"({"vocab": {"a":0,"b":1}, "merges": ["a b"]})"), HasSubstr("'ab'"));
  EXPECT_THAT(error_of(R"({"vocab": {"a":0,"b":1}, "merges": ["a"]})"), HasSubstr("'merges'[0]"));
  EXPECT_THAT(error_of(R"({"vocab": {"a":0,"b":1}, "merges": ["a b c"]})"), HasSubstr("'merges'[0]"));
  EXPECT_THAT(error_of(R"({"vocab": {"a":0,"b":1}, "merges": [["a", 1]]})"), HasSubstr("'merges'[0]"));
  EXPECT_THAT(error_of(R"({"vocab": {"a":0,"b":1}, "merges": [["a"]]})"), HasSubstr("'merges'[0]"));
  EXPECT_THAT(error_of(R"({"vocab": {"a":0,"b":0}, "merges": []})"),
              AllOf(HasSubstr("'a'"), HasSubstr("same id 0")));
  EXPECT_THAT(error_of(R"({"vocab": {"a":-1}, "merges": []})"), HasSubstr("-1"));
  EXPECT_THAT(error_of(R"({"vocab": {"a":2147483647}, "merges": []})"), HasSubstr("2147483647"));
  EXPECT_THAT(error_of(R"({"vocab": {"a":1e3}, "merges": []})"), HasSubstr("an integer"));
  EXPECT_THAT(error_of(R"({"vocab": {"a":18446744073709551615}, "merges": []})"), HasSubstr("an integer"));
  EXPECT_THAT(error_of(R"({"vocab": [], "merges": []})"), HasSubstr("'vocab'"));
  EXPECT_THAT(error_of(R"({"vocab": {}})"), HasSubstr("'merges'"));
  EXPECT_THAT(error_of(R"({"vocab": {}, "merges": {}})"), HasSubstr("'merges'"));
  EXPECT_THAT(error_of(R"({"vocab": {}, "merges": [], "dropout": 0.1})"), HasSubstr("dropout"));
  EXPECT_THAT(error_of(R"({"vocab": {}, "merges": [], "fuse_unk": 1})"), HasSubstr("fuse_unk"));
  EXPECT_EQ(error_of(R"({"vocab": {}, "merges": [], "dropout": 0})"), "no error");
}

}  // namespace
}  // namespace peregrine::text
