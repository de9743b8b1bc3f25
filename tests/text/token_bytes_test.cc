// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "golden_data.h"
#include "support/test_data.h"
#include "text/tokenizer.h"
#include "text/unicode.h"
#include "tiny_tokenizer.h"

namespace peregrine::text {
namespace {

using testing::golden_tokenizer;

std::string quoted_list(const std::vector<std::string>& tokens) {
  std::string out;
  for (std::size_t i = 0; i < tokens.size(); ++i)
    out += fmt::format("{}\"{}\": {}", i == 0 ? "" : ", ", tokens[i], i);
  return out;
}

/// A tokenizer with these tokens, and this decoder.
std::unique_ptr<const Tokenizer> with_decoder(const std::string& decoder,
                                              const std::vector<std::string>& tokens) {
  testing::TinyTokenizer tiny;
  tiny.decoder = decoder;
  tiny.model = R"({"type": "WordLevel", "unk_token": "", "vocab": {)" + quoted_list(tokens) + "}}";
  tiny.added_tokens = R"([{"id": 90, "content": "<special>", "special": true},
                          {"id": 91, "content": "<plain>", "special": false}])";
  return Tokenizer::parse(tiny.json(), "tiny");
}

std::vector<std::string> bytes_of(const Tokenizer& tokenizer, std::size_t count) {
  std::vector<std::string> out;
  for (std::size_t id = 0; id < count; ++id)
    out.push_back(tokenizer.token_bytes(static_cast<std::int32_t>(id)));
  return out;
}

struct DecoderCase {
  const char* decoder;
  std::vector<std::string> tokens;
  std::vector<std::string> bytes;
};

TEST(TokenBytes, AreWhatATokenAddsToAText) {
  const std::vector<DecoderCase> cases = {
      {R"({"type": "ByteLevel"})", {"Ġa", "Ã©", "Ã", "a b", "Ċ"}, {" a", "\xC3\xA9", "\xC3", "a b", "\n"}},
      {R"({"type": "ByteFallback"})", {"<0x0A>", "<0xff>", "<0xZZ>", "a"}, {"\n", "\xFF", "<0xZZ>", "a"}},
      {R"({"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})",
       {"▁a", "a▁▁b", "<0x20>", "<0xE5>", "▁"},
       {" a", "a  b", " ", "\xE5", " "}},
      {R"({"type": "Metaspace", "replacement": "▁", "add_prefix_space": true})",
       {"▁a", "a", "▁"},
       {" a", "a", " "}},
      {R"({"type": "WordPiece", "prefix": "##", "cleanup": true})",
       {"word", "##s", ".", "n't"},
       {" word", "s", ".", "n't"}},
      {R"({"type": "BPEDecoder", "suffix": "</w>"})", {"a</w>", "b"}, {"a ", "b"}},
      {R"({"type": "Strip", "content": "_", "start": 1, "stop": 2})", {"__a___", "_"}, {"_a_", ""}},
      {"null", {"a", "b"}, {" a", " b"}},
  };
  for (const DecoderCase& expected : cases) {
    const auto tokenizer = with_decoder(expected.decoder, expected.tokens);
    EXPECT_EQ(bytes_of(*tokenizer, expected.tokens.size()), expected.bytes) << expected.decoder;
    EXPECT_EQ(tokenizer->token_bytes(90), "") << "special";
    EXPECT_NE(tokenizer->token_bytes(91), "") << "added, but plain";
    for (const std::int32_t unused : {-1, 50, 92, 1 << 30}) EXPECT_EQ(tokenizer->token_bytes(unused), "");
  }
}

std::string joined(const Tokenizer& tokenizer, const std::vector<std::int32_t>& ids) {
  std::string out;
  for (const std::int32_t id : ids) out += tokenizer.token_bytes(id);
  return out;
}

class GoldenTokenBytes : public ::testing::TestWithParam<std::string> {
 protected:
  /// Calls `check` with each text that has no special token, its ids and the decoded text.
  template <typename Check>
  void for_each_text(const Check& check) const {
    const auto tokenizer = golden_tokenizer(GetParam());
    std::size_t count = 0;
    for (const auto& row : testing::read_lines(testing::family_folder(GetParam()) / "cases.jsonl.gz")) {
      if (!row.at("parse_special").as_bool() || row.at("add_special_tokens").as_bool()) continue;
      const std::string text = testing::string_of(row.at("text"));
      const auto ids = tokenizer->encode(text, {.add_special_tokens = false});
      if (std::any_of(ids.begin(), ids.end(), [&](auto id) { return tokenizer->is_special(id); })) continue;
      SCOPED_TRACE(core::quoted(text));
      check(text, joined(*tokenizer, ids), testing::string_of(row.at("decoded")));
      ++count;
    }
    EXPECT_GT(count, 150U);
  }
};

class ByteLevelTokenBytes : public GoldenTokenBytes {};

TEST_P(ByteLevelTokenBytes, AreTheTextItself) {
  PEREGRINE_REQUIRE_TEST_DATA("tokenizers/" + GetParam());
  // Without a prefix space and without normalization, bytes are the text; with NFC the decoded text is.
  for_each_text([](const std::string& text, const std::string& bytes, const std::string& decoded) {
    EXPECT_EQ(bytes, decoded);
    static_cast<void>(text);
  });
}

INSTANTIATE_TEST_SUITE_P(Families, ByteLevelTokenBytes,
                         ::testing::Values("gpt2", "gpt-neox-20b", "llama-3", "qwen2.5", "roberta-base",
                                           "starcoder2", "opt", "phi-2", "falcon"),
                         [](const auto& parameter) {
                           std::string name = parameter.param;
                           std::replace_if(
                               name.begin(), name.end(), [](char c) { return c == '-' || c == '.'; }, '_');
                           return name;
                         });

class SentencePieceTokenBytes : public GoldenTokenBytes {};

TEST_P(SentencePieceTokenBytes, AreTheTextBehindASpace) {
  PEREGRINE_REQUIRE_TEST_DATA("tokenizers/" + GetParam());
  for_each_text([](const std::string& text, const std::string& bytes, const std::string& decoded) {
    // One space in front, which the file's own normalizer puts there and decoding takes away.
    const bool has_prefix = bytes.size() == decoded.size() + 1 && bytes.front() == ' ';
    EXPECT_EQ(has_prefix ? bytes.substr(1) : bytes, decoded);
    static_cast<void>(text);
  });
}

INSTANTIATE_TEST_SUITE_P(Families, SentencePieceTokenBytes,
                         ::testing::Values("llama-2", "mistral-7b", "phi-3-mini"), [](const auto& parameter) {
                           std::string name = parameter.param;
                           std::replace_if(
                               name.begin(), name.end(), [](char c) { return c == '-' || c == '.'; }, '_');
                           return name;
                         });

TEST(TokenBytes, OfEveryByteAndUnfinishedCharacters) {
  PEREGRINE_REQUIRE_TEST_DATA("tokenizers/gpt2");
  PEREGRINE_REQUIRE_TEST_DATA("tokenizers/llama-2");
  const auto gpt2 = golden_tokenizer("gpt2");
  std::vector<int> seen(256, 0);
  for (std::int32_t id = 0; id < 256; ++id) {
    const std::string bytes = gpt2->token_bytes(id);
    ASSERT_EQ(bytes.size(), 1U) << id;
    ++seen[static_cast<unsigned char>(bytes[0])];
  }
  EXPECT_EQ(seen, std::vector<int>(256, 1));
  const auto llama = golden_tokenizer("llama-2");
  for (std::int32_t byte = 0; byte < 256; ++byte)  // ids 3 to 258
    EXPECT_EQ(llama->token_bytes(byte + 3), std::string(1, static_cast<char>(byte)));
  EXPECT_EQ(llama->token_bytes(1), "") << "<s>";
}

}  // namespace
}  // namespace peregrine::text
