// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>

namespace peregrine::text::testing {

/// Parts of a tokenizer.json; each a JSON value.
struct TinyTokenizer {
  std::string added_tokens = "[]";
  std::string normalizer = "null";
  std::string pre_tokenizer = R"({"type": "ByteLevel", "add_prefix_space": false})";
  std::string post_processor = "null";
  std::string decoder = R"({"type": "ByteLevel"})";
  std::string model;

  std::string json() const {
    return fmt::format(
        R"({{"version": "1.0", "added_tokens": {}, "normalizer": {}, "pre_tokenizer": {}, "post_processor": {},)"
        R"( "decoder": {}, "model": {}}})",
        added_tokens, normalizer, pre_tokenizer, post_processor, decoder, model);
  }
};

/// A byte-level BPE model of all 256 bytes (ids 0 to 255 in the order of their characters) and a few merges:
/// 256 "ab", 257 "abc", 258 "Ġa" (U+0120 a), 259 "Ġab", 260 "aa".
std::string byte_level_model(std::string_view more_members = "");

/// A model of the characters of `alphabet` (ids from 0), without merges.
std::string character_model(std::string_view alphabet, std::string_view more_members = "");

}  // namespace peregrine::text::testing
