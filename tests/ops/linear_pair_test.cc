// SPDX-License-Identifier: Apache-2.0
// Two products in one operation give what each gives by itself, bit for bit.
#include <gtest/gtest.h>

#include "ops/support.h"

namespace peregrine::ops::testing {
namespace {

class LinearPairTest : public DeviceTest {
 protected:
  LinearArgs product(const Matrix& in, const Weight& weight, const Matrix& out) {
    return {.in = in, .weight = &weight, .bias = {}, .residual = {}, .out = out};
  }

  /// Expects that `first` and `second` together write what they write one after the other.
  void expect_same(LinearArgs first, LinearArgs second, const std::string& what) {
    const DeviceMatrix alone[] = {make_matrix(first.out.rows, first.out.cols, DType::kF32),
                                  make_matrix(second.out.rows, second.out.cols, DType::kF32)};
    const DeviceMatrix together[] = {make_matrix(first.out.rows, first.out.cols, DType::kF32, 3),
                                     make_matrix(second.out.rows, second.out.cols, DType::kF32, 1)};
    first.out = alone[0];
    second.out = alone[1];
    stream_->linear(first);
    stream_->linear(second);
    first.out = together[0];
    second.out = together[1];
    stream_->linear_pair({first, second});
    for (int i = 0; i < 2; ++i)
      EXPECT_EQ(read(together[i]).values, read(alone[i]).values) << what << ", " << i;
  }

  std::unique_ptr<Weight> pack_as(const HostData& data, DType dtype) { return pack(data, dtype); }
};
INSTANTIATE_TEST_SUITE_P(Devices, LinearPairTest, ::testing::ValuesIn(device_cases()), case_name);

TEST_P(LinearPairTest, EachGivesWhatItGivesAlone) {
  constexpr std::int64_t kWidth = 70;
  for (const std::int64_t rows : {1, 5, 13, 40}) {
    const DeviceMatrix in = make_matrix(random_data(random_, rows, kWidth, DType::kBF16), 2);
    const DeviceMatrix other = make_matrix(random_data(random_, rows, 31, DType::kF32));
    const HostData qkv = random_data(random_, 50, kWidth, DType::kF32);
    const HostData up = random_data(random_, 133, kWidth, DType::kF32);
    const HostData apart = random_data(random_, 9, 31, DType::kF32);
    const auto float_apart = pack_as(apart, DType::kF32);
    const Matrix first_out{.rows = rows, .cols = 50}, second_out{.rows = rows, .cols = 133};
    for (const DType type : {DType::kBF16, DType::kF16, DType::kI8}) {
      const auto first = pack_as(qkv, type), second = pack_as(up, type);
      const std::string what = std::to_string(rows) + " rows, " + core::to_string(type);
      LinearArgs activated = product(in, *second, second_out);
      activated.activation = Activation::kGelu;
      activated.bias = make_array(random_data(random_, 1, 133, DType::kF32).values);
      expect_same(product(in, *first, first_out), activated, what + ", the same rows");
      expect_same(product(in, *first, first_out), product(other, *float_apart, {.rows = rows, .cols = 9}),
                  what + ", other rows");
      // The same rows, prepared in another way.
      const auto mixed = pack_as(up, type == DType::kI8 ? DType::kBF16 : DType::kI8);
      expect_same(product(in, *first, first_out), product(in, *mixed, second_out), what + ", another type");
    }
  }
}

TEST_P(LinearPairTest, AWrongOneStopsBoth) {
  const DeviceMatrix in = make_matrix(random_data(random_, 2, 8, DType::kF32));
  const auto weight = pack_as(random_data(random_, 3, 8, DType::kF32), DType::kF32);
  const DeviceMatrix out = make_matrix(2, 3, DType::kF32), wrong = make_matrix(2, 4, DType::kF32);
  stream_->linear_pair({product(in, *weight, out), product(in, *weight, wrong)});
  expect_failure("linear");
}

}  // namespace
}  // namespace peregrine::ops::testing
