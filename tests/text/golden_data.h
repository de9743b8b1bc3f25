// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/json/value.hpp>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace peregrine::text::testing {

/// The bytes of a file; unpacked where its name ends in .gz.
std::string read_any(const std::filesystem::path& path);

/// One JSON value per line of a (packed) file.
std::vector<boost::json::value> read_lines(const std::filesystem::path& path);

std::filesystem::path family_folder(const std::string& family);

/// The text of a family's tokenizer.json, packed or not.
std::string tokenizer_text(const std::string& family);

/// A family's tokenizer from its tokenizer.json alone.
std::unique_ptr<const Tokenizer> golden_tokenizer(const std::string& family);

std::vector<std::int32_t> ids_of(const boost::json::value& array);
std::vector<std::string> strings_of(const boost::json::value& array);
std::string string_of(const boost::json::value& value);

}  // namespace peregrine::text::testing
