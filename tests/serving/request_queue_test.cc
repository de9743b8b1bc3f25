// SPDX-License-Identifier: Apache-2.0
#include "serving/request_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <random>

namespace peregrine::serving {
namespace {

RequestQueue::Item item(std::uint64_t id, std::int32_t n = 1) {
  auto request = std::make_shared<Request>();
  request->id = id;
  request->places = n;
  return request;
}

std::uint64_t popped(RequestQueue& queue) {
  const RequestQueue::Item item = queue.pop();
  return item ? item->id : 0;
}

TEST(RequestQueue, LetsOneBatchAndAFewMoreThrough) {
  RequestQueue small;
  small.open(2);  // 2 running and 2 ahead
  RequestQueue large;
  large.open(32);  // 32 running and 8 ahead
  for (std::uint64_t id = 1; id <= 50; ++id) {
    small.push(item(id));
    large.push(item(id));
  }
  for (std::uint64_t id = 1; id <= 4; ++id) EXPECT_EQ(popped(small), id);
  EXPECT_EQ(popped(small), 0u);
  for (std::uint64_t id = 1; id <= 40; ++id) EXPECT_EQ(popped(large), id);
  EXPECT_EQ(popped(large), 0u);
  small.release(1);
  EXPECT_EQ(popped(small), 5u);
  EXPECT_EQ(popped(small), 0u);
  EXPECT_EQ(small.size(), 45u);
}

TEST(RequestQueue, ALargeRequestIsNotOvertaken) {
  RequestQueue queue;
  queue.open(4);  // 8 places
  queue.push(item(1, 3));
  queue.push(item(2, 3));
  queue.push(item(3, 3));
  queue.push(item(4, 1));
  EXPECT_EQ(popped(queue), 1u);
  EXPECT_EQ(popped(queue), 2u);
  EXPECT_EQ(popped(queue), 0u) << "2 places are free, 3 are needed; 4 waits behind";
  EXPECT_NE(queue.remove(3), nullptr);
  EXPECT_EQ(queue.remove(3), nullptr);
  EXPECT_EQ(popped(queue), 4u);
}

TEST(RequestQueue, LargerThanTheHostGoesWhenItIsEmpty) {
  RequestQueue queue;
  queue.open(2);
  queue.push(item(1));
  queue.push(item(2, 9));
  EXPECT_EQ(popped(queue), 1u);
  EXPECT_EQ(popped(queue), 0u);
  queue.release(1);
  EXPECT_EQ(popped(queue), 2u);
}

TEST(RequestQueue, ClosedLetsNoneThroughAndStillCounts) {
  RequestQueue queue;
  EXPECT_TRUE(queue.has_room(1, 2));
  queue.push(item(1));
  queue.push(item(2));
  EXPECT_EQ(popped(queue), 0u);
  EXPECT_FALSE(queue.has_room(1, 2));
  queue.open(1);
  EXPECT_TRUE(queue.has_room(1, 2)) << "both are only on their way";
  queue.close();
  EXPECT_FALSE(queue.has_room(1, 2));
}

TEST(RequestQueue, RoomIsWhatWouldWait) {
  RequestQueue queue;
  queue.open(1);  // 2 places
  for (std::uint64_t id = 1; id <= 5; ++id) {
    ASSERT_TRUE(queue.has_room(1, 3)) << id;
    queue.push(item(id));
  }
  EXPECT_FALSE(queue.has_room(1, 3));
  EXPECT_EQ(popped(queue), 1u);
  EXPECT_EQ(popped(queue), 2u);
  EXPECT_FALSE(queue.has_room(1, 3)) << "the same, now that they are in the host";
  queue.release(1);
  EXPECT_TRUE(queue.has_room(1, 3));
}

TEST(RequestQueue, NoneMayWait) {
  RequestQueue queue;
  queue.open(1);
  EXPECT_TRUE(queue.has_room(1, 0));
  queue.push(item(1));
  EXPECT_TRUE(queue.has_room(1, 0));
  queue.push(item(2));
  EXPECT_FALSE(queue.has_room(1, 0));
}

/// Against a list that does the same in the plainest way.
TEST(RequestQueue, AgreesWithAPlainList) {
  std::mt19937 random(7);
  for (int round = 0; round < 20; ++round) {
    RequestQueue queue;
    const std::int32_t most = 1 + static_cast<std::int32_t>(random() % 20);
    const std::int64_t places = most + std::min(8, most);
    queue.open(most);
    std::deque<std::pair<std::uint64_t, std::int32_t>> list;
    std::deque<std::int32_t> in_host;
    std::int64_t used = 0;
    for (std::uint64_t id = 1; id < 2000; ++id) {
      const auto n = 1 + static_cast<std::int32_t>(random() % static_cast<unsigned>(most));
      if (random() % 2 == 0) {
        queue.push(item(id, n));
        list.emplace_back(id, n);
      }
      if (random() % 3 == 0 && !in_host.empty()) {
        queue.release(in_host.front());
        used -= in_host.front();
        in_host.pop_front();
      }
      if (random() % 7 == 0 && !list.empty()) {
        const auto victim = list.begin() + static_cast<std::ptrdiff_t>(random() % list.size());
        EXPECT_NE(queue.remove(victim->first), nullptr);
        list.erase(victim);
      }
      if (random() % 2 == 0) continue;
      const bool fits = !list.empty() && used + list.front().second <= places;
      ASSERT_EQ(popped(queue), fits ? list.front().first : 0u);
      if (!fits) continue;
      used += list.front().second;
      in_host.push_back(list.front().second);
      list.pop_front();
    }
    EXPECT_EQ(queue.size(), list.size());
  }
}

}  // namespace
}  // namespace peregrine::serving
