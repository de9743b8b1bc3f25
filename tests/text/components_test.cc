// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>

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

TEST(Normalizers, Bert) {
  const std::string text = "H\u00E9llo\t\x01W\u00D6rld\u4F60\u597D\u200B\uE000\u00A0!";
  EXPECT_EQ(normalize(R"({"type": "BertNormalizer"})", text), "hello world \u4F60  \u597D  !");
  EXPECT_EQ(normalize(R"({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": false,
                          "strip_accents": null, "lowercase": false})",
                      text),
            "H\u00E9llo W\u00D6rld\u4F60\u597D !");
  EXPECT_EQ(normalize(R"({"type": "BertNormalizer", "clean_text": false, "handle_chinese_chars": false,
                          "strip_accents": false, "lowercase": true})",
                      "\tH\u00C9"),
            "\th\u00E9");
  EXPECT_EQ(normalize(R"({"type": "BertNormalizer", "lowercase": false, "strip_accents": true})", "\u00C9"),
            "E");
  const AlignedText aligned = normalized(R"({"type": "BertNormalizer"})", "a\u4F60b");
  EXPECT_EQ(aligned.text(), "a \u4F60 b");
  EXPECT_EQ(aligned.source_of(1, 6), (Range{1, 4}));
  EXPECT_EQ(aligned.source_of(6, 7), (Range{4, 5}));
}

std::string base64(std::string_view bytes) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t bits = 0;
    for (std::size_t k = 0; k < 3; ++k)
      bits = bits << 8 | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0U);
    for (std::size_t k = 0; k < 4; ++k)
      out += i + k > bytes.size() ? '=' : kDigits[bits >> (18 - 6 * k) & 63];
  }
  return out;
}

/// A charsmap of some rules. Node n of the trie has units [256 (n + 1), 256 (n + 2)) for its children.
std::string charsmap(const std::vector<std::pair<std::string, std::string>>& rules) {
  struct Node {
    std::map<unsigned char, std::size_t> children;
    std::optional<std::uint32_t> value;
  };
  std::vector<Node> nodes(1);
  std::string replacements;
  for (const auto& [from, to] : rules) {
    std::size_t node = 0;
    for (const char c : from) {
      const auto [child, added] = nodes[node].children.emplace(c, nodes.size());
      node = child->second;
      if (added) nodes.emplace_back();
    }
    nodes[node].value = static_cast<std::uint32_t>(replacements.size());
    replacements += to + '\0';
  }
  std::vector<std::uint32_t> units(256 * (nodes.size() + 1));
  std::vector<std::uint32_t> position(nodes.size());
  for (std::size_t n = 0; n < nodes.size(); ++n) {
    const auto base = static_cast<std::uint32_t>(256 * (n + 1));
    units[position[n]] |= (position[n] ^ base) << 10;
    if (nodes[n].value) {
      units[position[n]] |= 1U << 8;
      units[base] = *nodes[n].value | 1U << 31;
    }
    for (const auto& [label, child] : nodes[n].children) {
      position[child] = base + label;
      units[position[child]] = label;
    }
  }
  std::string blob;
  const auto put = [&](std::uint32_t value) {
    for (int i = 0; i < 4; ++i) blob += static_cast<char>(value >> (8 * i));
  };
  put(static_cast<std::uint32_t>(units.size() * 4));
  for (const std::uint32_t unit : units) put(unit);
  return base64(blob + replacements);
}

std::string precompiled(const std::string& map) {
  return R"({"type": "Precompiled", "precompiled_charsmap": ")" + map + R"("})";
}

TEST(Normalizers, Precompiled) {
  const std::string json = precompiled(charsmap(
      {{"\u00BD", "1/2"}, {"\x07", ""}, {"e\u0301", "\u00E9"}, {"A", "a"}, {"o", "0"}, {"\r\n", "\n"}}));
  EXPECT_EQ(normalize(json, "x\u00BDA"), "x1/2a");
  EXPECT_EQ(normalize(json, "a\x07z"), "az");
  EXPECT_EQ(normalize(json, "e\u0301z"), "\u00E9z") << "a whole grapheme cluster";
  EXPECT_EQ(normalize(json, "e\u0301\u0301\u0301A"), "e\u0301\u0301\u0301a")
      << "a cluster of 7 bytes: by character";
  EXPECT_EQ(normalize(json, "o\u0301"), "0") << "a rule for the start of a small cluster takes all of it";
  EXPECT_EQ(normalize(json, "\r\nz\r"), "\nz\r");
  EXPECT_EQ(normalize(json, ""), "");
  const AlignedText aligned = normalized(json, "x\u00BDy\x07z");
  EXPECT_EQ(aligned.text(), "x1/2yz");
  EXPECT_EQ(aligned.source_of(1, 4), (Range{1, 3}));
  EXPECT_EQ(aligned.source_of(4, 5), (Range{3, 4}));
  EXPECT_EQ(aligned.source_of(5, 6), (Range{5, 6}));
}

TEST(Normalizers, PrecompiledDamaged) {
  const std::string good = charsmap({{"A", "a"}});
  for (const std::string& map : {std::string(), std::string("A"), std::string("AAA="),
                                 std::string("AAAAAA=="), std::string("/////w=="), std::string("BAAAAA=="),
                                 std::string("BAAAAAAAAAD/"), "*" + good.substr(1)}) {
    EXPECT_THROW(normalize(precompiled(map), "A"), core::Error) << map;
  }
  // A trie that leads nowhere has no rules.
  EXPECT_EQ(normalize(precompiled("BAAAAP////8="), "A"), "A");
  std::mt19937 random(2);
  for (int round = 0; round < 200; ++round) {
    std::string blob(std::size_t{4 + 64 + random() % 8}, '\0');
    for (char& c : blob) c = static_cast<char>(random());
    blob.replace(0, 4, std::string("\x40\0\0\0", 4));
    for (std::size_t i = 68; i < blob.size(); ++i) blob[i] &= 0x7F;
    normalize(precompiled(base64(blob)), "Aa\u00BD \x01\x02 zzz");
  }
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

TEST(PreTokenizers, Metaspace) {
  const auto metaspace = [](const std::string& more, std::string_view text) {
    return pre_tokenize(R"({"type": "Metaspace", "replacement": "▁")" + more + "}", text);
  };
  EXPECT_THAT(metaspace("", "Hey  friend!"), ElementsAre("▁Hey", "▁", "▁friend!"));
  EXPECT_THAT(metaspace(R"(, "str_rep": "▁", "add_prefix_space": true)", "a b"), ElementsAre("▁a", "▁b"));
  EXPECT_THAT(metaspace(R"(, "add_prefix_space": false)", "a b"), ElementsAre("a", "▁b"));
  EXPECT_THAT(metaspace(R"(, "prepend_scheme": "always")", " a"), ElementsAre("▁a"));
  EXPECT_THAT(metaspace(R"(, "prepend_scheme": "always")", "▁a"), ElementsAre("▁a"));
  EXPECT_THAT(metaspace(R"(, "prepend_scheme": "never")", "a b"), ElementsAre("a", "▁b"));
  EXPECT_THAT(metaspace(R"(, "prepend_scheme": "first", "split": false)", "a b "), ElementsAre("▁a▁b▁"));
  EXPECT_THAT(metaspace(R"(, "split": true)", "  "), ElementsAre("▁", "▁"));
  const std::string words = R"({"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, )";
  EXPECT_THAT(pre_tokenize(
                  words + R"({"type": "Metaspace", "replacement": "_", "prepend_scheme": "first"}]})", "a b"),
              ElementsAre("_a", "b"));
  EXPECT_THAT(
      pre_tokenize(words + R"({"type": "Metaspace", "replacement": "_", "prepend_scheme": "always"}]})",
                   "a b"),
      ElementsAre("_a", "_b"));
  for (const std::string wrong : {R"(, "prepend_scheme": "sometimes")", R"(, "split": 1)",
                                  R"(, "prepend_scheme": "first", "add_prefix_space": false)"}) {
    EXPECT_THROW(metaspace(wrong, "a"), core::Error) << wrong;
  }
  EXPECT_THROW(pre_tokenize(R"({"type": "Metaspace", "replacement": "ab"})", "a"), core::Error);
  EXPECT_THROW(pre_tokenize(R"({"type": "Metaspace", "replacement": ""})", "a"), core::Error);
}

TEST(PreTokenizers, MetaspaceKnowsTheFirstSection) {
  testing::TinyTokenizer tiny;
  tiny.pre_tokenizer = R"({"type": "Metaspace", "replacement": "_", "prepend_scheme": "first"})";
  tiny.model = testing::character_model("ab_<>");
  tiny.added_tokens = R"([{"id": 10, "content": "<b>", "normalized": false}])";
  const auto ids = [&](std::string_view text) {
    const auto tokenizer = Tokenizer::parse(tiny.json(), "tiny");
    const auto found = tokenizer->encode(text, {});
    EXPECT_EQ(tokenizer->encode_with_offsets(text, {}).ids, found) << "with offsets";
    return found;
  };
  EXPECT_THAT(ids("a<b>a"), ElementsAre(2, 0, 10, 0));
  EXPECT_THAT(ids("<b>a"), ElementsAre(10, 0));
  tiny.normalizer = R"({"type": "Strip", "strip_left": true, "strip_right": false})";
  EXPECT_THAT(ids("a<b> a"), ElementsAre(2, 0, 10, 0));
  EXPECT_THAT(ids("  a"), ElementsAre(0)) << "what is left does not begin where the text does";
}

TEST(PreTokenizers, MetaspaceKnowsTheFirstSectionOfRewrittenText) {
  // The values are those of the tokenizers library: all that stands for the first character is first.
  testing::TinyTokenizer tiny;
  tiny.pre_tokenizer = R"({"type": "Sequence", "pretokenizers": [
      {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false},
      {"type": "Punctuation", "behavior": "Isolated"},
      {"type": "Metaspace", "replacement": "_", "prepend_scheme": "first", "split": false}]})";
  tiny.model = R"({"type": "WordLevel", "unk_token": "u", "vocab": {"u": 0, "_ï": 1, "¿": 2, "½": 3, "_¿": 4,
                   "_½": 5, "ï": 6, "½ï": 7, "_½ï": 8}})";
  const auto tokenizer = Tokenizer::parse(tiny.json(), "tiny");
  EXPECT_THAT(tokenizer->encode("\uFFFD", {}), ElementsAre(1, 4, 5));
  EXPECT_THAT(tokenizer->encode("\uFFFD\uFFFD", {}), ElementsAre(1, 4, 8, 2, 3));
  EXPECT_THAT(tokenizer->encode_with_offsets("\uFFFD\uFFFD", {}).ids, ElementsAre(1, 4, 8, 2, 3));
}

TEST(PreTokenizers, WordsAndScripts) {
  EXPECT_THAT(pre_tokenize(R"({"type": "BertPreTokenizer"})", " Hey, you\u3000x\u3002$1 "),
              ElementsAre("Hey", ",", "you", "x", "\u3002", "$", "1"));
  EXPECT_THAT(
      pre_tokenize(R"({"type": "CharDelimiterSplit", "delimiter": "\u00E9"})", "a\u00E9\u00E9bc\u00E9"),
      ElementsAre("a", "bc"));
  EXPECT_THROW(pre_tokenize(R"({"type": "CharDelimiterSplit", "delimiter": "ab"})", "a"), core::Error);
  EXPECT_THAT(pre_tokenize(R"({"type": "FixedLength", "length": 2})", "a\u00E9bcd"),
              ElementsAre("a\u00E9", "bc", "d"));
  EXPECT_THROW(pre_tokenize(R"({"type": "FixedLength", "length": 0})", "a"), core::Error);
  const std::string scripts = R"({"type": "UnicodeScripts"})";
  EXPECT_THAT(pre_tokenize(scripts, "どこで生れ。Yes"), ElementsAre("どこで生れ", "。", "Yes"));
  EXPECT_THAT(pre_tokenize(scripts, "Apples are りんご 林檎"), ElementsAre("Apples are ", "りんご 林檎"));
  EXPECT_THAT(pre_tokenize(scripts, "グー$ 1-2 АБ"), ElementsAre("グー", "$ 1-2 ", "АБ"));
  EXPECT_THAT(pre_tokenize(scripts, "  a"), ElementsAre("a")) << "spaces in front belong to no script";
  EXPECT_THAT(pre_tokenize(scripts, "  "), ElementsAre());
  EXPECT_THAT(pre_tokenize(scripts, "\u05D0\u0378b"), ElementsAre("\u05D0\u0378", "b"))
      << "U+0378 is not assigned";
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
  const std::string metaspace = R"({"type": "Metaspace", "replacement": "▁", )";
  EXPECT_EQ(decode(metaspace + R"("add_prefix_space": true})", {"▁Hey▁", "▁you▁"}), "Hey| you |");
  EXPECT_EQ(decode(metaspace + R"("prepend_scheme": "never"})", {"▁Hey", "▁you"}), " Hey| you|");
  EXPECT_EQ(decode(metaspace + R"("prepend_scheme": "first"})", {"", "▁you"}), "| you|");
  EXPECT_EQ(decode(R"({"type": "WordPiece", "prefix": "##", "cleanup": false})",
                   {"##uelo", "Ara", "##új", "##o", "No", "##guera", "."}),
            "##uelo| Ara|új|o| No|guera| .|");
  EXPECT_EQ(decode(R"({"type": "WordPiece"})", {"I", "'m", "no", ",", "n't", "##!", "do not", " ' x"}),
            "I|'m| no|,|n't|!| don't| 'x|");
  EXPECT_EQ(decode(R"({"type": "BPEDecoder", "suffix": "</w>"})", {"a", "b</w>", "c</w>d</w>"}), "a|b |cd|");
  EXPECT_EQ(decode(R"({"type": "BPEDecoder"})", {}), "");
  EXPECT_EQ(decode(R"({"type": "BPEDecoder"})", {"a</w>b</w>", "</w>"}), "a b ||");
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

TEST(AddedTokens, WhiteSpaceIsTakenAlongOnce) {
  // 0 1 2 are "a" " " "b"; 10 takes the white space behind it along, and the other ones are white space too.
  const auto ids = [](const std::string& others, const std::string& text) {
    testing::TinyTokenizer tiny;
    tiny.pre_tokenizer = "null";
    tiny.model = testing::character_model("a b");
    tiny.added_tokens = R"([{"id": 10, "content": "<m>", "rstrip": true}, )" + others + "]";
    const auto tokenizer = tokenizer_of(tiny);
    EXPECT_EQ(tokenizer->encode_with_offsets(text, {}).ids, tokenizer->encode(text, {}));
    return tokenizer->encode(text, {});
  };
  EXPECT_THAT(ids(R"({"id": 11, "content": "  ", "lstrip": true})", "a<m>   b"), ElementsAre(0, 10, 2));
  EXPECT_THAT(ids(R"({"id": 1, "content": " ", "lstrip": true})", "<m>   b"), ElementsAre(10, 1, 2))
      << "what ends where the white space does is left, of no text";
  EXPECT_THAT(ids(R"({"id": 11, "content": " b", "lstrip": true})", "<m>   b"), ElementsAre(10, 11));
  // Without lstrip the token is there as if nothing had been taken, as the reference has it.
  EXPECT_THAT(ids(R"({"id": 11, "content": "  "})", "a<m>   b"), ElementsAre(0, 10, 11, 1, 2));
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

TEST(Tokenizer, KeepsAtMostSoManyTokens) {
  testing::TinyTokenizer tiny;
  tiny.model = testing::character_model("abcd[]");
  tiny.pre_tokenizer = "null";
  tiny.post_processor = R"({"type": "BertProcessing", "cls": ["[", 4], "sep": ["]", 5]})";
  const auto ids = [&](std::size_t most, bool special) {
    return tokenizer_of(tiny)->encode("abcd", {.add_special_tokens = special, .max_tokens = most});
  };
  EXPECT_THAT(ids(6, true), ElementsAre(4, 0, 1, 2, 3, 5));
  EXPECT_THAT(ids(5, true), ElementsAre(4, 0, 1, 2, 5));
  EXPECT_THAT(ids(1, true), ElementsAre(4, 5));
  EXPECT_THAT(ids(3, false), ElementsAre(0, 1, 2));
  EXPECT_THAT(ids(0, false), ElementsAre());
  EXPECT_EQ(tokenizer_of(tiny)->truncation_length(), std::nullopt);
  std::string json = tiny.json();
  json.insert(
      1,
      R"("truncation": {"direction": "Left", "max_length": 4, "strategy": "LongestFirst", "stride": 0}, )");
  const auto left = Tokenizer::parse(json, "left");
  EXPECT_EQ(left->truncation_length(), 4U);
  const auto encoding = left->encode_with_offsets("abcd", {.max_tokens = 4});
  EXPECT_THAT(encoding.ids, ElementsAre(4, 2, 3, 5));
  EXPECT_EQ(encoding.offsets.at(1), (CodePointRange{2, 3}));
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
