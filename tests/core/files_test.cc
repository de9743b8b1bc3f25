// SPDX-License-Identifier: Apache-2.0
#include "core/files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "core/error.h"
#include "support/test_data.h"

namespace peregrine::core {
namespace {

ErrorKind kind_of_mapping(const std::filesystem::path& path) {
  try {
    MappedFile file(path);
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr(path.string()));
    return error.kind();
  }
  ADD_FAILURE() << "no error for " << path;
  return ErrorKind::kInternal;
}

TEST(Files, MapsAndReads) {
  const testing::TemporaryDirectory folder;
  const auto path = folder.path() / "a";
  std::ofstream(path) << "hello";
  MappedFile first(path);
  MappedFile second = std::move(first);
  EXPECT_TRUE(first.bytes().empty());
  ASSERT_EQ(second.bytes().size(), 5u);
  EXPECT_EQ(static_cast<char>(second.bytes()[4]), 'o');
  EXPECT_EQ(read_file(path, 5), "hello");
  EXPECT_THROW(read_file(path, 4), Error);
}

TEST(Files, RefusesWhatIsNotARegularFile) {
  const testing::TemporaryDirectory folder;
  EXPECT_EQ(kind_of_mapping(folder.path() / "missing"), ErrorKind::kNotFound);
  EXPECT_EQ(kind_of_mapping(folder.path()), ErrorKind::kInvalidArgument);
  ASSERT_EQ(::mkfifo((folder.path() / "fifo").c_str(), 0600), 0);
  EXPECT_EQ(kind_of_mapping(folder.path() / "fifo"), ErrorKind::kInvalidArgument);
  std::ofstream(folder.path() / "empty").flush();
  EXPECT_TRUE(MappedFile(folder.path() / "empty").bytes().empty());
}

}  // namespace
}  // namespace peregrine::core
