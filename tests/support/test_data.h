// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <filesystem>

namespace peregrine::testing {

/// The folder of shared test data (golden models, real tokenizers): PEREGRINE_TESTDATA, or `shared` beside
/// the source tree.
std::filesystem::path test_data();

/// Whether `test_data()/part` exists.
bool has_test_data(const std::filesystem::path& part);

/// Whether CI=true: then missing test data fails a test instead of skipping it.
bool in_ci();

/// A fresh empty directory, removed with everything in it on destruction.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace peregrine::testing

/// Ends the test as skipped (failed where CI=true) when the shared test data lacks `part`.
#define PEREGRINE_REQUIRE_TEST_DATA(part)                                                            \
  do {                                                                                               \
    if (!::peregrine::testing::has_test_data(part)) {                                                \
      if (::peregrine::testing::in_ci()) {                                                           \
        FAIL() << "test data " << (::peregrine::testing::test_data() / (part)) << " is missing";     \
      }                                                                                              \
      GTEST_SKIP() << "test data " << (::peregrine::testing::test_data() / (part)) << " is missing"; \
    }                                                                                                \
  } while (false)
