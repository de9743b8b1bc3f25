// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fuzzer/FuzzedDataProvider.h>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "text/aligned_text.h"
#include "text/detokenizer.h"
#include "text/tokenizer.h"
#include "text/unicode.h"

/// What the targets of single tokenizer parts have in common: a tokenizer.json is put together from choices
/// that the input makes, so that nearly every input loads, and a text goes through it.
namespace peregrine::fuzz {

using boost::json::array;
using boost::json::object;
using text::Tokenizer;
using Ids = std::vector<std::int32_t>;

inline void require(bool condition) {
  if (!condition) std::abort();
}

/// The choices that an input makes.
class Choices {
 public:
  Choices(const std::uint8_t* data, std::size_t size) : data_(data, size) {}

  bool coin() { return data_.ConsumeBool(); }
  std::size_t number(std::size_t low, std::size_t high) {
    return data_.ConsumeIntegralInRange<std::size_t>(low, high);
  }
  double score() { return -static_cast<double>(data_.ConsumeIntegralInRange<int>(-20, 4000)) / 16; }
  bool empty() { return data_.remaining_bytes() == 0; }
  std::string bytes(std::size_t most) { return data_.ConsumeRandomLengthString(most); }

  /// Valid UTF-8 of at most about so many bytes.
  std::string text(std::size_t most) { return text::to_valid_utf8(bytes(most)); }

  /// A short string: from the texts that tokenizers deal with, or any.
  std::string word() {
    constexpr const char* kWords[] = {" ",      "\u2581", "a",      "b",      "ab",         "##",
                                      "</w>",   "<0x0A>", "\u0120", "\u00E9", "e\u0301",    "1",
                                      "\u00BD", "\u4E00", "\uAC00", "_",      "A",          "\t",
                                      "\n",     ".",      "'s",     "<s>",    "\U0001F600", "\u0301"};
    return coin() ? std::string(kWords[number(0, std::size(kWords) - 1)]) : text(8);
  }

  std::string character() {
    const std::string some = word();
    return some.empty() ? " " : some.substr(0, text::decode_at(some, 0).bytes);
  }

  /// {"String": ...} or {"Regex": ...}; expressions that need no backtracking.
  object pattern() {
    constexpr const char* kExpressions[] = {
        " {2,}", "\\s+", "\\p{L}+", "\\p{N}{1,3}", "[^\\r\\n]",  "(?i:'s|'t)", " ?\\p{L}+|\\s+(?!\\S)|\\s+",
        "^",     "$",    "a|ab",    "\\b",         "[a-c&&[^b]]"};
    if (coin()) return {{"String", word()}};
    return {{"Regex", kExpressions[number(0, std::size(kExpressions) - 1)]}};
  }

  /// One of `parts`, or a sequence of up to four of them under `list`.
  object chain(const std::vector<std::function<object()>>& parts, const char* list) {
    const auto one = [&] { return parts[number(0, parts.size() - 1)](); };
    if (coin()) return one();
    array chosen;
    for (std::size_t count = number(0, 4); count > 0; --count) chosen.push_back(one());
    return {{"type", "Sequence"}, {list, std::move(chosen)}};
  }

 private:
  FuzzedDataProvider data_;
};

/// A model with a token for each of some characters and one for all others: every text has tokens, and a file
/// of it is quickly read. Ids are below 32.
inline object small_model() {
  object vocab{{"<unk>", 0}};
  for (const char* c :
       {"a", "b", "A", "<", ">", "s", "m", "k", "|", " ", "\u0120", "\u00E9", "1", "_", "/", "ab"})
    vocab[c] = vocab.size();
  return {{"type", "BPE"}, {"vocab", std::move(vocab)}, {"merges", array{"a b"}}, {"unk_token", "<unk>"}};
}

/// Parses a file of these parts; null where an error that is not internal says why it cannot be.
inline std::unique_ptr<const Tokenizer> make_tokenizer(object file) {
  file["version"] = "1.0";
  try {
    return Tokenizer::parse(boost::json::serialize(file), "input");
  } catch (const core::Error& error) {
    require(error.kind() != core::ErrorKind::kInternal);
    return nullptr;
  }
}

/// Streaming must give what decoding the whole does, every piece of it valid.
inline void check_decoding(const Tokenizer& tokenizer, const Ids& ids, bool stream_is_whole) {
  for (const bool skip_special : {false, true}) {
    const std::string whole = tokenizer.decode(ids, skip_special);
    require(text::is_valid_utf8(whole));
    text::StreamingDetokenizer stream(tokenizer, skip_special);
    std::string pieces;
    for (const std::int32_t id : ids) {
      const std::string piece = stream.push(id);
      require(text::is_valid_utf8(piece));
      pieces += piece;
    }
    pieces += stream.finish();
    require(text::is_valid_utf8(pieces));
    if (stream_is_whole) require(pieces == whole);
  }
}

/// Encodes in every way and compares; returns the ids without special tokens.
inline Ids check_encoding(const Tokenizer& tokenizer, std::string_view text) {
  const Ids ids = tokenizer.encode(text, {});
  for (const std::int32_t id : ids) require(tokenizer.token(id).has_value());
  const auto with_offsets = tokenizer.encode_with_offsets(text, {});
  require(with_offsets.ids == ids && with_offsets.offsets.size() == ids.size());
  const auto end = text::count_code_points(text::to_valid_utf8(text));
  for (const auto& range : with_offsets.offsets) require(range.begin <= range.end && range.end <= end);
  const auto with_types = tokenizer.encode_with_types(text, {});
  require(with_types.ids == ids && with_types.token_types.size() == ids.size());
  const std::size_t most = ids.size() / 2;
  require(tokenizer.encode(text, {.add_special_tokens = false, .max_tokens = most}).size() <= most);
  return tokenizer.encode(text, {.add_special_tokens = false});
}

/// Whether a section of text may stand for `bytes` bytes of an original as it says.
inline void check_sources(const text::AlignedText& section, std::size_t bytes) {
  require(section.sources().size() == section.text().size());
  for (const text::Range& source : section.sources())
    require(source.begin <= source.end && source.end <= bytes);
}

/// `text` over and over: what is not linear in its size shows as a slow input.
inline std::string repeated(std::string_view text, std::size_t bytes) {
  std::string out;
  while (!text.empty() && out.size() < bytes) out += text;
  return out;
}

/// Runs `check`, which may throw Error for what the text asks too much of (a pattern's steps, a size).
template <typename Check>
void run(const Check& check) {
  try {
    check();
  } catch (const core::Error& error) {
    require(error.kind() != core::ErrorKind::kInternal);
  }
}

}  // namespace peregrine::fuzz
