// SPDX-License-Identifier: Apache-2.0
#include "channel/event_loop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <limits>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "channel/loop_thread.h"

namespace peregrine::channel {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;
using Timer = EventLoop::Timer;

TEST(EventLoop, RunsTasksInOrderOnItsThread) {
  EventLoop loop;
  std::vector<int> order;
  loop.post([&] { order.push_back(1); });
  loop.post([&] {
    order.push_back(2);
    EXPECT_TRUE(loop.on_thread());
    loop.post([&] {
      order.push_back(4);
      loop.stop();
    });
  });
  loop.post([&] { order.push_back(3); });
  EXPECT_FALSE(loop.on_thread());
  std::thread thread([&] { loop.run(); });
  thread.join();
  EXPECT_FALSE(loop.on_thread());
  EXPECT_THAT(order, ElementsAre(1, 2, 3, 4));
}

TEST(EventLoop, TakesTasksFromManyThreads) {
  testing::LoopThread loop;
  int count = 0;  // Of the loop's thread alone.
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 5000; ++i) loop.loop().post([&] { ++count; });
    });
  }
  for (auto& thread : threads) thread.join();
  loop.call([&] { EXPECT_EQ(count, 20000); });
}

TEST(EventLoop, DestroysWhatItDidNotRun) {
  const auto held = std::make_shared<int>(1);
  bool ran = false;
  {
    EventLoop loop;
    loop.post([&] { loop.stop(); });
    loop.post([held, &ran] { ran = true; });
    Timer timer(loop);
    timer.start(milliseconds(0), [held, &ran] { ran = true; });
    // A task may own what lives on the loop.
    loop.post([held, owned = std::make_shared<Timer>(loop)] { owned->cancel(); });
    loop.run();
    EXPECT_GT(held.use_count(), 1);
  }
  EXPECT_FALSE(ran);
  EXPECT_EQ(held.use_count(), 1);
}

TEST(EventLoopTimer, FiresOnce) {
  EventLoop loop;
  Timer timer(loop);
  Timer end(loop);
  int fired = 0;
  const auto begin = std::chrono::steady_clock::now();
  timer.start(milliseconds(20), [&] {
    ++fired;
    EXPECT_GE(std::chrono::steady_clock::now() - begin, milliseconds(20));
    end.start(milliseconds(30), [&] { loop.stop(); });
  });
  loop.run();
  EXPECT_EQ(fired, 1);
}

TEST(EventLoopTimer, DoesNotFireAfterCancelEvenWhereBothAreDue) {
  EventLoop loop;
  Timer first(loop), second(loop), end(loop);
  int fired = 0;
  // Whichever comes first cancels the other, whose expiry is then queued already.
  first.start(milliseconds(1), [&] { ++fired, second.cancel(); });
  second.start(milliseconds(1), [&] { ++fired, first.cancel(); });
  end.start(milliseconds(50), [&] { loop.stop(); });
  loop.post([] { std::this_thread::sleep_for(milliseconds(20)); });
  loop.run();
  EXPECT_EQ(fired, 1);
}

TEST(EventLoopTimer, StartReplacesAndMovesKeepOne) {
  EventLoop loop;
  std::vector<int> fired;
  Timer timer(loop);
  timer.start(milliseconds(0), [&] { fired.push_back(1); });
  timer.start(milliseconds(1), [&] { fired.push_back(2); });
  Timer other(loop);
  other.start(milliseconds(0), [&] { fired.push_back(3); });
  other = std::move(timer);
  Timer end(loop);
  end.start(milliseconds(50), [&] { loop.stop(); });
  loop.run();
  EXPECT_THAT(fired, ElementsAre(2));
}

TEST(EventLoopTimer, MayBeStartedAndDestroyedInItsOwnTask) {
  EventLoop loop;
  auto timer = std::make_unique<Timer>(loop);
  int fired = 0;
  timer->start(milliseconds(-5), [&] {
    ++fired;
    timer->start(milliseconds(0), [&, owned = std::make_shared<int>(7)] {
      ++fired;
      timer.reset();
      EXPECT_EQ(*owned, 7);
      loop.stop();
    });
  });
  loop.run();
  EXPECT_EQ(fired, 2);
}

TEST(EventLoopTimer, TakesAnyDelayAndDropsTheTaskOnCancel) {
  EventLoop loop;
  const auto held = std::make_shared<int>(1);
  std::optional<Timer> timer(loop);
  timer->start(milliseconds::max(), [held] { FAIL() << "in 292 million years"; });
  loop.post([&] {
    timer->cancel();
    EXPECT_EQ(held.use_count(), 1);
    timer->start(milliseconds::min(), [&] {
      timer.reset();
      loop.stop();
    });
  });
  loop.run();
}

}  // namespace
}  // namespace peregrine::channel
