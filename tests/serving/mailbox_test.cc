// SPDX-License-Identifier: Apache-2.0
#include "serving/mailbox.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <thread>

namespace peregrine::serving {
namespace {

using generation::FinishReason;
using generation::SampledToken;

std::vector<SampledToken> tokens(std::initializer_list<std::int32_t> ids) {
  std::vector<SampledToken> out;
  for (const std::int32_t id : ids) out.push_back({{id, -1.0f}, {}});
  return out;
}

SequenceUpdate update(std::int32_t sequence, std::initializer_list<std::int32_t> ids,
                      std::optional<FinishReason> finish = {}, std::string error = "") {
  SequenceUpdate out;
  out.sequence = sequence;
  out.tokens = tokens(ids);
  out.finish = finish;
  out.error = std::move(error);
  return out;
}

std::vector<std::int32_t> ids(const SequenceUpdate& update) {
  std::vector<std::int32_t> out;
  for (const SampledToken& token : update.tokens) out.push_back(token.token.id);
  return out;
}

TEST(Mailbox, JoinsWhatComesForOneSequence) {
  Mailbox mailbox(3, nullptr);
  mailbox.push(update(1, {1}));
  mailbox.push(update(0, {2, 3}));
  mailbox.push(update(1, {4}, FinishReason::kLength));
  std::vector<SequenceUpdate> updates;
  EXPECT_FALSE(mailbox.take(updates));
  ASSERT_EQ(updates.size(), 2u);
  EXPECT_EQ(updates[0].sequence, 1);
  EXPECT_THAT(ids(updates[0]), ::testing::ElementsAre(1, 4));
  EXPECT_EQ(updates[0].finish, FinishReason::kLength);
  EXPECT_EQ(updates[1].sequence, 0);
  EXPECT_THAT(ids(updates[1]), ::testing::ElementsAre(2, 3));
  EXPECT_FALSE(updates[1].finish.has_value());

  mailbox.push(update(0, {}, FinishReason::kEosToken));
  mailbox.push(update(2, {}, FinishReason::kError, "not a number"));
  EXPECT_TRUE(mailbox.take(updates));
  ASSERT_EQ(updates.size(), 4u) << "take() appends";
  EXPECT_EQ(updates[2].finish, FinishReason::kEosToken);
  EXPECT_EQ(updates[3].error, "not a number");
  EXPECT_TRUE(mailbox.take(updates));
  EXPECT_EQ(updates.size(), 4u);
}

TEST(Mailbox, PromptsAreJoinedAndScoresComeWithTheEnd) {
  Mailbox mailbox(2, nullptr);
  SequenceUpdate first = update(0, {});
  first.prompt = tokens({5, 6});
  mailbox.push(first);
  SequenceUpdate second = update(0, {1}, FinishReason::kLength);
  second.prompt = tokens({7});
  second.score = -0.5f;
  mailbox.push(second);
  std::vector<SequenceUpdate> updates;
  EXPECT_FALSE(mailbox.take(updates)) << "sequence 1 has not ended";
  ASSERT_EQ(updates.size(), 1u);
  ASSERT_EQ(updates[0].prompt.size(), 3u);
  EXPECT_EQ(updates[0].prompt[2].token.id, 7);
  EXPECT_EQ(updates[0].score, -0.5f);
}

TEST(Mailbox, WakesOnceUntilTaken) {
  int wakes = 0;
  Mailbox mailbox(2, [&] { ++wakes; });
  std::vector<SequenceUpdate> updates;
  mailbox.take(updates);
  EXPECT_EQ(wakes, 0);
  mailbox.push(update(0, {1}));
  mailbox.push(update(0, {2}));
  mailbox.push(update(1, {2}));
  EXPECT_EQ(wakes, 1);
  mailbox.take(updates);
  EXPECT_EQ(wakes, 1);
  mailbox.push(update(1, {2}));
  EXPECT_EQ(wakes, 2);
}

TEST(Mailbox, WhoFillsManyWakesWhenAllAreFilled) {
  int wakes = 0;
  Mailbox mailbox(2, [&] { ++wakes; });
  EXPECT_TRUE(mailbox.put(update(0, {1})));
  EXPECT_FALSE(mailbox.put(update(1, {1}))) << "one wake is for both";
  EXPECT_EQ(wakes, 0);
  mailbox.wake();
  EXPECT_EQ(wakes, 1);
  std::vector<SequenceUpdate> updates;
  mailbox.take(updates);
  EXPECT_EQ(updates.size(), 2u);
  EXPECT_TRUE(mailbox.put(update(1, {2})));
  EXPECT_FALSE(Mailbox(1, nullptr).put(update(0, {1}))) << "nobody is to be woken";
}

TEST(Mailbox, FailureIsThrownForEver) {
  int wakes = 0;
  Mailbox mailbox(1, [&] { ++wakes; });
  mailbox.fail(core::Error(core::ErrorKind::kOverloaded, "first"));
  mailbox.fail(core::Error(core::ErrorKind::kInternal, "second"));
  mailbox.push(update(0, {1}, FinishReason::kLength));
  EXPECT_EQ(wakes, 1);
  std::vector<SequenceUpdate> updates;
  for (int i = 0; i < 3; ++i) {
    try {
      mailbox.take(updates);
      FAIL();
    } catch (const core::Error& error) {
      EXPECT_EQ(error.kind(), core::ErrorKind::kOverloaded);
      EXPECT_STREQ(error.what(), "first");
    }
  }
  EXPECT_TRUE(updates.empty());
}

TEST(Mailbox, WhatHasEndedCannotFail) {
  Mailbox mailbox(1, nullptr);
  mailbox.push(update(0, {1}, FinishReason::kLength));
  mailbox.fail(core::Error(core::ErrorKind::kOverloaded, "too late"));
  std::vector<SequenceUpdate> updates;
  EXPECT_TRUE(mailbox.take(updates));
  EXPECT_EQ(updates.size(), 1u);
  EXPECT_FALSE(mailbox.abandon());
}

TEST(Mailbox, AbandonedKeepsNothingAndIsQuiet) {
  int wakes = 0;
  Mailbox mailbox(1, [&] { ++wakes; });
  EXPECT_TRUE(mailbox.abandon());
  mailbox.push(update(0, {1}));
  mailbox.fail(core::Error(core::ErrorKind::kInternal, "nobody cares"));
  EXPECT_EQ(wakes, 0);
}

TEST(Mailbox, WakeMayTakeAndMayUseTheConsumersLock) {
  // A consumer that holds its own lock around take() and inside wake() must not deadlock with the producer.
  std::mutex own;
  std::vector<SequenceUpdate> updates;
  Mailbox* taken = nullptr;
  Mailbox mailbox(1, [&] {
    const std::lock_guard lock(own);
    taken->take(updates);
  });
  taken = &mailbox;
  std::thread consumer([&] {
    std::vector<SequenceUpdate> more;
    for (int i = 0; i < 20000; ++i) {
      const std::lock_guard lock(own);
      mailbox.take(more);
    }
  });
  for (int i = 0; i < 20000; ++i) mailbox.push(update(0, {i}));
  consumer.join();
}

/// A consumer that only looks when it was woken, against a producer that never waits.
TEST(Mailbox, NothingIsLostToARacingConsumer) {
  constexpr std::int32_t kTokens = 60000;
  std::mutex mutex;
  std::condition_variable rung;
  bool bell = false;
  std::atomic<int> wakes{0};
  std::atomic<int> takes{0};
  Mailbox mailbox(3, [&] {
    const int taken = takes.load();
    // Each wake but the first needs a take() since the one before it.
    EXPECT_LE(wakes.fetch_add(1), taken);
    const std::lock_guard lock(mutex);
    bell = true;
    rung.notify_one();
  });
  std::thread producer([&] {
    for (std::int32_t i = 0; i < kTokens; ++i) mailbox.push(update(i % 3, {i}));
    for (std::int32_t s = 0; s < 3; ++s) mailbox.push(update(s, {}, FinishReason::kLength));
  });
  std::vector<std::int32_t> next = {0, 1, 2};
  for (bool all = false; !all;) {
    {
      std::unique_lock lock(mutex);
      ASSERT_TRUE(rung.wait_for(lock, std::chrono::seconds(120), [&] { return bell; })) << "a wake was lost";
      bell = false;
    }
    // Counted before: the producer may wake as soon as the mailbox is empty.
    takes.fetch_add(1);
    std::vector<SequenceUpdate> updates;
    all = mailbox.take(updates);
    for (const SequenceUpdate& update : updates) {
      for (const std::int32_t id : ids(update)) {
        EXPECT_EQ(id, next[static_cast<std::size_t>(update.sequence)]);
        next[static_cast<std::size_t>(update.sequence)] += 3;
      }
    }
  }
  producer.join();
  EXPECT_THAT(next, ::testing::ElementsAre(kTokens, kTokens + 1, kTokens + 2));
}

}  // namespace
}  // namespace peregrine::serving
