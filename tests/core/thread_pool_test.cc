// SPDX-License-Identifier: Apache-2.0
#include "core/thread_pool.h"

#include <gtest/gtest.h>

#include <chrono>

namespace peregrine::core {
namespace {

TEST(ThreadPool, EveryIndexRunsOnceInEachRun) {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    ASSERT_EQ(pool.size(), threads);
    std::vector<int> counts(static_cast<std::size_t>(threads),
                            0);  // one writer each, ordered by run's barrier
    for (int round = 1; round <= 2000; ++round) {
      pool.run([&](int index) { ++counts[static_cast<std::size_t>(index)]; });
      for (const int count : counts) ASSERT_EQ(count, round);
    }
  }
}

TEST(ThreadPool, SleepingWorkersWakeUp) {
  ThreadPool pool(3);
  for (int round = 0; round < 5; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));  // longer than the spin
    std::atomic<int> ran{0};
    pool.run([&](int) { ran.fetch_add(1); });
    EXPECT_EQ(ran.load(), 3);
  }
}

TEST(ThreadPool, AvailableCpusIsAtLeastOne) { EXPECT_GE(available_cpus(), 1); }

}  // namespace
}  // namespace peregrine::core
