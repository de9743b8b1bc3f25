// SPDX-License-Identifier: Apache-2.0
#include "ops/device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <utility>

#include "core/error.h"
#include "ops/support.h"

namespace peregrine::ops::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

template <typename Function>
core::Error error_of(Function&& function) {
  try {
    function();
  } catch (const core::Error& error) {
    return error;
  }
  ADD_FAILURE() << "no error was thrown";
  return core::Error(core::ErrorKind::kNotFound, "");
}

TEST(CreateDevice, UnknownNameListsTheKnown) {
  const core::Error error = error_of([] { create_device("gpu", {}); });
  EXPECT_EQ(error.kind(), core::ErrorKind::kInvalidArgument);
  EXPECT_THAT(error.what(), AllOf(HasSubstr("gpu"), HasSubstr("cpu"), HasSubstr("reference")));
}

TEST(CreateDevice, UnknownInstructionSetIsNamed) {
  for (const char* name : {"cpu", "reference"}) {
    const core::Error error = error_of([&] { create_device(name, {.threads = 1, .isa = "avx1024"}); });
    EXPECT_EQ(error.kind(), core::ErrorKind::kInvalidArgument) << name;
    EXPECT_THAT(error.what(), HasSubstr("avx1024")) << name;
  }
}

TEST(CreateDevice, EveryProcessorHasThePlainInstructionSet) {
  ASSERT_FALSE(available_isas().empty());
  EXPECT_EQ(available_isas().front(), "plain");
}

class DeviceCommon : public DeviceTest {};
INSTANTIATE_TEST_SUITE_P(Devices, DeviceCommon, ::testing::ValuesIn(device_cases()), case_name);

TEST_P(DeviceCommon, DescriptionNamesTheDevice) {
  EXPECT_THAT(device_->description(), HasSubstr(GetParam().name));
  EXPECT_THAT(device_->description(), HasSubstr(GetParam().isa));
}

TEST_P(DeviceCommon, ComputesInFloat32AndBFloat16) {
  EXPECT_TRUE(device_->supports_compute(DType::kF32));
  EXPECT_TRUE(device_->supports_compute(DType::kBF16));
  EXPECT_FALSE(device_->supports_compute(DType::kI8));
}

TEST_P(DeviceCommon, MemoryIsAlignedAndZeroed) {
  for (int round = 0; round < 3; ++round) {
    for (const std::size_t size : {1u, 63u, 64u, 4096u, 100'003u}) {
      Buffer buffer = device_->allocate(size);
      ASSERT_TRUE(buffer);
      EXPECT_EQ(buffer.size(), size);
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.address()) % 64, 0u);
      std::vector<std::byte> bytes(size, std::byte{1});
      stream_->download(bytes.data(), buffer.address(), size);
      finish();
      EXPECT_EQ(bytes, std::vector<std::byte>(size)) << "round " << round;
      // Leave dirt for the next owner.
      std::memset(bytes.data(), 0xAB, size);
      stream_->upload(buffer.address(), bytes.data(), size);
      finish();
    }
  }
}

TEST_P(DeviceCommon, BuffersDoNotOverlap) {
  std::vector<Buffer> buffers;
  std::vector<std::vector<char>> contents;
  for (int i = 0; i < 50; ++i) {
    buffers.push_back(device_->allocate(static_cast<std::size_t>(1 + i * 97)));
    contents.emplace_back(buffers.back().size(), static_cast<char>(i + 1));
  }
  for (int i = 0; i < 50; i += 2) buffers[i] = device_->allocate(buffers[i].size());
  for (std::size_t i = 0; i < 50; ++i)
    stream_->upload(buffers[i].address(), contents[i].data(), contents[i].size());
  finish();
  for (std::size_t i = 0; i < 50; ++i) {
    std::vector<char> found(contents[i].size());
    stream_->download(found.data(), buffers[i].address(), found.size());
    finish();
    EXPECT_EQ(found, contents[i]) << i;
  }
}

TEST_P(DeviceCommon, BuffersMove) {
  Buffer first = device_->allocate(64);
  const DeviceAddress address = first.address();
  Buffer second = std::move(first);
  EXPECT_FALSE(first);  // NOLINT: what is left after a move is part of the promise.
  EXPECT_EQ(second.address(), address);
  Buffer third;
  EXPECT_FALSE(third);
  third = std::move(second);
  EXPECT_EQ(third.address(), address);
  EXPECT_EQ(third.size(), 64u);
  Buffer& alias = third;
  third = std::move(alias);
  EXPECT_EQ(third.address(), address);
  const int value = 42;
  int found = 0;
  stream_->upload(address, &value, sizeof value);
  stream_->download(&found, address, sizeof found);
  finish();
  EXPECT_EQ(found, 42);
}

TEST_P(DeviceCommon, TooMuchMemoryIsAnError) {
  const core::Error error = error_of([&] { device_->allocate(std::size_t{1} << 60); });
  EXPECT_EQ(error.kind(), core::ErrorKind::kOverloaded);
  EXPECT_THAT(error.what(), HasSubstr("1152921504606")) << "2^60 bytes, perhaps with padding";
  EXPECT_TRUE(device_->allocate(64)) << "the device must still work";
}

TEST_P(DeviceCommon, BlockBytesHoldKeysAndValues) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kI8}) {
    const KvCacheSpec spec{.layers = 3, .kv_heads = 5, .head_dim = 20, .dtype = dtype, .blocks = 7};
    const std::size_t scale = dtype == DType::kI8 ? sizeof(float) : 0;
    const std::size_t least = 3 * 2 * 16 * 5 * (20 * core::size_of(dtype) + scale);
    EXPECT_GE(device_->kv_block_bytes(spec), least);
    EXPECT_LE(device_->kv_block_bytes(spec), 4 * least);
    KvCacheSpec more = spec;
    more.blocks = 70'000;
    EXPECT_EQ(device_->kv_block_bytes(more), device_->kv_block_bytes(spec));
    const auto cache = device_->create_kv_cache(spec);
    EXPECT_EQ(cache->spec().blocks, 7);
    EXPECT_EQ(cache->spec().head_dim, 20);
    EXPECT_EQ(cache->spec().dtype, dtype);
  }
}

TEST_P(DeviceCommon, LinearKernelHasAName) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    const auto weight = pack(random_data(random_, 40, 33, DType::kF32), dtype);
    for (const DType activation : {DType::kF32, DType::kBF16}) {
      const std::string name = device_->linear_kernel(*weight, activation);
      EXPECT_FALSE(name.empty());
      EXPECT_EQ(name == "reference", GetParam().name == "reference") << name;
    }
  }
}

}  // namespace
}  // namespace peregrine::ops::testing
