// SPDX-License-Identifier: Apache-2.0
// rooms: text core
//
// The input chooses decoders, tokens and ids. Streaming must give what the whole decoding gives.
#include <set>

#include "text/byte_level.h"
#include "tokenizer_parts.h"

namespace {

using namespace peregrine;
using namespace peregrine::fuzz;

object decoder(Choices& choices, bool& stream_is_whole) {
  const auto plain = [&](const char* type) { return [type] { return object{{"type", type}}; }; };
  return choices.chain(
      {plain("ByteLevel"), plain("Fuse"),
       [&] {
         // Byte tokens are the one place where a stream may keep what the whole decoding takes back.
         stream_is_whole = false;
         return object{{"type", "ByteFallback"}};
       },
       [&] {
         return object{{"type", "Replace"}, {"pattern", choices.pattern()}, {"content", choices.word()}};
       },
       [&] {
         return object{{"type", "Strip"},
                       {"content", choices.character()},
                       {"start", choices.number(0, 3)},
                       {"stop", choices.number(0, 3)}};
       },
       [&] {
         constexpr const char* kSchemes[] = {"first", "always", "never"};
         return object{{"type", "Metaspace"},
                       {"replacement", choices.character()},
                       {"prepend_scheme", kSchemes[choices.number(0, 2)]}};
       },
       [&] {
         return object{{"type", "WordPiece"}, {"prefix", choices.word()}, {"cleanup", choices.coin()}};
       },
       [&] {
         return object{{"type", "BPEDecoder"}, {"suffix", choices.word()}};
       }},
      "decoders");
}

/// A character of several bytes, as byte tokens of one tokenizer or the other.
std::string byte_token(Choices& choices) {
  constexpr std::string_view kBytes = "\xF0\x9F\x98\x80\xE4\xB8\xAD\xC3\xA9\xC2\n a\xFF\x80";
  const auto byte = static_cast<unsigned char>(kBytes[choices.number(0, kBytes.size() - 1)]);
  if (choices.coin()) return std::string(text::byte_level_character(byte));
  constexpr const char* kDigits = "0123456789ABCDEF";
  return std::string("<0x") + kDigits[byte / 16] + kDigits[byte % 16] + ">";
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Choices choices(data, size);
  bool stream_is_whole = true;
  object file;
  if (choices.number(0, 15) != 0) file["decoder"] = decoder(choices, stream_is_whole);
  object vocab;
  std::set<std::string> tokens;
  for (std::size_t count = choices.number(1, 24); count > 0; --count) {
    const std::string token = choices.coin() ? byte_token(choices) : choices.word();
    if (tokens.insert(token).second) vocab[token] = tokens.size() - 1;
  }
  const auto known = static_cast<std::int32_t>(tokens.size());
  file["added_tokens"] = array{object{{"id", known + 1}, {"content", "<special>"}, {"special", true}},
                               object{{"id", known + 2}, {"content", "<plain> "}}};
  file["model"] = object{{"type", "WordLevel"}, {"vocab", std::move(vocab)}, {"unk_token", ""}};
  const auto tokenizer = make_tokenizer(std::move(file));
  if (tokenizer == nullptr) return 0;
  Ids ids;
  const bool many = choices.number(0, 31) == 31;
  for (std::size_t count = choices.number(0, 64); count > 0 && !choices.empty(); --count)
    ids.push_back(static_cast<std::int32_t>(choices.number(0, static_cast<std::size_t>(known) + 3)) - 1);
  const std::size_t size_of_one = ids.size();
  while (many && size_of_one > 0 && ids.size() < 2000)
    ids.insert(ids.end(), ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(size_of_one));
  run([&] {
    check_decoding(*tokenizer, ids, stream_is_whole);
    for (std::int32_t id = -1; id < known + 4; ++id) {
      const std::string bytes = tokenizer->token_bytes(id);
      if (tokenizer->is_special(id) || !tokenizer->token(id)) require(bytes.empty());
    }
  });
  return 0;
}
