// SPDX-License-Identifier: Apache-2.0
// rooms: text core
//
// The input is a tokenizer.json, then, behind a zero byte, a text. Where the file loads, the text is encoded
// and decoded.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "core/error.h"
#include "text/detokenizer.h"
#include "text/tokenizer.h"
#include "text/unicode.h"

namespace {

using peregrine::text::StreamingDetokenizer;
using peregrine::text::Tokenizer;

void require(bool condition) {
  if (!condition) std::abort();
}

void use(const Tokenizer& tokenizer, std::string_view text, bool stream_is_whole) {
  const auto ids = tokenizer.encode(text, {});
  const auto encoding = tokenizer.encode_with_offsets(text, {});
  require(encoding.ids == ids && encoding.offsets.size() == ids.size());
  const auto end = peregrine::text::count_code_points(peregrine::text::to_valid_utf8(text));
  for (const auto& range : encoding.offsets) require(range.begin <= range.end && range.end <= end);
  tokenizer.encode(text, {.add_special_tokens = false, .parse_special = false});
  for (const bool skip_special : {false, true}) {
    const std::string whole = tokenizer.decode(ids, skip_special);
    require(peregrine::text::is_valid_utf8(whole));
    StreamingDetokenizer stream(tokenizer, skip_special);
    std::string pieces;
    for (const auto id : ids) {
      const std::string piece = stream.push(id);
      require(peregrine::text::is_valid_utf8(piece));
      pieces += piece;
    }
    pieces += stream.finish();
    if (stream_is_whole) require(pieces == whole);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t zero = std::min(input.find('\0'), input.size());
  const std::string_view json = input.substr(0, zero);
  const std::string_view text = zero < input.size()
                                    ? input.substr(zero + 1)
                                    : std::string_view(" a <s> abc,  12\n\xC3\xA9 e\xCC\x81\xFF");
  try {
    const auto tokenizer = Tokenizer::parse(json, "input");
    // Byte tokens are the one place where a stream may keep what the whole decoding takes back.
    use(*tokenizer, text,
        json.find("ByteFallback") == std::string_view::npos && json.find('\\') == std::string_view::npos);
  } catch (const peregrine::core::Error& error) {
    require(error.kind() != peregrine::core::ErrorKind::kInternal);
  }
  return 0;
}
