// SPDX-License-Identifier: Apache-2.0
// rooms: text core
//
// The input is a letter that says for which class of tokenizers the rest, a SentencePiece .model file, is
// read. Where it loads, a text is encoded and decoded.
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "core/error.h"
#include "text/tokenizer.h"
#include "text/unicode.h"
#include "text/vocabulary_files.h"

namespace {

using peregrine::core::JsonView;
using peregrine::text::FileComposer;
using peregrine::text::Tokenizer;

void require(bool condition) {
  if (!condition) std::abort();
}

boost::json::object config_of(char letter) {
  switch (letter) {
    case 'L':
      return {{"tokenizer_class", "LlamaTokenizer"}, {"legacy", false}};
    case 'T':
      return {{"tokenizer_class", "T5Tokenizer"}, {"extra_ids", 3}};
    case 'X':
      return {{"tokenizer_class", "XLMRobertaTokenizer"}};
    default:
      return {};
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const boost::json::value config = config_of(input.front());
  const boost::json::value nothing = boost::json::object();
  try {
    FileComposer composer(JsonView(config, "config"), JsonView(nothing, "map"));
    peregrine::text::compose_sentencepiece(input.substr(1), "input", composer);
    const auto tokenizer = Tokenizer::parse(boost::json::serialize(composer.take()), "composed");
    const std::string text = " a\xC3\xA9 <s>user  A\xC2\xBD";
    const auto ids = tokenizer->encode(text, {});
    require(tokenizer->encode_with_offsets(text, {}).ids == ids);
    require(peregrine::text::is_valid_utf8(tokenizer->decode(ids, false)));
  } catch (const peregrine::core::Error& error) {
    require(error.kind() != peregrine::core::ErrorKind::kInternal);
  }
  return 0;
}
