// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "core/error.h"
#include "ops/support.h"

// What a stream promises to whoever enqueues, on every device.

namespace peregrine::ops::testing {
namespace {

class SeamTest : public DeviceTest {
 protected:
  /// Polls until the event is done; false after a time that no machine needs.
  bool becomes_done(EventId event) {
    const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (!stream_->done(event)) {
      if (std::chrono::steady_clock::now() > limit) return false;
      std::this_thread::yield();
    }
    return true;
  }
};
INSTANTIATE_TEST_SUITE_P(Devices, SeamTest, ::testing::ValuesIn(device_cases()), case_name);

TEST_P(SeamTest, AnEmptyStreamIsDone) {
  const EventId event = stream_->record();
  EXPECT_TRUE(becomes_done(event));
  stream_->wait(event);
  stream_->wait(event);
  EXPECT_TRUE(stream_->done(event));
}

TEST_P(SeamTest, HostFunctionsRunInOrder) {
  struct Call {
    std::vector<int>* order;
    int number;
  };
  std::vector<int> order;
  std::vector<Call> calls;
  for (int i = 0; i < 1000; ++i) calls.push_back({&order, i});
  for (Call& call : calls) {
    stream_->host(
        [](void* context) {
          auto* self = static_cast<Call*>(context);
          self->order->push_back(self->number);
        },
        &call);
  }
  finish();
  ASSERT_EQ(order.size(), 1000u);
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
}

TEST_P(SeamTest, HostLoopsCallOncePerItemAndInTheirPlace) {
  const int threads = stream_->host_threads();
  ASSERT_GE(threads, 1);
  struct Loop {
    std::vector<std::atomic<int>> calls;
    std::vector<std::atomic<int>> busy;  // Of each thread.
    int threads;
    std::atomic<int> wrong{0};
    int calls_before = 0;
  };
  for (const std::int64_t count : {0, 1, 2, 7, 100}) {
    Loop loop{.calls = std::vector<std::atomic<int>>(static_cast<std::size_t>(count)),
              .busy = std::vector<std::atomic<int>>(static_cast<std::size_t>(threads)),
              .threads = threads};
    stream_->host([](void* context) { static_cast<Loop*>(context)->calls_before = 1; }, &loop);
    stream_->host_for_each(
        [](void* context, std::int64_t item, int thread) {
          Loop& self = *static_cast<Loop*>(context);
          if (self.calls_before != 1 || thread < 0 || thread >= self.threads) return void(++self.wrong);
          if (self.busy[static_cast<std::size_t>(thread)].exchange(1) != 0) ++self.wrong;
          ++self.calls[static_cast<std::size_t>(item)];
          self.busy[static_cast<std::size_t>(thread)] = 0;
        },
        &loop, count);
    // After all of them.
    stream_->host(
        [](void* context) {
          Loop& self = *static_cast<Loop*>(context);
          for (const auto& calls : self.calls) self.wrong += calls == 1 ? 0 : 1;
        },
        &loop);
    finish();
    EXPECT_EQ(loop.wrong, 0) << count;
  }
}

TEST_P(SeamTest, LargeCopiesArriveWhole) {
  for (const std::size_t bytes : {std::size_t{1}, std::size_t{262'143}, std::size_t{1'000'001}}) {
    std::vector<unsigned char> source(bytes), back(bytes);
    for (std::size_t i = 0; i < bytes; ++i) source[i] = static_cast<unsigned char>(i * 7 + i / 251);
    const Buffer buffer = device_->allocate(bytes);
    stream_->upload(buffer.address(), source.data(), bytes);
    stream_->download(back.data(), buffer.address(), bytes);
    finish();
    EXPECT_EQ(source, back) << bytes;
  }
}

// A queue may be finite: then enqueueing waits, and nothing is lost.
TEST_P(SeamTest, MoreOperationsThanAnyQueueHolds) {
  constexpr int kCount = 50'000;
  std::atomic<int> count = 0;
  for (int i = 0; i < kCount; ++i) {
    stream_->host([](void* context) { static_cast<std::atomic<int>*>(context)->fetch_add(1); }, &count);
  }
  finish();
  EXPECT_EQ(count, kCount);
}

TEST_P(SeamTest, EventsComeTrueInOrderAndByPollingAlone) {
  std::atomic<int> count = 0;
  std::vector<EventId> events;
  for (int i = 0; i < 20; ++i) {
    stream_->host([](void* context) { static_cast<std::atomic<int>*>(context)->fetch_add(1); }, &count);
    events.push_back(stream_->record());
  }
  stream_->wait(events[9]);
  EXPECT_GE(count, 10);
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(stream_->done(events[i])) << i;
  for (int i = 10; i < 20; ++i) {
    ASSERT_TRUE(becomes_done(events[i]));
    EXPECT_GE(count, i + 1);
  }
  EXPECT_EQ(count, 20);
}

TEST_P(SeamTest, TransfersAndHostFunctionsKeepTheirPlaces) {
  Buffer buffer = device_->allocate(sizeof(int));
  struct Context {
    int source = 1;
    int seen = 0;
    int result = 0;
  } context;
  stream_->upload(buffer.address(), &context.source, sizeof(int));
  stream_->download(&context.seen, buffer.address(), sizeof(int));
  // Runs after the first upload has read the source and before the second does.
  stream_->host(
      [](void* pointer) {
        auto* self = static_cast<Context*>(pointer);
        self->source = self->seen + 41;
      },
      &context);
  stream_->upload(buffer.address(), &context.source, sizeof(int));
  stream_->download(&context.result, buffer.address(), sizeof(int));
  finish();
  EXPECT_EQ(context.seen, 1);
  EXPECT_EQ(context.result, 42);
}

TEST_P(SeamTest, DestructionRunsWhatIsQueued) {
  int count = 0;
  for (int i = 0; i < 100; ++i) stream_->host([](void* context) { ++*static_cast<int*>(context); }, &count);
  stream_.reset();
  EXPECT_EQ(count, 100);
}

// A failure is a defect: it must reach whoever waits, again and again, and must not hang those who wait for a
// call.
TEST_P(SeamTest, FailuresReachWhoeverWaits) {
  int count = 0;
  stream_->linear(LinearArgs{});
  stream_->host([](void* context) { ++*static_cast<int*>(context); }, &count);
  const EventId event = stream_->record();
  for (int i = 0; i < 2; ++i) {
    try {
      stream_->wait(event);
      ADD_FAILURE() << "no error";
    } catch (const core::Error& error) {
      EXPECT_EQ(error.kind(), core::ErrorKind::kInternal);
    }
  }
  EXPECT_TRUE(stream_->done(event));
  EXPECT_EQ(count, 1);
  stream_->host([](void* context) { ++*static_cast<int*>(context); }, &count);
  EXPECT_THROW(finish(), core::Error);
  EXPECT_EQ(count, 2);
  stream_ = device_->create_stream();
  EXPECT_NO_THROW(finish()) << "another stream of the device is not touched";
}

TEST_P(SeamTest, EmptyTransfersAndEmptyBatchesAreNothing) {
  Buffer buffer = device_->allocate(64);
  stream_->upload(buffer.address(), nullptr, 0);
  stream_->download(nullptr, buffer.address(), 0);
  const auto weight = pack(random_data(random_, 8, 16, DType::kF32), DType::kF32);
  LinearArgs args{};
  args.in = Matrix{buffer.address(), DType::kF32, 0, 16, 16};
  args.weight = weight.get();
  args.out = Matrix{buffer.address(), DType::kF32, 0, 8, 8};
  stream_->linear(args);
  finish();
}

/// A model of one step: embeds the token of slot 0 and "samples" the next from the embedding, on the host.
struct Sampler {
  std::vector<float> logits = std::vector<float>(8);
  std::int32_t token = 0;
  std::vector<std::int32_t>* tokens = nullptr;

  static void sample(void* context) {
    auto* self = static_cast<Sampler*>(context);
    // The table says which token follows: its row holds the next token's number.
    self->token = static_cast<std::int32_t>(self->logits[0]);
    self->tokens->push_back(self->token);
  }
};

// Every step is enqueued before the first has run; each names the token that the step before it will have
// sampled.
TEST_P(SeamTest, SeveralStepsInFlightHandOnTheirTokens) {
  constexpr int kSteps = 12;
  HostData table{DType::kF32, 8, 8, std::vector<float>(64)};
  for (int row = 0; row < 8; ++row) table.at(row, 0) = static_cast<float>((row * 5 + 3) % 8);
  const auto weight = pack(table, DType::kF32, WeightUse::kRows);
  const Ints slots = make_array<std::int32_t>({0, 2, 0});
  const Ints ids = make_array<std::int32_t>({~1});
  const DeviceMatrix out = make_matrix(1, 8, DType::kF32);
  std::vector<std::int32_t> tokens;
  std::vector<Sampler> samplers(kSteps);
  std::vector<EventId> events;
  for (Sampler& sampler : samplers) {
    sampler.tokens = &tokens;
    stream_->embed({ids, slots, weight.get(), 1.0f, out});
    stream_->download(sampler.logits.data(), out.matrix.data, 8 * sizeof(float));
    stream_->host(&Sampler::sample, &sampler);
    stream_->upload(slots.data + 1 * sizeof(std::int32_t), &sampler.token, sizeof(std::int32_t));
    events.push_back(stream_->record());
  }
  stream_->wait(events[3]);
  EXPECT_GE(tokens.size(), 4u);
  finish();
  std::vector<std::int32_t> expected;
  std::int32_t token = 2;
  for (int i = 0; i < kSteps; ++i) expected.push_back(token = (token * 5 + 3) % 8);
  EXPECT_EQ(tokens, expected);
}

TEST_P(SeamTest, StreamsOfOneDeviceRunOnThreadsOfTheirOwn) {
  const HostData weights = random_data(random_, 40, 64, DType::kF32);
  const auto weight = pack(weights, DType::kF32);
  const DeviceMatrix in = make_matrix(random_data(random_, 5, 64, DType::kF32));
  std::vector<std::vector<float>> results(2);
  std::vector<std::thread> threads;
  for (std::vector<float>& result : results) {
    threads.emplace_back([&] {
      const auto stream = device_->create_stream();
      for (int round = 0; round < 50; ++round) {
        Buffer buffer = device_->allocate(5 * 40 * sizeof(float));
        LinearArgs args{};
        args.in = in;
        args.weight = weight.get();
        args.out = Matrix{buffer.address(), DType::kF32, 5, 40, 40};
        stream->linear(args);
        result.assign(5 * 40, 0.0f);
        stream->download(result.data(), buffer.address(), buffer.size());
        stream->wait(stream->record());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(results[0], results[1]);
  EXPECT_NE(results[0], std::vector<float>(5 * 40, 0.0f));
}

}  // namespace
}  // namespace peregrine::ops::testing
