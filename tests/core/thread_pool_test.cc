// SPDX-License-Identifier: Apache-2.0
#include "core/thread_pool.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
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

TEST(ThreadPool, SharedWorkIsDoneOnceHoweverManyCome) {
  // More threads than any of these machines has processors, and pauses around the end of the spin.
  ThreadPool pool(9);
  constexpr int kItems = 64;
  std::array<std::atomic<int>, kItems> done{};
  for (int round = 1; round <= 3000; ++round) {
    std::atomic<int> next{0};
    pool.share([&](int) {
      for (int item = next.fetch_add(1); item < kItems; item = next.fetch_add(1)) done[item].fetch_add(1);
    });
    for (const auto& count : done) ASSERT_EQ(count.load(std::memory_order_relaxed), round);
    if (round % 100 == 0) std::this_thread::sleep_for(std::chrono::microseconds(round / 20));
  }
}

TEST(ThreadPool, NobodyIsInsideAfterTheReturn) {
  ThreadPool pool(4);
  for (int round = 0; round < 5000; ++round) {
    std::atomic<int> inside{0};
    pool.share([&](int index) {
      inside.fetch_add(1);
      if (index != 0) std::this_thread::yield();
      inside.fetch_sub(1);
    });
    ASSERT_EQ(inside.load(), 0);
  }
}

TEST(ThreadPool, AWorkerThatDoesNotComeIsNotWaitedFor) {
  // All on one processor, whose only runnable thread is mostly the caller: many a worker is still asleep when
  // the caller has done everything. With a wait for each of them every run would change threads.
  const std::vector<int> one = {allowed_processors().front()};
  const Seated seated(one);
  ThreadPool pool(4, Seats(4, one));
  std::atomic<int> came{0};
  constexpr int kRuns = 2000;
  for (int round = 0; round < kRuns; ++round) {
    pool.share([&](int index) { came.fetch_add(index == 0 ? 0 : 1); });
  }
  EXPECT_LT(came.load(), 3 * kRuns);
}

TEST(ThreadPool, WorkersSitWhereTheyAreTold) {
  const std::vector<int> allowed = allowed_processors();
  ThreadPool pool(3, Seats(3, {allowed.back()}));
  std::vector<std::vector<int>> seen(3);
  pool.run([&](int index) { seen[static_cast<std::size_t>(index)] = allowed_processors(); });
  EXPECT_EQ(seen[0], allowed) << "the caller chooses for itself";
  EXPECT_EQ(seen[1], std::vector<int>{allowed.back()});
  EXPECT_EQ(seen[2], std::vector<int>{allowed.back()});
}

}  // namespace
}  // namespace peregrine::core
