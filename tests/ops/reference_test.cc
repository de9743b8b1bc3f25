// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <functional>

#include "core/error.h"
#include "ops/support.h"

// What the reference device alone does: it runs late, hides its memory, and notices what others would not.

namespace peregrine::ops::testing {
namespace {

class ReferenceTest : public DeviceTest {};
INSTANTIATE_TEST_SUITE_P(Device, ReferenceTest, ::testing::Values(DeviceCase{"reference", "", 1}), case_name);

TEST_P(ReferenceTest, UploadsReadTheirSourceWhenTheyRun) {
  Buffer buffer = device_->allocate(sizeof(int));
  int source = 1;
  int found = 0;
  stream_->upload(buffer.address(), &source, sizeof source);
  source = 2;
  stream_->download(&found, buffer.address(), sizeof found);
  EXPECT_EQ(found, 0) << "nothing runs before somebody waits";
  finish();
  EXPECT_EQ(found, 2);
}

TEST_P(ReferenceTest, EachQuestionRunsOneOperation) {
  int count = 0;
  for (int i = 0; i < 5; ++i) stream_->host([](void* context) { ++*static_cast<int*>(context); }, &count);
  const EventId third = stream_->record() - 2;
  const EventId last = stream_->record();
  EXPECT_EQ(count, 0);
  EXPECT_FALSE(stream_->done(last));
  EXPECT_EQ(count, 1);
  stream_->wait(third);
  EXPECT_EQ(count, 3) << "wait runs what it must and no more";
  EXPECT_TRUE(stream_->done(third));
  EXPECT_EQ(count, 3) << "a question whose answer is known runs nothing";
  EXPECT_FALSE(stream_->done(last));
  EXPECT_TRUE(stream_->done(last));
}

using ReferenceDeathTest = ReferenceTest;
INSTANTIATE_TEST_SUITE_P(Device, ReferenceDeathTest, ::testing::Values(DeviceCase{"reference", "", 1}),
                         case_name);

TEST_P(ReferenceDeathTest, TheHostCannotTouchDeviceMemory) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  Buffer buffer = device_->allocate(4096);
  volatile std::byte* address = buffer.address();
  EXPECT_DEATH({ [[maybe_unused]] const std::byte read = address[0]; }, "");
  EXPECT_DEATH(address[4095] = std::byte{1}, "");
}

TEST_P(ReferenceTest, WrongAddressesAreErrors) {
  Buffer buffer = device_->allocate(100);
  std::vector<std::byte> host(200);
  const auto upload = [&](DeviceAddress address, std::size_t bytes) {
    stream_->upload(address, host.data(), bytes);
    expect_failure("upload");
  };
  upload(nullptr, 1);
  upload(host.data(), 1);
  upload(buffer.address(), 101);
  upload(buffer.address() + 100, 1);
  upload(buffer.address() - 1, 1);
  upload(buffer.address() + 1, SIZE_MAX);
  const auto other = create_device("reference", {});
  Buffer foreign = other->allocate(100);
  upload(foreign.address(), 1);
  const DeviceAddress stale = buffer.address();
  buffer = Buffer();
  Buffer next = device_->allocate(100);
  EXPECT_NE(next.address(), stale) << "addresses come back late";
  upload(stale, 1);
  // The device lives on.
  const std::byte sent{7};
  std::byte found{0};
  stream_->upload(next.address() + 99, &sent, 1);
  stream_->download(&found, next.address() + 99, 1);
  finish();
  EXPECT_EQ(found, sent);
}

TEST_P(ReferenceTest, EventsBeforeAFailureStayGood) {
  Buffer buffer = device_->allocate(4);
  int value = 1;
  int found = 0;
  stream_->upload(buffer.address(), &value, sizeof value);
  const EventId good = stream_->record();
  stream_->upload(nullptr, &value, sizeof value);
  stream_->download(&found, buffer.address(), sizeof found);
  EXPECT_THROW(finish(), core::Error);
  EXPECT_NO_THROW(stream_->wait(good));
  EXPECT_EQ(found, 0) << "nothing is computed after a failure";
}

TEST_P(ReferenceTest, WrongArgumentsAreErrors) {
  const auto weight = pack(random_data(random_, 8, 16, DType::kF32), DType::kF32);
  const auto rows_only = pack(random_data(random_, 8, 16, DType::kF32), DType::kF32, WeightUse::kRows);
  const DeviceMatrix in = make_matrix(4, 16, DType::kF32, 16);
  const DeviceMatrix out = make_matrix(4, 8, DType::kF32);
  const LinearArgs good{.in = in,
                        .weight = weight.get(),
                        .bias = {},
                        .activation = Activation::kNone,
                        .residual = {},
                        .out = out};
  stream_->linear(good);
  finish();
  const auto expect_bad = [&](const std::function<void(LinearArgs&)>& damage, const std::string& text) {
    LinearArgs args = good;
    damage(args);
    stream_->linear(args);
    expect_failure(text);
  };
  expect_bad([](LinearArgs& args) { args.weight = nullptr; }, "no weight");
  expect_bad([&](LinearArgs& args) { args.weight = rows_only.get(); }, "packed for rows only");
  expect_bad([](LinearArgs& args) { args.in.cols = 15; }, "16 columns needed, 15 given");
  expect_bad([](LinearArgs& args) { args.in.rows = 3; }, "4 rows needed, 3 given");
  expect_bad([](LinearArgs& args) { args.out.dtype = DType::kF16; }, "float16");
  expect_bad([](LinearArgs& args) { args.out.stride = 7; }, "7 elements apart");
  expect_bad([](LinearArgs& args) { args.out.data += 2; }, "linear out");
  expect_bad(
      [&](LinearArgs& args) {
        args.out.data = in.matrix.data;
        args.out.stride = 32;
      },
      "overlaps");
  expect_bad([&](LinearArgs& args) { args.bias = {in.matrix.data, 7}; }, "8 elements needed, 7 given");
  // Other columns of the same rows are no overlap.
  LinearArgs beside = good;
  beside.out = {in.matrix.data + 16 * sizeof(float), DType::kF32, 3, 8, 32};
  beside.in.rows = 3;
  stream_->linear(beside);
  EXPECT_NO_THROW(finish());
}

TEST_P(ReferenceTest, WrongBatchesAreErrors) {
  const auto cache = device_->create_kv_cache({.layers = 1, .kv_heads = 1, .head_dim = 8, .blocks = 2});
  const DeviceMatrix qkv = make_matrix(3, 24, DType::kF32);
  const auto expect_bad = [&](const std::function<void(HostBatch&)>& damage, const std::string& text) {
    HostBatch host({{0, 1, {1}}, {7, 2, {0}}});
    damage(host);
    Batch batch{};
    batch.rows = 3;
    batch.sequences = 2;
    batch.positions = make_array(host.positions);
    batch.row_sequence = make_array(host.row_sequence);
    batch.sequence_starts = make_array(host.starts);
    batch.block_tables = make_array(host.tables);
    batch.table_stride = host.stride;
    stream_->rotate_and_store({batch, qkv, 1, {}, {}, RotaryStyle::kHalves, cache.get(), 0});
    if (text.empty()) {
      EXPECT_NO_THROW(finish());
    } else {
      expect_failure(text);
    }
  };
  expect_bad([](HostBatch&) {}, "");
  expect_bad([](HostBatch& host) { host.positions[0] = -1; }, "position -1");
  expect_bad([](HostBatch& host) { host.positions[2] = 9; }, "position 9 after 7");
  expect_bad([](HostBatch& host) { host.positions[1] = 32, host.positions[2] = 33; }, "beyond a table");
  expect_bad([](HostBatch& host) { host.row_sequence[1] = 0; }, "row 1 is not one of sequence 0");
  expect_bad([](HostBatch& host) { host.starts[2] = 2; }, "do not divide 3 rows");
  expect_bad([](HostBatch& host) { host.tables[host.stride] = 2; }, "block 2 of a cache of 2");
  expect_bad([](HostBatch& host) { host.positions.pop_back(); }, "3 elements needed, 2 given");
}

}  // namespace
}  // namespace peregrine::ops::testing
