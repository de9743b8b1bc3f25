// SPDX-License-Identifier: Apache-2.0
#include "core/progress.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>
#include <vector>

namespace peregrine::core {
namespace {

TEST(Progress, NobodyWaitsForWhatHasCome) {
  Progress progress;
  progress.wait(0);
  progress.advance(3);
  progress.wait(3, false);
  EXPECT_EQ(progress.value(), 3u);
}

TEST(Progress, EveryWaiterGetsWhatItWaitsFor) {
  constexpr std::uint64_t kLast = 20000;
  for (const bool spin : {false, true}) {
    Progress progress;
    std::vector<std::thread> waiters;
    for (std::uint64_t stride : {1u, 7u, 1000u, 20000u}) {
      waiters.emplace_back([&, stride] {
        for (std::uint64_t target = stride; target <= kLast; target += stride) {
          progress.wait(target, spin);
          EXPECT_GE(progress.value(), target);
        }
      });
    }
    for (std::uint64_t i = 1; i <= kLast; ++i) {
      progress.advance(i);
      if (i % 1000 == 0) std::this_thread::sleep_for(std::chrono::microseconds(100));  // all go to sleep
    }
    for (std::thread& waiter : waiters) waiter.join();
  }
}

TEST(Progress, WhatWasWrittenBeforeIsSeen) {
  Progress there, back;
  int value = 0;
  std::thread other([&] {
    for (std::uint64_t i = 1; i <= 5000; ++i) {
      there.wait(i, i % 2 == 0);
      ++value;
      back.advance(i);
    }
  });
  for (std::uint64_t i = 1; i <= 5000; ++i) {
    ++value;
    there.advance(i);
    back.wait(i, i % 3 == 0);
    ASSERT_EQ(value, static_cast<int>(2 * i));
  }
  other.join();
}

}  // namespace
}  // namespace peregrine::core
