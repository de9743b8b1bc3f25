// SPDX-License-Identifier: Apache-2.0
#include "text/byte_level.h"

#include <array>
#include <cstdint>

#include "text/unicode.h"

namespace peregrine::text {
namespace {

constexpr char32_t kFirstMapped = 0x100;
constexpr char32_t kEndMapped = kFirstMapped + 68;
constexpr char32_t kSpace = 0x120;

constexpr bool stands_for_itself(char32_t byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
}

struct Tables {
  std::array<std::array<char, 2>, 256> utf8{};     // of the character for each byte
  std::array<std::uint8_t, 256> utf8_bytes{};      // 1 or 2
  std::array<std::int16_t, kEndMapped> byte_of{};  // -1 where a character stands for no byte
};

constexpr Tables make_tables() {
  Tables tables;
  for (auto& byte : tables.byte_of) byte = -1;
  char32_t next = kFirstMapped;
  for (char32_t byte = 0; byte < 256; ++byte) {
    const char32_t character = stands_for_itself(byte) ? byte : next++;
    tables.byte_of[character] = static_cast<std::int16_t>(byte);
    if (character < 0x80) {
      tables.utf8[byte] = {static_cast<char>(character), 0};
      tables.utf8_bytes[byte] = 1;
    } else {
      tables.utf8[byte] = {static_cast<char>(0xC0 | character >> 6),
                           static_cast<char>(0x80 | (character & 0x3F))};
      tables.utf8_bytes[byte] = 2;
    }
  }
  return tables;
}

constexpr Tables kTables = make_tables();

}  // namespace

std::string_view byte_level_character(unsigned char byte) {
  return {kTables.utf8[byte].data(), kTables.utf8_bytes[byte]};
}

std::optional<unsigned char> byte_of_character(char32_t character) {
  if (character >= kEndMapped || kTables.byte_of[character] < 0) return std::nullopt;
  return static_cast<unsigned char>(kTables.byte_of[character]);
}

bool is_byte_level_blank(char32_t character) { return character == kSpace || is_white_space(character); }

}  // namespace peregrine::text
