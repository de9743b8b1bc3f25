// SPDX-License-Identifier: Apache-2.0
// rooms: text core
//
// The input chooses normalizers (charsmaps of any bytes among them) and a text. What they make of it must be
// valid UTF-8, the same with offsets and without, and the offsets within the text.
#include "core/json.h"
#include "text/charsmap.h"
#include "text/normalizers.h"
#include "tokenizer_parts.h"

namespace {

using namespace peregrine;
using namespace peregrine::fuzz;

std::string little_endian(std::uint32_t value) {
  std::string out;
  for (int i = 0; i < 4; ++i) out += static_cast<char>(value >> (8 * i));
  return out;
}

/// The rules of a SentencePiece model: any bytes, or a trie that has what the input says where the text's
/// bytes lead.
std::string charsmap(Choices& choices) {
  if (choices.coin()) return text::encode_base64(choices.bytes(200));
  std::vector<std::uint32_t> units(choices.number(1, 512));
  units[0] = 1U << 10;
  for (std::size_t count = choices.number(0, 40); count > 0; --count) {
    const auto at = choices.number(0, units.size() - 1);
    const auto label = static_cast<std::uint32_t>(at ^ 1) & 0xFF;
    const auto offset = static_cast<std::uint32_t>(choices.number(0, 700));
    units[at] = choices.coin() ? label | offset << 10 | (choices.coin() ? 1U << 8 : 0) : 1U << 31 | offset;
  }
  std::string blob = little_endian(static_cast<std::uint32_t>(units.size() * 4));
  for (const std::uint32_t unit : units) blob += little_endian(unit);
  for (std::size_t count = choices.number(0, 6); count > 0; --count) blob += choices.word() + '\0';
  return text::encode_base64(blob);
}

object normalizer(Choices& choices) {
  const auto plain = [&](const char* type) { return [type] { return object{{"type", type}}; }; };
  return choices.chain(
      {plain("NFC"), plain("NFD"), plain("NFKC"), plain("NFKD"), plain("Lowercase"), plain("StripAccents"),
       plain("Nmt"),
       [&] {
         return object{{"type", "Strip"}, {"strip_left", choices.coin()}, {"strip_right", choices.coin()}};
       },
       [&] {
         return object{{"type", "BertNormalizer"},
                       {"clean_text", choices.coin()},
                       {"handle_chinese_chars", choices.coin()},
                       {"strip_accents", choices.coin()},
                       {"lowercase", choices.coin()}};
       },
       [&] {
         return object{{"type", "Prepend"}, {"prepend", choices.word()}};
       },
       [&] {
         return object{{"type", "Replace"}, {"pattern", choices.pattern()}, {"content", choices.word()}};
       },
       [&] {
         return object{{"type", "Precompiled"}, {"precompiled_charsmap", charsmap(choices)}};
       }},
      "normalizers");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Choices choices(data, size);
  const boost::json::value chosen = normalizer(choices);
  const bool long_text = choices.number(0, 63) == 63;
  std::string text = choices.text(512);
  if (long_text) text = repeated(text, 4000);
  run([&] {
    const auto made = text::make_normalizer(core::JsonView(chosen, "input"));
    text::AlignedText plain(text, 0, false);
    text::AlignedText aligned(text, 0, true);
    made->normalize(plain);
    made->normalize(aligned);
    require(plain.text() == aligned.text());
    require(text::is_valid_utf8(plain.text()));
    check_sources(aligned, text.size());
  });
  return 0;
}
