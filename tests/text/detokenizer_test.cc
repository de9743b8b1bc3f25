// SPDX-License-Identifier: Apache-2.0
#include "text/detokenizer.h"

#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "golden_data.h"
#include "support/test_data.h"
#include "text/unicode.h"
#include "tiny_tokenizer.h"

namespace peregrine::text {
namespace {

std::string stream(const Tokenizer& tokenizer, const std::vector<std::int32_t>& ids, bool skip_special) {
  StreamingDetokenizer detokenizer(tokenizer, skip_special);
  std::string out;
  for (const std::int32_t id : ids) {
    const std::string piece = detokenizer.push(id);
    EXPECT_TRUE(is_valid_utf8(piece));
    out += piece;
  }
  return out + detokenizer.finish();
}

/// Text of up to `size` characters: ASCII, Latin, CJK, emoji, marks and blanks in equal parts.
std::string random_text(std::mt19937& random, std::size_t size) {
  std::string out;
  for (std::size_t i = random() % size; i > 0; --i) {
    switch (random() % 7) {
      case 0:
        append_utf8(out, random() % 0x80);
        break;
      case 1:
        append_utf8(out, 0x80 + random() % 0x780);
        break;
      case 2:
        append_utf8(out, 0x4E00 + random() % 0x5000);
        break;
      case 3:
        append_utf8(out, 0x1F300 + random() % 0x300);
        break;
      case 4:
        append_utf8(out, 0x300 + random() % 0x60);
        break;
      case 5:
        out += " \n\t'"[random() % 4];
        break;
      default:
        append_utf8(out, 'a' + random() % 26);
        break;
    }
  }
  return out;
}

TEST(Detokenizer, ByteLevelTextComesBackAsItWas) {
  testing::TinyTokenizer tiny;
  tiny.model = testing::byte_level_model();
  const auto tokenizer = Tokenizer::parse(tiny.json(), "tiny");
  std::mt19937 random(3);
  for (int round = 0; round < 500; ++round) {
    const std::string text = random_text(random, 60);
    const auto ids = tokenizer->encode(text, {});
    EXPECT_EQ(tokenizer->decode(ids, false), text);
    EXPECT_EQ(stream(*tokenizer, ids, false), text);
    const auto encoding = tokenizer->encode_with_offsets(text, {});
    EXPECT_EQ(encoding.ids, ids);
    // Offsets run through the text without a gap.
    std::uint32_t end = 0;
    for (const auto& range : encoding.offsets) {
      EXPECT_LE(range.begin, end);
      EXPECT_LE(end, range.end);
      end = range.end;
    }
    EXPECT_EQ(end, count_code_points(text));
    // Bytes that are no text come back repaired.
    std::string bytes;
    for (std::size_t i = random() % 30; i > 0; --i) bytes += static_cast<char>(random());
    EXPECT_EQ(tokenizer->decode(tokenizer->encode(bytes, {}), false), to_valid_utf8(bytes));
  }
}

class Families : public ::testing::TestWithParam<const char*> {};

TEST_P(Families, StreamsOfAnyIdsAddUpToTheWholeDecoding) {
  PEREGRINE_REQUIRE_TEST_DATA(std::string("tokenizers/") + GetParam());
  const auto tokenizer = testing::golden_tokenizer(GetParam());
  std::mt19937 random(4);
  for (int round = 0; round < 300; ++round) {
    std::vector<std::int32_t> ids;
    // The low ids are bytes: most such sequences are no UTF-8. Ids outside are ignored.
    for (std::size_t i = random() % 40; i > 0; --i) {
      const std::uint32_t range =
          random() % 2 == 0 ? 300 : static_cast<std::uint32_t>(tokenizer->vocab_size()) + 100;
      ids.push_back(static_cast<std::int32_t>(random() % range) - 3);
    }
    for (const bool skip_special : {false, true}) {
      EXPECT_EQ(stream(*tokenizer, ids, skip_special), tokenizer->decode(ids, skip_special));
    }
  }
  for (int round = 0; round < 100; ++round) {
    const auto ids = tokenizer->encode(random_text(random, 100), {});
    EXPECT_EQ(stream(*tokenizer, ids, false), tokenizer->decode(ids, false));
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, Families,
                         ::testing::Values("falcon", "gpt2", "phi-2", "roberta-base", "t5-small",
                                           "bert-base-uncased"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(Detokenizer, CharactersAppearWithTheIdThatCompletesThem) {
  testing::TinyTokenizer tiny;
  tiny.model = testing::byte_level_model();
  const auto tokenizer = Tokenizer::parse(tiny.json(), "tiny");
  StreamingDetokenizer stream(*tokenizer, false);
  EXPECT_EQ(stream.push('a'), "a");
  EXPECT_EQ(stream.push(0xE4), "");
  EXPECT_EQ(stream.push(0xBD), "");
  EXPECT_EQ(stream.push(0xA0), "你");
  EXPECT_EQ(stream.push(0xF0), "");
  EXPECT_EQ(stream.push('b'), "\uFFFDb");
  EXPECT_EQ(stream.push(0x80), "\uFFFD");
  EXPECT_EQ(stream.push(0xC3), "");
  EXPECT_EQ(stream.finish(), "\uFFFD");
}

TEST(Detokenizer, ByteTokensKeepWhatWasShown) {
  testing::TinyTokenizer tiny;
  tiny.pre_tokenizer = "null";
  tiny.decoder = R"({"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]})";
  tiny.model = R"({"type": "BPE", "merges": [], "vocab": {"<0xC3>": 0, "<0xA9>": 1, "a": 2}})";
  const auto tokenizer = Tokenizer::parse(tiny.json(), "tiny");
  StreamingDetokenizer stream(*tokenizer, false);
  EXPECT_EQ(stream.push(0), "");
  EXPECT_EQ(stream.push(1), "é");
  EXPECT_EQ(stream.push(0), "");
  EXPECT_EQ(stream.push(2), "\uFFFDa");
  EXPECT_EQ(stream.finish(), "");
  EXPECT_EQ(tokenizer->decode(std::vector<std::int32_t>{0, 1, 0, 2}, false), "\uFFFD\uFFFD\uFFFDa");
}

TEST(Tokenizer, ManyThreadsShareOne) {
  PEREGRINE_REQUIRE_TEST_DATA("tokenizers/falcon");
  const auto tokenizer = testing::golden_tokenizer("falcon");
  const std::string text = "Some words, 12345 numbers (and) é你好 <|endoftext|> again.";
  const auto expected = tokenizer->encode(text, {});
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 100; ++round) {
        if (tokenizer->encode(text, {}) != expected || stream(*tokenizer, expected, false) != text) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace peregrine::text
