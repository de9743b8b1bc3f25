// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "fixtures.h"
#include "support/test_data.h"
#include "weights/safetensors.h"
#include "weights/safetensors_header.h"
#include "weights/safetensors_writer.h"

namespace peregrine::weights {
namespace {

using core::DType;
using core::ErrorKind;
using peregrine::testing::TemporaryDirectory;
using ::testing::HasSubstr;

TEST(SafetensorsWriter, WhatIsWrittenIsReadBack) {
  const TemporaryDirectory directory;
  const auto path = directory.path() / "m.safetensors";
  const std::string f32 = pattern(24), bf16 = pattern(14, 2), i64 = pattern(8, 3), flags = pattern(3, 4);
  std::vector<TensorToWrite> tensors = {
      {"flags", DType::kBool, {3}, as_bytes(flags)},
      {"b \"quoted\" \xc3\xa9", DType::kBF16, {7, 1}, as_bytes(bf16)},
      {"empty", DType::kF32, {0, 9}, {}},
      {"a", DType::kF32, {2, 3}, as_bytes(f32)},
      {"scalar", DType::kI64, {}, as_bytes(i64)},
  };
  write_safetensors(path, tensors, {{"format", "pt"}, {"a\nb", "\\"}});
  {
    const SafetensorsFile file(path);
    ASSERT_EQ(file.tensors().size(), 5u);
    EXPECT_EQ(file.metadata().at("a\nb"), "\\");
    EXPECT_EQ(file.metadata().size(), 2u);
    for (const auto& written : tensors) {
      const auto found = std::find_if(file.tensors().begin(), file.tensors().end(),
                                      [&](const auto& tensor) { return tensor.name == written.name; });
      ASSERT_NE(found, file.tensors().end()) << written.name;
      EXPECT_EQ(found->dtype, written.dtype);
      EXPECT_EQ(found->shape, written.shape);
      EXPECT_EQ(bytes_text(found->data), bytes_text(written.data));
      EXPECT_EQ(*found->file, path);
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(found->data.data()) % core::size_of(found->dtype), 0u)
          << written.name;
    }
  }
  const std::string first = read_text(path);
  EXPECT_EQ(parse_safetensors(as_bytes(first), "m").data_start % 8, 0u);
  std::reverse(tensors.begin(), tensors.end());
  write_safetensors(path, tensors, {{"format", "pt"}, {"a\nb", "\\"}});
  EXPECT_EQ(read_text(path), first);  // whatever the order
  EXPECT_FALSE(std::filesystem::exists(path.string() + ".unfinished"));

  write_safetensors(path, {});
  EXPECT_EQ(SafetensorsFile(path).tensors().size(), 0u);
}

TEST(SafetensorsWriter, WrongTensorsAreRefusedAndTheOldFileStays) {
  const TemporaryDirectory directory;
  const auto path = directory.path() / "m.safetensors";
  const std::string data = pattern(8);
  write_safetensors(path, {{TensorToWrite{"t", DType::kF32, {2}, as_bytes(data)}}});
  const std::string before = read_text(path);
  const auto refused = [&](std::vector<TensorToWrite> tensors) {
    return caught([&] { write_safetensors(path, tensors); });
  };
  EXPECT_THAT(refused({{"t", DType::kF32, {3}, as_bytes(data)}}).message,
              HasSubstr("tensor 't': shape [3] of F32 does not fit 8 bytes"));
  EXPECT_THAT(refused({{"t", DType::kF32, {-2}, as_bytes(data)}}).message,
              HasSubstr("shape [-2] of F32 does not fit"));
  EXPECT_THAT(
      refused({{"t", DType::kF32, {2}, as_bytes(data)}, {"t", DType::kF32, {2}, as_bytes(data)}}).message,
      HasSubstr("tensor 't' is given twice"));
  EXPECT_THAT(refused({{"__metadata__", DType::kF32, {2}, as_bytes(data)}}).message,
              HasSubstr("a tensor cannot be called '__metadata__'"));
  EXPECT_EQ(read_text(path), before);
  const Caught error = caught([&] { write_safetensors(directory.path() / "no" / "m.safetensors", {}); });
  EXPECT_EQ(error.kind, ErrorKind::kInternal);
  EXPECT_THAT(error.message, HasSubstr("no/m.safetensors: No such file or directory"));
}

}  // namespace
}  // namespace peregrine::weights
