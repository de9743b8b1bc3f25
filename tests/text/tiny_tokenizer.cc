// SPDX-License-Identifier: Apache-2.0
#include "tiny_tokenizer.h"

#include <boost/json/serialize.hpp>
#include <boost/json/string.hpp>
#include <boost/json/value.hpp>

#include "text/byte_level.h"
#include "text/unicode.h"

namespace peregrine::text::testing {
namespace {

std::string quote(std::string_view text) {
  return boost::json::serialize(boost::json::value(boost::json::string(text)));
}

}  // namespace

std::string byte_level_model(std::string_view more_members) {
  std::string vocab;
  for (int byte = 0; byte < 256; ++byte) {
    vocab +=
        quote(byte_level_character(static_cast<unsigned char>(byte))) + ": " + std::to_string(byte) + ", ";
  }
  vocab += R"("ab": 256, "abc": 257, "Ġa": 258, "Ġab": 259, "aa": 260)";
  return R"({"type": "BPE", "vocab": {)" + vocab + R"(}, "merges": ["a b", "ab c", "Ġ a", "Ġ ab", "a a"])" +
         std::string(more_members) + "}";
}

std::string character_model(std::string_view alphabet, std::string_view more_members) {
  std::string vocab;
  int id = 0;
  for (std::size_t i = 0; i < alphabet.size();) {
    const std::size_t bytes = decode_at(alphabet, i).bytes;
    vocab += (id > 0 ? ", " : "") + quote(alphabet.substr(i, bytes)) + ": " + std::to_string(id);
    ++id;
    i += bytes;
  }
  return R"({"type": "BPE", "vocab": {)" + vocab + R"(}, "merges": [])" + std::string(more_members) + "}";
}

}  // namespace peregrine::text::testing
