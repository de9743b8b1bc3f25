// SPDX-License-Identifier: Apache-2.0
#include "text/unicode.h"

#include <gtest/gtest.h>

#include <random>

#include "text/byte_level.h"

namespace peregrine::text {
namespace {

TEST(Unicode, RepairsLikeTheStandardSays) {
  // Table 3-8 and neighbours of the Unicode standard, section 3.9, and the edges of every range.
  const auto repaired = [](std::string_view bytes) { return to_valid_utf8(bytes); };
  const std::string bad = "\xEF\xBF\xBD";
  EXPECT_EQ(repaired("plain \xC3\xA9"), "plain \xC3\xA9");
  EXPECT_EQ(repaired("\xC0\xAF"), bad + bad);
  EXPECT_EQ(repaired("\xE0\x9F\x80"), bad + bad + bad);
  EXPECT_EQ(repaired("\xED\xA0\x80"), bad + bad + bad) << "a surrogate";
  EXPECT_EQ(repaired("\xF4\x90\x80\x80"), bad + bad + bad + bad);
  EXPECT_EQ(repaired("\xF5"), bad);
  EXPECT_EQ(repaired("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), bad + bad + bad + bad + "A");
  EXPECT_EQ(repaired("a\xF0\x9F\x98"), "a" + bad);
  EXPECT_EQ(repaired("\xF0\x9F\x98\x80"), "\xF0\x9F\x98\x80");
  EXPECT_EQ(repaired(std::string_view("\0\x7F", 2)), std::string_view("\0\x7F", 2));
}

TEST(Unicode, AnyCutOfAStreamGivesTheSameText) {
  std::mt19937 random(2);
  for (int round = 0; round < 2000; ++round) {
    std::string bytes;
    for (std::size_t i = random() % 20; i > 0; --i) {
      // Mostly bytes that start and continue long characters.
      bytes += static_cast<char>(random() % 3 == 0   ? random()
                                 : random() % 2 == 0 ? 0x80 | random()
                                                     : 0xE0 | random());
    }
    std::string out;
    Utf8Stream stream;
    for (std::size_t i = 0; i < bytes.size();) {
      const std::size_t size = std::min<std::size_t>(1 + random() % 5, bytes.size() - i);
      stream.push(std::string_view(bytes).substr(i, size), out);
      EXPECT_TRUE(is_valid_utf8(out));
      i += size;
    }
    stream.finish(out);
    EXPECT_EQ(out, to_valid_utf8(bytes));
    EXPECT_EQ(out == bytes, is_valid_utf8(bytes));
  }
}

TEST(Unicode, EncodesWhatItDecodes) {
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string text;
    append_utf8(text, c);
    ASSERT_TRUE(is_valid_utf8(text)) << static_cast<std::uint32_t>(c);
    const CodePoint back = decode_at(text, 0);
    ASSERT_EQ(back.value, c);
    ASSERT_EQ(back.bytes, text.size());
    ASSERT_EQ(previous_character(text, text.size()), 0U);
  }
}

TEST(Unicode, Classes) {
  EXPECT_TRUE(is_white_space(0x85));
  EXPECT_TRUE(is_white_space(0x3000));
  EXPECT_FALSE(is_white_space(0x180E));
  EXPECT_FALSE(is_white_space(0x200B));
  EXPECT_TRUE(is_numeric(U'½'));
  EXPECT_TRUE(is_numeric(U'Ⅳ'));
  EXPECT_FALSE(is_numeric(U'a'));
  EXPECT_TRUE(is_punctuation(U'$')) << "ASCII symbols count";
  EXPECT_FALSE(is_punctuation(U'€')) << "others do not";
  EXPECT_TRUE(is_punctuation(U'。'));
  EXPECT_TRUE(is_word(U'_'));
  EXPECT_TRUE(is_word(0x301));
  EXPECT_TRUE(is_word(0x200D));
  EXPECT_TRUE(is_word(0x24B6));
  EXPECT_FALSE(is_word(U'½'));
  EXPECT_TRUE(is_mark(0x301));
  EXPECT_FALSE(is_mark(U'e'));
}

TEST(ByteLevel, MapsEveryByteToItsOwnCharacter) {
  for (int byte = 0; byte < 256; ++byte) {
    const std::string_view character = byte_level_character(static_cast<unsigned char>(byte));
    ASSERT_TRUE(is_valid_utf8(character));
    const CodePoint c = decode_at(character, 0);
    EXPECT_EQ(c.bytes, character.size());
    EXPECT_EQ(byte_of_character(c.value), static_cast<unsigned char>(byte));
    EXPECT_FALSE(is_white_space(c.value));
  }
  EXPECT_EQ(byte_level_character(' '), "Ġ");
  EXPECT_EQ(byte_level_character('\n'), "Ċ");
  EXPECT_EQ(byte_level_character(0xAD), "Ń");
  EXPECT_EQ(byte_of_character(U' '), std::nullopt);
  EXPECT_EQ(byte_of_character(U'你'), std::nullopt);
}

}  // namespace
}  // namespace peregrine::text
