// SPDX-License-Identifier: Apache-2.0
#include "weights/finite.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/float16.h"

namespace peregrine::weights {
namespace {

template <typename T>
StoredTensor tensor_of(const std::vector<T>& values, core::DType dtype) {
  return {"w", dtype, {static_cast<std::int64_t>(values.size())}, std::as_bytes(std::span(values)), nullptr};
}

TEST(Finite, FindsTheFirstElementOfEachType) {
  for (const std::size_t at :
       {std::size_t{0}, std::size_t{1}, std::size_t{4095}, std::size_t{4096}, std::size_t{9999}}) {
    for (const float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                            std::numeric_limits<float>::quiet_NaN()}) {
      std::vector<float> f32(10000, -std::numeric_limits<float>::max());
      f32[at] = bad;
      EXPECT_EQ(first_non_finite(tensor_of(f32, core::DType::kF32)), at);
      std::vector<core::Float16> f16(10000, core::to_float16(65504.0f));
      f16[at] = core::to_float16(bad);
      EXPECT_EQ(first_non_finite(tensor_of(f16, core::DType::kF16)), at);
      std::vector<core::BFloat16> bf16(10000, core::to_bfloat16(1e-40f));
      bf16[at] = core::to_bfloat16(bad);
      EXPECT_EQ(first_non_finite(tensor_of(bf16, core::DType::kBF16)), at);
    }
  }
}

TEST(Finite, PassesWhatIsFiniteOrNoFloat) {
  EXPECT_FALSE(first_non_finite(tensor_of(std::vector<float>(5000, 3.0e38f), core::DType::kF32)));
  EXPECT_FALSE(first_non_finite(tensor_of(std::vector<float>{}, core::DType::kF32)));
  EXPECT_FALSE(first_non_finite(tensor_of(std::vector<std::int32_t>(10, 0x7F800000), core::DType::kI32)));
  try {
    require_finite(
        tensor_of(std::vector<float>{1.0f, std::numeric_limits<float>::infinity()}, core::DType::kF32));
    ADD_FAILURE() << "no error";
  } catch (const core::Error& error) {
    EXPECT_EQ(error.kind(), core::ErrorKind::kDataLoss);
    EXPECT_THAT(error.what(), ::testing::HasSubstr("tensor 'w': element 1"));
  }
}

}  // namespace
}  // namespace peregrine::weights
