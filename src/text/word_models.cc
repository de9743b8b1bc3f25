// SPDX-License-Identifier: Apache-2.0
#include "text/word_models.h"

#include <limits>

#include "core/error.h"
#include "text/component.h"
#include "text/unicode.h"

namespace peregrine::text {
namespace {

constexpr std::int64_t kDefaultMaxCharacters = 100;

ByteTrie tokens_with_prefix(const Vocabulary& vocabulary, std::string_view prefix) {
  std::vector<ByteTrie::Entry> entries;
  entries.reserve(vocabulary.size());
  for (std::int32_t id = 0; id < vocabulary.end_id(); ++id) {
    if (const auto token = vocabulary.token(id); token && token->starts_with(prefix)) {
      entries.push_back({token->substr(prefix.size()), id});
    }
  }
  return ByteTrie(std::move(entries));
}

void add_unknown(const Vocabulary& vocabulary, std::string_view unknown_token, std::string_view word,
                 std::vector<ModelToken>& out) {
  const auto id = vocabulary.find(unknown_token);
  if (!id) {
    core::fail(core::ErrorKind::kInvalidArgument,
               "the tokenizer's unk_token {} is not in its vocabulary, and {} is unknown",
               core::quoted(unknown_token), core::quoted(word));
  }
  out.push_back({*id, 0, static_cast<std::uint32_t>(word.size())});
}

}  // namespace

WordPiece::WordPiece(const core::JsonView& json)
    : vocabulary_(read_vocabulary(json.at("vocab"))),
      unknown_token_(optional_string(json, "unk_token", "[UNK]")),
      first_(tokens_with_prefix(vocabulary_, "")),
      next_(tokens_with_prefix(vocabulary_, optional_string(json, "continuing_subword_prefix", "##"))) {
  const auto limit = json.find("max_input_chars_per_word");
  max_characters_ = static_cast<std::size_t>(
      limit ? limit->as_int(0, std::numeric_limits<std::int64_t>::max()) : kDefaultMaxCharacters);
}

bool WordPiece::cover(std::string_view word, std::vector<ModelToken>& out) const {
  for (std::size_t begin = 0; begin < word.size();) {
    std::size_t bytes = 0;
    std::int32_t id = -1;
    (begin == 0 ? first_ : next_)
        .for_each_prefix(word.substr(begin), [&](std::size_t size, std::int32_t found) {
          bytes = size;
          id = found;
        });
    if (bytes == 0) return false;
    out.push_back({id, static_cast<std::uint32_t>(begin), static_cast<std::uint32_t>(begin + bytes)});
    begin += bytes;
  }
  return true;
}

void WordPiece::tokenize(std::string_view piece, std::vector<ModelToken>& out) const {
  const std::size_t before = out.size();
  if (count_code_points(piece) <= max_characters_ && cover(piece, out)) return;
  out.resize(before);
  add_unknown(vocabulary_, unknown_token_, piece, out);
}

WordLevel::WordLevel(const core::JsonView& json)
    : vocabulary_(read_vocabulary(json.at("vocab"))),
      unknown_token_(optional_string(json, "unk_token", "<unk>")) {}

void WordLevel::tokenize(std::string_view piece, std::vector<ModelToken>& out) const {
  if (const auto id = vocabulary_.find(piece)) {
    out.push_back({*id, 0, static_cast<std::uint32_t>(piece.size())});
  } else {
    add_unknown(vocabulary_, unknown_token_, piece, out);
  }
}

}  // namespace peregrine::text
