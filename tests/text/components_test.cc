// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/json.h"
#include "text/decoders.h"
#include "text/normalizers.h"
#include "text/pattern.h"
#include "text/post_processors.h"
#include "text/pre_tokenizers.h"
#include "text/tokenizer.h"
#include "tiny_tokenizer.h"

namespace peregrine::text {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

AlignedText normalized(const std::string& json, std::string_view text) {
  const boost::json::value value = core::parse_json(json, "file");
  AlignedText plain(text, 0, false);
  AlignedText aligned(text, 0, true);
  const auto normalizer = make_normalizer(core::JsonView(value, "normalizer"));
  normalizer->normalize(plain);
  normalizer->normalize(aligned);
  EXPECT_EQ(plain.text(), aligned.text());
  EXPECT_EQ(aligned.sources().size(), aligned.text().size());
  return aligned;
}

std::string normalize(const std::string& json, std::string_view text) {
  return std::string(normalized(json, text).text());
}

TEST(Normalizers, UnicodeForms) {
  const std::string nfc = R"({"type": "NFC"})";
  EXPECT_EQ(normalize(nfc, "e\u0301"), "\u00E9");
  EXPECT_EQ(normalize(nfc, "e\u0323\u0302"), "\u1EC7");
  EXPECT_EQ(normalize(nfc, "e\u0302\u0323"), "\u1EC7") << "marks in any order";
  EXPECT_EQ(normalize(nfc, "\u212B\u2126"), "\u00C5\u03A9");
  EXPECT_EQ(normalize(nfc, "\u1100\u1161\u11A8"), "\uAC01") << "Hangul";
  EXPECT_EQ(normalize(nfc, "\u0958"), "\u0915\u093C") << "an excluded composition";
  EXPECT_EQ(normalize(nfc, "a\u0315\u0300\u05AE\u0300b"), "\u00E0\u05AE\u0300\u0315b")
      << "NormalizationTest.txt, part 3";
  EXPECT_EQ(normalize(nfc, "plain ascii \xC3\xA9"), "plain ascii \xC3\xA9");
  EXPECT_EQ(normalize(R"({"type": "NFD"})", "\u1EC7\uAC01"), "e\u0323\u0302\u1100\u1161\u11A8");
  EXPECT_EQ(normalize(R"({"type": "NFKC"})", "\uFB01\u2460\uFF21"), "fi1A");
  EXPECT_EQ(normalize(R"({"type": "NFKD"})", "\u00E9\u2026"), "e\u0301...");
}

TEST(Normalizers, Others) {
  EXPECT_EQ(normalize(R"({"type": "Lowercase"})", "AÉİΣß"), "aéi\u0307σß");
  EXPECT_EQ(normalize(R"({"type": "StripAccents"})", "e\u0301\u0301o"), "eo");
  EXPECT_EQ(normalize(R"({"type": "Strip", "strip_left": true, "strip_right": true})", " \u3000a b\n"),
            "a b");
  EXPECT_EQ(normalize(R"({"type": "Strip", "strip_left": false, "strip_right": true})", " a "), " a");
  EXPECT_EQ(normalize(R"({"type": "Strip", "strip_left": true, "strip_right": true})", "  "), "");
  EXPECT_EQ(normalize(R"({"type": "Nmt"})", "a\x01\tb\u200B"), "a b ");
  EXPECT_EQ(normalize(R"({"type": "Prepend", "prepend": "▁"})", "a"), "▁a");
  EXPECT_EQ(normalize(R"({"type": "Prepend", "prepend": "▁"})", ""), "");
  EXPECT_EQ(normalize(R"({"type": "Replace", "pattern": {"String": " "}, "content": "▁"})", "a  b"), "a▁▁b");
  EXPECT_EQ(normalize(R"({"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "})", "a \n b"),
            "a b");
  EXPECT_EQ(normalize(R"({"type": "Replace", "pattern": {"String": ""}, "content": "-"})", "aé"), "-a-é-");
  EXPECT_EQ(normalize(R"({"type": "ByteLevel"})", "é b"), "Ã©Ġb");
  EXPECT_EQ(normalize(R"({"type": "Sequence", "normalizers": [{"type": "NFKD"}, {"type": "StripAccents"},
                          {"type": "Lowercase"}]})",
                      "Crème Brûlée…"),
            "creme brulee...");
  EXPECT_EQ(normalize(R"({"type": "Sequence", "normalizers": []})", "a"), "a");
}

TEST(Normalizers, KnowWhereTextCameFrom) {
  const AlignedText composed = normalized(R"({"type": "NFC"})", "xe\u0301y");
  EXPECT_EQ(composed.text(), "x\u00E9y");
  EXPECT_EQ(composed.source_of(0, 1), (Range{0, 1}));
  EXPECT_EQ(composed.source_of(1, 3), (Range{1, 2})) << "the composed character stands for its first part";
  EXPECT_EQ(composed.source_of(3, 4), (Range{4, 5}));
  const AlignedText replaced =
      normalized(R"({"type": "Replace", "pattern": {"String": "bb"}, "content": "xyz"})", "abbc");
  EXPECT_EQ(replaced.text(), "axyzc");
  EXPECT_EQ(replaced.source_of(4, 5), (Range{3, 4}));
  const AlignedText expanded = normalized(R"({"type": "NFKC"})", "\uFB01x");
  EXPECT_EQ(expanded.source_of(0, 1), (Range{0, 3}));
  EXPECT_EQ(expanded.source_of(1, 2), (Range{0, 3}));
  EXPECT_EQ(expanded.source_of(2, 3), (Range{3, 4}));
}

TEST(Normalizers, GrowthHasALimit) {
  const std::string grow =
      R"({"type": "Replace", "pattern": {"String": "a"}, "content": ")" + std::string(1000, 'a') + R"("})";
  const std::string json = R"({"type": "Sequence", "normalizers": [)" + grow + "," + grow + "," + grow + "]}";
  EXPECT_THROW(normalize(json, std::string(1000, 'a')), core::Error);
}

std::vector<std::string> pre_tokenize(const std::string& json, std::string_view text) {
  const boost::json::value value = core::parse_json(json, "file");
  PreTokenized pieces(true);
  const AlignedText section(text, 0, true);
  pieces.append(section, 0, section.text().size(), PreTokenized::kText);
  make_pre_tokenizer(core::JsonView(value, "pre_tokenizer"))->pre_tokenize(pieces);
  std::vector<std::string> out;
  for (const auto& piece : pieces.pieces()) out.emplace_back(pieces.text_of(piece));
  return out;
}

TEST(PreTokenizers, ByteLevel) {
  EXPECT_THAT(pre_tokenize(R"({"type": "ByteLevel", "add_prefix_space": false})", "I'll go  é2"),
              ElementsAre("I", "'ll", "Ġgo", "Ġ", "ĠÃ©", "2"));
  EXPECT_THAT(pre_tokenize(R"({"type": "ByteLevel", "add_prefix_space": true, "use_regex": false})", "a b"),
              ElementsAre("ĠaĠb"));
  EXPECT_THAT(pre_tokenize(R"({"type": "ByteLevel", "add_prefix_space": true})", " a"), ElementsAre("Ġa"));
}

TEST(PreTokenizers, Others) {
  EXPECT_THAT(pre_tokenize(R"({"type": "Digits", "individual_digits": false})", "a123²b"),
              ElementsAre("a", "123²", "b"));
  EXPECT_THAT(pre_tokenize(R"({"type": "Digits", "individual_digits": true})", "a12"),
              ElementsAre("a", "1", "2"));
  EXPECT_THAT(pre_tokenize(R"({"type": "Punctuation"})", "a!?b。"), ElementsAre("a", "!", "?", "b", "。"));
  EXPECT_THAT(pre_tokenize(R"({"type": "Punctuation", "behavior": "Contiguous"})", "a!?b"),
              ElementsAre("a", "!?", "b"));
  EXPECT_THAT(pre_tokenize(R"({"type": "Whitespace"})", " Hey, you_é!!  1\n"),
              ElementsAre("Hey", ",", "you_é", "!!", "1"));
  EXPECT_THAT(pre_tokenize(R"({"type": "WhitespaceSplit"})", " Hey, you\u3000x "),
              ElementsAre("Hey,", "you", "x"));
  EXPECT_THAT(pre_tokenize(R"({"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"},
                               {"type": "Digits", "individual_digits": true}]})",
                           "a1 2"),
              ElementsAre("a", "1", "2"));
}

TEST(PreTokenizers, SplitBehaviors) {
  const auto split = [](const std::string& behavior, std::string_view text, bool invert = false) {
    return pre_tokenize(R"({"type": "Split", "pattern": {"String": "-"}, "behavior": ")" + behavior +
                            R"(", "invert": )" + (invert ? "true}" : "false}"),
                        text);
  };
  const std::string text = "the-final--countdown";
  EXPECT_THAT(split("Removed", text), ElementsAre("the", "final", "countdown"));
  EXPECT_THAT(split("Isolated", text), ElementsAre("the", "-", "final", "-", "-", "countdown"));
  EXPECT_THAT(split("MergedWithPrevious", text), ElementsAre("the-", "final-", "-", "countdown"));
  EXPECT_THAT(split("MergedWithNext", text), ElementsAre("the", "-final", "-", "-countdown"));
  EXPECT_THAT(split("Contiguous", text), ElementsAre("the", "-", "final", "--", "countdown"));
  EXPECT_THAT(split("MergedWithPrevious", "-a-"), ElementsAre("-", "a-"));
  EXPECT_THAT(split("MergedWithNext", "-a-"), ElementsAre("-a", "-"));
  EXPECT_THAT(split("Removed", "a-b", true), ElementsAre("-"));
  EXPECT_THAT(split("Isolated", ""), ElementsAre());
  EXPECT_THAT(split("Removed", "---"), ElementsAre());
  EXPECT_THAT(pre_tokenize(R"({"type": "Split", "pattern": {"Regex": ""}, "behavior": "Isolated"})", "aéb"),
              ElementsAre("a", "é", "b"));
}

std::string decode(const std::string& json, const std::vector<std::string>& tokens) {
  class Collect final : public TokenSink {
   public:
    void part(std::string_view text) override { out += text; }
    void end_token() override { out += '|'; }
    void finish() override {}
    std::string out;
  } sink;
  const boost::json::value value = core::parse_json(json, "file");
  const auto decoder = make_decoder(core::JsonView(value, "decoder"));
  const auto chain = decoder->start(sink, false);
  for (const std::string& token : tokens) {
    chain->part(token);
    chain->end_token();
  }
  chain->finish();
  return sink.out;
}

TEST(Decoders, EachGivesTheTokensOfTheReference) {
  EXPECT_EQ(decode(R"({"type": "ByteLevel"})", {"Hey", "Ġyou", "Ã", "©", "<s >", "Ã"}),
            "Hey youé<s >\uFFFD|");
  EXPECT_EQ(decode(R"({"type": "Replace", "pattern": {"String": "▁"}, "content": " "})", {"▁a▁", "b"}),
            " a |b|");
  EXPECT_EQ(decode(R"({"type": "Replace", "pattern": {"Regex": "a+"}, "content": "x"})", {"baab", "aa"}),
            "bxb|x|");
  EXPECT_EQ(decode(R"({"type": "Fuse"})", {"a", "b"}), "ab|");
  EXPECT_EQ(decode(R"({"type": "Strip", "content": "H", "start": 1, "stop": 0})", {"Hey", " friend!", "HHH"}),
            "ey| friend!|HH|");
  EXPECT_EQ(decode(R"({"type": "Strip", "content": "y", "start": 0, "stop": 2})", {"Heyyy", "yay", "y", ""}),
            "Hey|ya|||");
  const std::string bytes = R"({"type": "ByteFallback"})";
  EXPECT_EQ(decode(bytes, {"Hey", "friend!"}), "Hey|friend!|");
  EXPECT_EQ(decode(bytes, {"<0x61>"}), "a|");
  EXPECT_EQ(decode(bytes, {"<0xE5>"}), "\uFFFD|");
  EXPECT_EQ(decode(bytes, {"<0xE5>", "<0x8f>", "<0xab>", "a"}), "叫|a|");
  EXPECT_EQ(decode(bytes, {"<0xE5>", "<0x8f>", "a"}), "\uFFFD|\uFFFD|a|");
  EXPECT_EQ(decode(bytes, {"<0xZZ>", "<0x>", "<0x1234>"}), "<0xZZ>|<0x>|<0x1234>|");
  EXPECT_EQ(
      decode(
          R"({"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                       {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})",
          {"▁▁a", "<0x0A>", "▁b"}),
      " a\n b|");
  EXPECT_EQ(decode(R"({"type": "Sequence", "decoders": []})", {"a", "b"}), "a|b|");
}

std::unique_ptr<const Tokenizer> tokenizer_of(const testing::TinyTokenizer& tiny) {
  return Tokenizer::parse(tiny.json(), "tiny");
}

TEST(PostProcessors, AddTokensAround) {
  testing::TinyTokenizer tiny;
  tiny.model = testing::byte_level_model();
  const auto ids = [&](const std::string& post_processor, bool add) {
    tiny.post_processor = post_processor;
    return tokenizer_of(tiny)->encode("ab", {.add_special_tokens = add});
  };
  const std::string roberta = R"({"type": "RobertaProcessing", "sep": ["x", 2], "cls": ["y", 0]})";
  EXPECT_THAT(ids(roberta, true), ElementsAre(0, 256, 2));
  EXPECT_THAT(ids(roberta, false), ElementsAre(256));
  EXPECT_THAT(ids(R"({"type": "BertProcessing", "sep": ["x", 2], "cls": ["y", 0]})", true),
              ElementsAre(0, 256, 2));
  const std::string words =
      R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "x", "type_id": 0}},
      {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "y", "type_id": 0}}], "pair": [],
      "special_tokens": {"x": {"id": "x", "ids": [5, 6], "tokens": ["a", "b"]}, "y": {"id": "y", "ids": [7], "tokens": ["c"]}}})";
  EXPECT_THAT(ids(words, true), ElementsAre(5, 6, 256, 7));
  EXPECT_THAT(ids(words, false), ElementsAre(256));
  EXPECT_THAT(ids(R"({"type": "Sequence", "processors": [{"type": "ByteLevel"}, )" + roberta + "]}", true),
              ElementsAre(0, 256, 2));
  EXPECT_THROW(ids(R"({"type": "BertProcessing", "sep": ["x", 2], "cls": ["y", 100000]})", true), core::Error)
      << "no such token";
}

struct AddedCase {
  const char* flags;
  const char* text;
  std::vector<std::int32_t> ids;
};

TEST(AddedTokens, FlagsDecideWhatMatches) {
  // 0 1 2 3 4 are "a" "b" "c" " " "_"; 10 is the added token "bc".
  const std::vector<AddedCase> cases = {
      {"", "abca", {0, 10, 0}},
      {"", "a bc a", {0, 3, 10, 3, 0}},
      {R"(, "single_word": true)", "abca", {0, 1, 2, 0}},
      {R"(, "single_word": true)", "a bc a", {0, 3, 10, 3, 0}},
      {R"(, "single_word": true)", "bc_", {1, 2, 4}},
      {R"(, "lstrip": true)", "a  bc a", {0, 10, 3, 0}},
      {R"(, "rstrip": true)", "a  bc  a", {0, 3, 3, 10, 0}},
      {R"(, "rstrip": true, "lstrip": true)", " bc  bc ", {10, 10}},
  };
  for (const AddedCase& expected : cases) {
    testing::TinyTokenizer tiny;
    tiny.pre_tokenizer = "null";
    tiny.model = testing::character_model("abc _");
    tiny.added_tokens = R"([{"id": 10, "content": "bc")" + std::string(expected.flags) + "}]";
    EXPECT_EQ(tokenizer_of(tiny)->encode(expected.text, {}), expected.ids)
        << expected.flags << ": " << expected.text;
  }
}

TEST(AddedTokens, LeftmostThenLongestAndNormalizedOrNot) {
  testing::TinyTokenizer tiny;
  tiny.pre_tokenizer = "null";
  tiny.normalizer = R"({"type": "Lowercase"})";
  tiny.model = testing::character_model("abcdef<>");
  tiny.added_tokens =
      R"([{"id": 10, "content": "ab", "normalized": true}, {"id": 11, "content": "ABC", "normalized": true},
      {"id": 12, "content": "BCDE", "normalized": true}, {"id": 13, "content": "<E>", "normalized": false, "special": true}])";
  const auto tokenizer = tokenizer_of(tiny);
  EXPECT_THAT(tokenizer->encode("abcde", {}), ElementsAre(11, 3, 4)) << "leftmost wins over longer";
  EXPECT_THAT(tokenizer->encode("aBd", {}), ElementsAre(10, 3)) << "normalized text is searched";
  EXPECT_THAT(tokenizer->encode("fbcde", {}), ElementsAre(5, 12));
  EXPECT_THAT(tokenizer->encode("a<E>b", {}), ElementsAre(0, 13, 1));
  EXPECT_THAT(tokenizer->encode("<e>", {}), ElementsAre(6, 4, 7)) << "this one only as written";
  EXPECT_THAT(tokenizer->encode("a<E>b", {.parse_special = false}), ElementsAre(0, 6, 4, 7, 1));
  EXPECT_THAT(tokenizer->encode("ab<E>", {.parse_special = false}), ElementsAre(10, 6, 4, 7));
  EXPECT_TRUE(tokenizer->is_special(13));
  EXPECT_FALSE(tokenizer->is_special(12));
  EXPECT_FALSE(tokenizer->is_special(-1));
  EXPECT_EQ(tokenizer->token_id("<E>"), 13);
  EXPECT_EQ(tokenizer->token_id("nothing"), std::nullopt);
  EXPECT_EQ(tokenizer->token(13), "<E>");
  EXPECT_EQ(tokenizer->token(9), std::nullopt) << "a hole";
  EXPECT_EQ(tokenizer->vocab_size(), 14);
  EXPECT_EQ(tokenizer->decode(std::vector<std::int32_t>{0, 13, 9, -5, 1 << 30, 1}, false), "a<E>b");
  EXPECT_EQ(tokenizer->decode(std::vector<std::int32_t>{0, 13, 1}, true), "ab");
}

TEST(Tokenizer, OldFormsOfFiles) {
  testing::TinyTokenizer tiny;
  tiny.model = testing::byte_level_model();
  const auto reference = tokenizer_of(tiny)->encode("abc abc aab", {});
  testing::TinyTokenizer old = tiny;
  old.model.replace(old.model.find(R"("type": "BPE", )"), std::string_view(R"("type": "BPE", )").size(), "");
  EXPECT_EQ(tokenizer_of(old)->encode("abc abc aab", {}), reference);
  testing::TinyTokenizer pairs = tiny;
  const std::string strings = R"(["a b", "ab c", "Ġ a", "Ġ ab", "a a"])";
  pairs.model.replace(pairs.model.find(strings), strings.size(),
                      R"([["a", "b"], ["ab", "c"], ["Ġ", "a"], ["Ġ", "ab"], ["a", "a"]])");
  EXPECT_EQ(tokenizer_of(pairs)->encode("abc abc aab", {}), reference);
  EXPECT_THAT(reference, ElementsAre(257, ' ', 257, 258, 256));
}

TEST(Tokenizer, WithoutDecoderTokensAreJoinedBySpaces) {
  testing::TinyTokenizer tiny;
  tiny.model = testing::character_model("abc");
  tiny.decoder = "null";
  EXPECT_EQ(tokenizer_of(tiny)->decode(std::vector<std::int32_t>{0, 1, 2}, false), "a b c");
  EXPECT_EQ(tokenizer_of(tiny)->decode(std::vector<std::int32_t>{}, false), "");
}

TEST(Tokenizer, InvalidUtf8CountsAsReplacementCharacters) {
  testing::TinyTokenizer tiny;
  tiny.model = testing::byte_level_model();
  const auto tokenizer = tokenizer_of(tiny);
  EXPECT_EQ(tokenizer->encode("a\xFF\xE4\xBD z", {}), tokenizer->encode("a\uFFFD\uFFFD z", {}));
  EXPECT_THROW(tokenizer->encode(std::string((64 << 20) + 1, 'a'), {}), core::Error);
}

}  // namespace
}  // namespace peregrine::text
