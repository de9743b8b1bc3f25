// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "core/error.h"
#include "ops_cpu/harness.h"

namespace peregrine::ops::cpu::test {
namespace {

using core::DType;

struct Gate {
  std::atomic<bool> open{false};
  static void wait(void* gate) { static_cast<Gate*>(gate)->open.wait(false); }
  void release() {
    open = true;
    open.notify_all();
  }
};

TEST(CpuStream, RunsInOrderAndEventsNamePoints) {
  Harness harness;
  Gate gate;
  std::vector<int> order;
  struct Entry {
    std::vector<int>* order;
    int number;
  } first{&order, 1}, second{&order, 2};
  const auto append = [](void* entry) {
    static_cast<Entry*>(entry)->order->push_back(static_cast<Entry*>(entry)->number);
  };
  const EventId before = harness.stream->record();
  harness.stream->host(&Gate::wait, &gate);
  harness.stream->host(append, &first);
  const EventId middle = harness.stream->record();
  harness.stream->host(append, &second);
  const EventId end = harness.stream->record();
  EXPECT_TRUE(harness.stream->done(before));
  EXPECT_FALSE(harness.stream->done(middle));
  gate.release();
  harness.stream->wait(end);
  EXPECT_TRUE(harness.stream->done(middle));
  EXPECT_EQ(order, (std::vector<int>{1, 2}));
}

TEST(CpuStream, AFullQueueBlocksAndLosesNothing) {
  Harness harness;
  std::atomic<int> calls{0};
  Gate gate;
  harness.stream->host(&Gate::wait, &gate);
  std::thread opener([&gate] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    gate.release();
  });
  constexpr int kCalls = 20'000;
  for (int i = 0; i < kCalls; ++i) {
    harness.stream->host([](void* count) { ++*static_cast<std::atomic<int>*>(count); }, &calls);
  }
  harness.finish();
  opener.join();
  EXPECT_EQ(calls, kCalls);
}

TEST(CpuStream, SleepsAndWakes) {
  Harness harness;
  for (int i = 0; i < 20; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    int mark = 0;
    harness.stream->host([](void* m) { *static_cast<int*>(m) = 1; }, &mark);
    harness.finish();
    ASSERT_EQ(mark, 1);
  }
}

TEST(CpuStream, AFailedOperationIsReportedAndHostCallsStillRun) {
  Harness harness;
  LinearArgs args;  // no weight: a defect
  args.in = harness.make(1, 4, DType::kF32);
  args.out = harness.make(1, 4, DType::kF32);
  int called = 0;
  harness.stream->linear(args);
  harness.stream->host([](void* m) { *static_cast<int*>(m) = 1; }, &called);
  const EventId end = harness.stream->record();
  try {
    harness.stream->wait(end);
    FAIL() << "no error";
  } catch (const core::Error& error) {
    EXPECT_EQ(error.kind(), core::ErrorKind::kInternal);
    EXPECT_THAT(error.what(), ::testing::HasSubstr("linear without a weight"));
  }
  EXPECT_EQ(called, 1);
  // Another stream of the device is not touched.
  const auto other = harness.device->create_stream();
  other->wait(other->record());
}

TEST(CpuStream, StreamsOfOneDeviceShareItsThreads) {
  Harness harness;
  const Values weight = random_values(200, 96, DType::kF32, 30);
  const auto packed = harness.pack(weight);
  const Values in = random_values(17, 96, DType::kF32, 31);
  LinearArgs args;
  args.in = harness.put(in);
  args.weight = packed.get();
  args.out = harness.make(17, 200, DType::kF32);
  harness.stream->linear(args);
  const auto expected = harness.bytes_of(args.out);
  const auto second = harness.device->create_stream();
  LinearArgs args2 = args;
  args2.out = harness.make(17, 200, DType::kF32);
  for (int i = 0; i < 100; ++i) {
    harness.stream->linear(args);
    second->linear(args2);
  }
  second->wait(second->record());
  EXPECT_EQ(harness.bytes_of(args.out), expected);
  EXPECT_EQ(harness.bytes_of(args2.out), expected);
}

}  // namespace
}  // namespace peregrine::ops::cpu::test
