// SPDX-License-Identifier: Apache-2.0
#include "text/regex.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "text/regex_syntax.h"

namespace peregrine::text {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> find(std::string_view pattern, std::string_view text) {
  const Regex regex(pattern, "test");
  RegexSearch search(regex);
  std::vector<Range> matches;
  search.find_all(text, matches);
  std::vector<std::string> out;
  for (const Range& match : matches) out.emplace_back(text.substr(match.begin, match.end - match.begin));
  return out;
}

TEST(Regex, FindsSuccessiveMatches) {
  EXPECT_THAT(find("[0-9][0-9][0-9]", "12345678"), ElementsAre("123", "456"));
  EXPECT_THAT(find(R"(\s+(?!\S)|\s+)", "a  b   "), ElementsAre(" ", " ", "   "));
  EXPECT_THAT(find("é", "aéé你é"), ElementsAre("é", "é", "é"));
  EXPECT_THAT(find("x", std::string(100'000, 'a') + "x" + std::string(1000, 'b')), ElementsAre("x"));
  EXPECT_THAT(find("x", ""), ElementsAre());
}

TEST(Regex, EmptyMatches) {
  EXPECT_THAT(find("", "aé"), ElementsAre("", "", ""));
  EXPECT_THAT(find("a*", "baac"), ElementsAre("", "aa", "")) << "none directly behind another match";
  EXPECT_THAT(find("", ""), ElementsAre(""));
}

TEST(Regex, MeansWhatOnigurumaMeans) {
  EXPECT_THAT(find(R"(\p{Han}+|\p{^Greek}\p{greek})", "\u6F22\u3001\u5B57x\u03B1"),
              ElementsAre("\u6F22", "\u5B57", "x\u03B1"))
      << "the ideographic comma is used in Han, and is not of it";
  EXPECT_THAT(find(R"(\s)", "\xE1\xA0\x8E\xC2\x85\xE3\x80\x80\v"),
              ElementsAre("\xC2\x85", "\xE3\x80\x80", "\v"))
      << "U+180E is no white space";
  EXPECT_THAT(find(R"(\w+)", "e\xCC\x81_9½"), ElementsAre("e\xCC\x81_9"))
      << "marks and Pc are word characters, No is not";
  EXPECT_THAT(find(R"([^\s\p{L}\p{N}]+)", "a!?b $1"), ElementsAre("!?", "$"));
  EXPECT_THAT(find(R"(\h+)", "xbeefx "), ElementsAre("beef")) << "hexadecimal digits, not blanks";
  EXPECT_THAT(find(R"(^a$)", "a\nb\na"), ElementsAre("a", "a")) << "lines";
  EXPECT_THAT(find(R"(a.b)", "a\nb"), ElementsAre());
  EXPECT_THAT(find(R"((?m)a.b)", "a\nb"), ElementsAre("a\nb"));
  EXPECT_THAT(find(R"((?m:a.)b)", "a\nb"), ElementsAre("a\nb"));
  EXPECT_THAT(find(R"((?i:'s|'t)|x)", "'S'tX"), ElementsAre("'S", "'t"));
  EXPECT_THAT(find(R"(a{,2}b)", "aaab"), ElementsAre("aab"));
  EXPECT_THAT(find(R"(\p{N}{1,3}+)", "12345"), ElementsAre("12345")) << "a repeated interval";
  EXPECT_THAT(find(R"((ab){2}+c)", "ababababc"), ElementsAre("ababababc"));
  EXPECT_THAT(find(R"(\p{L}++\p{L}|x)", "abx"), ElementsAre("x")) << "possessive";
  EXPECT_THAT(find(R"([a[b-d]-]+)", "dab-e"), ElementsAre("dab-")) << "a nested class";
  // BLOOM's.
  EXPECT_THAT(find(R"( ?[^(\s|[.,!?…。，、।۔،])]+)", "Hello, (my) world…|x"),
              ElementsAre("Hello", "my", " world", "x"));
  EXPECT_THAT(find(R"([]a]+)", "a]b"), ElementsAre("a]"));
  EXPECT_THAT(find(R"([^]a]+)", "a]b"), ElementsAre("b"));
  EXPECT_THAT(find(R"([+[-.]]+)", "+,-."), ElementsAre("+", "-.")) << "flattening makes no range";
  EXPECT_THAT(find(R"([\u4e00-\u9fff]+)", "a你好b"), ElementsAre("你好"));
  EXPECT_THAT(find(R"(\p{Letter}+)", "ab1"), ElementsAre("ab"));
  EXPECT_THAT(find(R"(\p{^L}+)", "ab1"), ElementsAre("1"));
  EXPECT_THAT(find(R"([\p{Han}]+)", "ab你"), ElementsAre("你"));
  EXPECT_THAT(find(R"([[:alpha:]]+)", "é1"), ElementsAre("é"));
  EXPECT_THAT(find(R"(\bb+\b)", "b abb bb"), ElementsAre("b", "bb"));
  EXPECT_THAT(find(R"(\Bb)", "b ab"), ElementsAre("b"));
  EXPECT_THAT(find(R"((?<x>a)(?#note)\k<x>)", "aa"), ElementsAre("aa"));
  EXPECT_THAT(find(R"((?<=a)b|(?<!a)c)", "abcac"), ElementsAre("b", "c"));
  EXPECT_THAT(find(R"(a{x|\{)", "a{x{"), ElementsAre("a{x", "{"));
}

core::ErrorKind kind_of(std::string_view pattern) {
  try {
    const Regex regex(pattern, "tokenizer.json: 'pattern'");
  } catch (const core::Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("tokenizer.json: 'pattern'"));
    return error.kind();
  }
  return core::ErrorKind::kInternal;
}

TEST(Regex, RefusesWhatItCannotDo) {
  for (const char* pattern : {R"([a&&b])", R"([a[^b]])", R"(a\Kb)", R"(\C)", "(*ACCEPT)", R"((?~a))",
                              R"([\W])", R"((?x) a)", R"(ab(?i)c)", R"(\p{L)", "[a", R"(\u12)"}) {
    EXPECT_EQ(kind_of(pattern), core::ErrorKind::kUnsupported) << pattern;
  }
  for (const char* pattern : {"(", ")", "a**b(", R"(\p{Nonsense})", R"(\)", "(?", "(?<", "(?<n", "(?i",
                              "a{2,1}", "(a{1000}){1000}{1000}", "[b-a]", "(?<=a*)"}) {
    EXPECT_EQ(kind_of(pattern), core::ErrorKind::kInvalidArgument) << pattern;
  }
  EXPECT_EQ(kind_of(std::string(100'000, 'a')), core::ErrorKind::kInvalidArgument);
  EXPECT_EQ(kind_of(std::string(50'000, '(')), core::ErrorKind::kInvalidArgument);
  EXPECT_EQ(kind_of(std::string(50'000, '[')), core::ErrorKind::kUnsupported);
}

TEST(Regex, HopelessPatternsEnd) {
  for (const char* pattern : {"(a|aa)+$", "(a*)*[bd]", "(?:a+a+)+[bd]", "(x+x+)+y|(a+)+[bd]"}) {
    EXPECT_THROW(find(pattern, std::string(2000, 'a') + "c"), core::Error) << pattern;
  }
  // Long runs with a group in them need the large stack or the heap, but are no mistake.
  const std::string run(200'000, 'a');
  EXPECT_THAT(find("(?:a|b)+", run), ElementsAre(run));
}

}  // namespace
}  // namespace peregrine::text
