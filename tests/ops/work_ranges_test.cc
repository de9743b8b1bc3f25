// SPDX-License-Identifier: Apache-2.0
#include "ops/cpu/work_ranges.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <vector>

#include "core/thread_pool.h"
#include "ops/cpu/compute.h"
#include "ops/cpu/isa.h"

namespace peregrine::ops::cpu {
namespace {

TEST(WorkRanges, EachWalksThroughItsOwnPartFirst) {
  WorkRanges ranges(3);
  ranges.deal(31);
  WorkRange range;
  for (const std::int64_t begin : {10, 14, 18}) {  // part 1 is [10, 20)
    ASSERT_TRUE(ranges.take(1, 4, range));
    EXPECT_EQ(range.begin, begin);
    EXPECT_EQ(range.end, std::min<std::int64_t>(begin + 4, 20));
  }
  // Then from the back of the fullest: part 2 is [20, 31).
  ASSERT_TRUE(ranges.take(1, 4, range));
  EXPECT_EQ(range.begin, 27);
  EXPECT_EQ(range.end, 31);
  ASSERT_TRUE(ranges.take(2, 4, range));
  EXPECT_EQ(range.begin, 20);
  ASSERT_TRUE(ranges.take(1, 4, range)) << "now part 0";
  EXPECT_EQ(range.begin, 6);
  EXPECT_EQ(range.end, 10);
}

TEST(WorkRanges, OneTakesAllWhereNobodyElseComes) {
  WorkRanges ranges(4);
  for (const std::int64_t count : {0, 1, 3, 4, 1000}) {
    ranges.deal(count);
    std::vector<int> taken(static_cast<std::size_t>(count));
    for (WorkRange range; ranges.take(2, 7, range);) {
      ASSERT_LT(range.begin, range.end);
      for (std::int64_t i = range.begin; i < range.end; ++i) ++taken[static_cast<std::size_t>(i)];
    }
    for (const int times : taken) ASSERT_EQ(times, 1);
  }
}

TEST(WorkRanges, EveryItemOnceHoweverThreadsMeet) {
  for (const int threads : {2, 5}) {
    Compute compute(threads, kernels_for(""));
    for (const std::int64_t count : {1, 2, 7, 64, 1000}) {
      for (const std::int64_t grain : {1, 3, 100}) {
        const auto taken = std::make_unique<std::atomic<int>[]>(static_cast<std::size_t>(count));
        for (int round = 1; round <= 100; ++round) {
          compute.for_each_range(count, grain, [&](std::int64_t begin, std::int64_t end, int thread) {
            ASSERT_TRUE(thread >= 0 && thread < threads);
            for (std::int64_t i = begin; i < end; ++i) taken[static_cast<std::size_t>(i)].fetch_add(1);
          });
          for (std::int64_t i = 0; i < count; ++i)
            ASSERT_EQ(taken[static_cast<std::size_t>(i)].load(), round);
        }
      }
    }
  }
}

TEST(WorkRanges, WhatCannotBeDealtIsADefect) {
  Compute compute(2, kernels_for(""));
  const auto nothing = [](std::int64_t, std::int64_t, int) {};
  compute.for_each_range(0, 1, nothing);
  EXPECT_THROW(compute.for_each_range(std::int64_t{1} << 32, 1, nothing), core::Error);
  EXPECT_THROW(compute.for_each_range(10, 0, nothing), core::Error);
}

}  // namespace
}  // namespace peregrine::ops::cpu
