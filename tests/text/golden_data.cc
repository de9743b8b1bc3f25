// SPDX-License-Identifier: Apache-2.0
#include "golden_data.h"

#include <zlib.h>

#include <array>
#include <stdexcept>

#include "core/json.h"
#include "support/test_data.h"

namespace peregrine::text::testing {

std::string read_any(const std::filesystem::path& path) {
  // zlib reads files that are not packed as they are.
  const auto close = [](gzFile file) { gzclose(file); };
  const std::unique_ptr<gzFile_s, decltype(close)> file(gzopen(path.c_str(), "rb"), close);
  if (!file) throw std::runtime_error("cannot open " + path.string());
  std::string out;
  std::array<char, 1 << 16> buffer{};
  int bytes = 0;
  while ((bytes = gzread(file.get(), buffer.data(), buffer.size())) > 0) {
    out.append(buffer.data(), static_cast<std::size_t>(bytes));
  }
  if (bytes < 0) throw std::runtime_error("cannot unpack " + path.string());
  return out;
}

std::vector<boost::json::value> read_lines(const std::filesystem::path& path) {
  const std::string text = read_any(path);
  std::vector<boost::json::value> out;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    if (end > begin)
      out.push_back(core::parse_json(std::string_view(text).substr(begin, end - begin), path.string()));
    begin = end + 1;
  }
  return out;
}

std::filesystem::path family_folder(const std::string& family) {
  return peregrine::testing::test_data() / "tokenizers" / family;
}

std::string tokenizer_text(const std::string& family) {
  const std::filesystem::path plain = family_folder(family) / "tokenizer.json";
  return read_any(std::filesystem::exists(plain) ? plain : family_folder(family) / "tokenizer.json.gz");
}

std::unique_ptr<const Tokenizer> golden_tokenizer(const std::string& family) {
  return Tokenizer::parse(tokenizer_text(family), family + "/tokenizer.json");
}

std::vector<std::int32_t> ids_of(const boost::json::value& array) {
  std::vector<std::int32_t> out;
  for (const auto& id : array.as_array()) out.push_back(static_cast<std::int32_t>(id.as_int64()));
  return out;
}

std::vector<std::string> strings_of(const boost::json::value& array) {
  std::vector<std::string> out;
  for (const auto& text : array.as_array()) out.push_back(string_of(text));
  return out;
}

std::string string_of(const boost::json::value& value) {
  return std::string(std::string_view(value.as_string()));
}

}  // namespace peregrine::text::testing
