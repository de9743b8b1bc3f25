// SPDX-License-Identifier: Apache-2.0
#include "support/test_data.h"

#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>

namespace peregrine::testing {

std::filesystem::path test_data() {
  if (const char* folder = std::getenv("PEREGRINE_TESTDATA"); folder != nullptr && *folder != '\0')
    return folder;
  return std::filesystem::path(PEREGRINE_SOURCE_DIR).parent_path() / "shared";
}

bool has_test_data(const std::filesystem::path& part) { return std::filesystem::exists(test_data() / part); }

bool in_ci() {
  const char* value = std::getenv("CI");
  return value != nullptr && std::string_view(value) == "true";
}

TemporaryDirectory::TemporaryDirectory() {
  std::string pattern = (std::filesystem::temp_directory_path() / "peregrine-test-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("cannot make a temporary directory");
  path_ = pattern;
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace peregrine::testing
