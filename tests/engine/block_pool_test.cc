// SPDX-License-Identifier: Apache-2.0
#include "engine/block_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "core/error.h"

namespace peregrine::engine {
namespace {

TEST(BlockPool, HandsOutEveryBlockOnceAndTakesItBack) {
  BlockPool pool(5);
  {
    BlockList list(pool);
    std::set<std::int32_t> seen;
    for (int i = 0; i < 5; ++i) {
      list.append_new();
      seen.insert(list.ids().back());
    }
    EXPECT_EQ(seen, (std::set<std::int32_t>{0, 1, 2, 3, 4}));
    EXPECT_EQ(pool.free(), 0);
    EXPECT_THROW(list.append_new(), core::Error);
    EXPECT_EQ(list.size(), 5);
    pool.check();
  }
  EXPECT_EQ(pool.free(), 5);
  pool.check();
}

TEST(BlockPool, SharedBlockIsFreeWhenTheLastReferenceGoes) {
  BlockPool pool(3);
  BlockList first(pool);
  first.append_new();
  const std::int32_t block = first.ids()[0];
  BlockList second(pool);
  second.append_shared(block);
  EXPECT_EQ(pool.references(block), 2);
  first.clear();
  EXPECT_EQ(pool.references(block), 1);
  EXPECT_EQ(pool.used(), 1);
  EXPECT_THROW(first.append_shared(block == 0 ? 1 : 0), core::Error) << "a free block cannot be shared";
  const BlockList moved = std::move(second);
  EXPECT_EQ(pool.used(), 1);
  EXPECT_EQ(moved.ids()[0], block);
}

TEST(BlockPool, ASharedBlockIsReplacedByANewOne) {
  BlockPool pool(4);
  BlockList list(pool);
  list.append_new();
  list.append_new();
  const std::int32_t before = list.ids()[1];
  EXPECT_THROW(list.replace(1, nullptr), core::Error) << "nobody else refers to it";
  BlockList other(pool);
  other.append_shared(before);
  EXPECT_EQ(list.replace(1, nullptr), before);
  EXPECT_NE(list.ids()[1], before);
  EXPECT_EQ(pool.references(before), 1);
  EXPECT_EQ(pool.used(), 3);
  list.take(other);
  EXPECT_EQ(list.size(), 3);
  EXPECT_TRUE(other.empty());
  pool.check();
}

TEST(BlockPool, ReplaceKeepsTheOldBlockInAnotherList) {
  BlockPool pool(4);
  BlockList list(pool);
  list.append_new();
  const std::int32_t before = list.ids()[0];
  BlockList old(pool);
  EXPECT_EQ(list.replace(0, &old), before);
  EXPECT_NE(list.ids()[0], before);
  EXPECT_EQ(old.ids()[0], before);
  EXPECT_EQ(pool.references(before), 1);
  EXPECT_EQ(pool.used(), 2);
  pool.check();
}

TEST(BlockPool, ShareRefersToTheOthersBlocksInsteadOfItsOwn) {
  BlockPool pool(4);
  BlockList list(pool);
  list.append_new();
  BlockList other(pool);
  other.append_new();
  other.append_shared(list.ids()[0]);
  list.share(other);
  EXPECT_TRUE(std::ranges::equal(list.ids(), other.ids()));
  EXPECT_EQ(pool.references(other.ids()[0]), 2);
  EXPECT_EQ(pool.references(other.ids()[1]), 2);
  EXPECT_EQ(pool.used(), 2);
  pool.check();
}

TEST(BlockPool, HundredThousandRandomOperations) {
  std::mt19937 random(3);
  BlockPool pool(17);  // few, so that it runs out all the time
  std::vector<BlockList> lists;
  for (int i = 0; i < 6; ++i) lists.emplace_back(pool);
  int exhausted = 0, shared = 0;
  for (int operation = 0; operation < 100'000; ++operation) {
    BlockList& list = lists[random() % lists.size()];
    BlockList& other = lists[random() % lists.size()];
    switch (random() % 8) {
      case 0:
      case 1:
      case 2:
        if (pool.free() > 0) {
          list.append_new();
        } else {
          ++exhausted;
          EXPECT_THROW(list.append_new(), core::Error);
        }
        break;
      case 3:
        if (!other.empty() && list.size() < 40) {
          const auto count = 1 + random() % static_cast<unsigned>(other.size());
          for (unsigned i = 0; i < count; ++i) list.append_shared(other.ids()[i]);
          ++shared;
        }
        break;
      case 4:
        if (!list.empty() && pool.free() > 0) {
          const auto at = static_cast<std::int32_t>(random() % static_cast<unsigned>(list.size()));
          const bool is_shared = pool.references(list.ids()[static_cast<std::size_t>(at)]) > 1;
          if (is_shared || &list != &other) list.replace(at, is_shared ? nullptr : &other);
        } else if (&list != &other && other.size() < 40) {
          list.share(other);
        }
        break;
      case 5:
        if (&list != &other && list.size() + other.size() < 60) list.take(other);
        break;
      case 6:
        list.clear();
        break;
      default:
        if (&list != &other) list = std::move(other);
    }
    pool.check();
    std::vector<std::int32_t> counted(17, 0);
    for (const BlockList& one : lists) {
      for (const std::int32_t block : one.ids()) ++counted[static_cast<std::size_t>(block)];
    }
    for (std::int32_t block = 0; block < 17; ++block) {
      ASSERT_EQ(pool.references(block), counted[static_cast<std::size_t>(block)]) << operation;
    }
  }
  EXPECT_GT(exhausted, 1000);
  EXPECT_GT(shared, 1000);
  lists.clear();
  EXPECT_EQ(pool.free(), 17);
}

}  // namespace
}  // namespace peregrine::engine
