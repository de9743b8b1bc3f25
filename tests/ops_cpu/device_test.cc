// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/error.h"
#include "ops/cpu/limits.h"
#include "ops_cpu/harness.h"

namespace peregrine::ops::cpu::test {
namespace {

using core::DType;
using ::testing::HasSubstr;

std::string message_of(const auto& function, core::ErrorKind kind) {
  try {
    function();
  } catch (const core::Error& error) {
    EXPECT_EQ(error.kind(), kind);
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

TEST(CpuDevice, NamesItsInstructionSets) {
  const auto isas = available_isas();
  ASSERT_FALSE(isas.empty());
  EXPECT_EQ(isas.front(), "plain");
  for (const std::string& isa : isas) {
    const auto device = create_device("cpu", {.threads = 2, .isa = isa});
    EXPECT_EQ(device->description(), "cpu (" + isa + ", 2 threads)");
  }
  EXPECT_EQ(create_device("cpu", {.threads = 1, .isa = ""})->description(),
            "cpu (" + isas.back() + ", 1 thread)");
  EXPECT_THAT(message_of([] { create_device("cpu", {.threads = 0, .isa = "sse9"}); },
                         core::ErrorKind::kInvalidArgument),
              HasSubstr("'sse9' is unknown; this processor can run plain"));
  EXPECT_THAT(
      message_of([] { create_device("cpu", {.threads = -1, .isa = ""}); }, core::ErrorKind::kInvalidArgument),
      HasSubstr("not -1"));
}

TEST(CpuDevice, BuffersAreAlignedAndZeroed) {
  Harness harness;
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, std::size_t{4097}, std::size_t{5} << 20}) {
    Buffer buffer = harness.device->allocate(bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.address()) % 64, 0u);
    EXPECT_EQ(buffer.size(), bytes);
    for (std::size_t i = 0; i < bytes; i += 777) ASSERT_EQ(buffer.address()[i], std::byte{0});
    Buffer other = std::move(buffer);
    EXPECT_EQ(other.size(), bytes);
  }
  EXPECT_THAT(
      message_of([&] { harness.device->allocate(std::size_t{1} << 60); }, core::ErrorKind::kOverloaded),
      HasSubstr("bytes were asked for"));
}

TEST(CpuDevice, KvBlocksHaveTheSizeTheirSpecificationGives) {
  Harness harness;
  EXPECT_EQ(
      harness.device->kv_block_bytes({.layers = 32, .kv_heads = 1, .head_dim = 64, .dtype = DType::kBF16}),
      32u * 2 * 64 * 16 * 2);
  // Keys padded to even, values to 16 dimensions.
  EXPECT_EQ(harness.device->kv_block_bytes({.layers = 1, .kv_heads = 2, .head_dim = 7, .dtype = DType::kF32}),
            2u * 16 * 4 * (8 + 16));
  // And in 8 bits a scale for each.
  EXPECT_EQ(
      harness.device->kv_block_bytes({.layers = 32, .kv_heads = 1, .head_dim = 64, .dtype = DType::kI8}),
      32u * 2 * 16 * (64 + 4));
  EXPECT_THAT(message_of(
                  [&] {
                    harness.device->create_kv_cache(
                        {.layers = 1, .kv_heads = 1, .head_dim = 8, .dtype = DType::kF16, .blocks = 1});
                  },
                  core::ErrorKind::kInvalidArgument),
              HasSubstr("float16"));
  // Reserved, not committed: a cache far beyond this machine's memory is fine until it is written.
  const KvCacheSpec huge{
      .layers = 64, .kv_heads = 8, .head_dim = 128, .dtype = DType::kF32, .blocks = 30'000};
  EXPECT_EQ(harness.device->create_kv_cache(huge)->spec().blocks, 30'000);
  EXPECT_TRUE(harness.device->supports_compute(DType::kBF16));
  EXPECT_FALSE(harness.device->supports_compute(DType::kF16));
}

TEST(CpuDevice, EveryPackedSizeIsPadded) {
  Harness harness;
  EXPECT_EQ(harness.pack(random_values(5, 7, DType::kBF16, 1))->bytes(), 16u * 8 * 2);
  EXPECT_EQ(harness.pack(random_values(5, 7, DType::kBF16, 1), WeightUse::kRows)->bytes(), 5u * 7 * 2);
  // int8: K to a multiple of 4, the elements to one of 64, and a scale for each row of the padded panels.
  const Values values = random_values(17, 5, DType::kF32, 1);
  const HostMatrix wide = values.host();
  EXPECT_EQ(harness.device->pack({&wide, 1}, DType::kI8, WeightUse::kLinear)->bytes(), 32u * 8 + 32 * 4);
  EXPECT_EQ(harness.device->pack({&wide, 1}, DType::kI8, WeightUse::kRows)->bytes(), 128u + 32 * 4);
  const Values integers{1, 1, DType::kI8, std::vector<std::byte>(1), {}};
  const HostMatrix host = integers.host();
  EXPECT_THAT(message_of(
                  [&] {
                    harness.device->pack({&host, 1}, DType::kF32, WeightUse::kLinear);
                  },
                  core::ErrorKind::kUnsupported),
              HasSubstr("int8"));
}

TEST(CpuLimits, ArePlausible) {
  const Limits limits = measure_limits(1, "plain");
  EXPECT_EQ(limits.isa, "plain");
  EXPECT_EQ(limits.threads, 1);
  EXPECT_GT(limits.read_bandwidth, 1e7);
  EXPECT_LT(limits.read_bandwidth, 1e13);
  EXPECT_GT(limits.f32_rate, 1e7);
  EXPECT_LT(limits.f32_rate, 1e12);
  EXPECT_GT(limits.bf16_rate, 1e7);
  EXPECT_GT(limits.int8_rate, 1e7);
  EXPECT_LT(limits.int8_rate, 1e13);
  EXPECT_THAT(message_of([] { measure_limits(-3); }, core::ErrorKind::kInvalidArgument), HasSubstr("-3"));
}

}  // namespace
}  // namespace peregrine::ops::cpu::test
