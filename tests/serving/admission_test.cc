// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <atomic>

#include "serving/serving_fixture.h"

namespace peregrine::serving {
namespace {

using core::ErrorKind;
using ::testing::HasSubstr;

/// The error of a request that is not taken.
core::Error refusal(Model& model, const GenerationRequest& request) {
  try {
    Client client(model, request);
  } catch (const core::Error& error) {
    return error;
  }
  ADD_FAILURE() << "the request was taken";
  return {ErrorKind::kInternal, ""};
}

TEST_F(ServingTest, FirstComeFirstServed) {
  serve(echo({"--max-sequences", "1", "--step-ms", "1"}));
  constexpr int kRequests = 12;
  std::array<std::atomic<int>, kRequests> place{};
  std::atomic<int> next{1};
  std::vector<std::unique_ptr<Generation>> generations;
  for (int i = 0; i < kRequests; ++i) {
    generations.push_back(model().generate(request(i, 3), [&place, &next, i] {
      // The first wake comes with the first token.
      if (place[static_cast<std::size_t>(i)] == 0) place[static_cast<std::size_t>(i)] = next.fetch_add(1);
    }));
  }
  for (int i = 0; i < kRequests; ++i) {
    std::vector<SequenceUpdate> updates;
    ASSERT_TRUE(eventually([&] { return generations[static_cast<std::size_t>(i)]->take(updates); }));
    EXPECT_EQ(place[static_cast<std::size_t>(i)], i + 1);
  }
}

TEST_F(ServingTest, TheQueueIsBounded) {
  ModelSource what = source();
  what.options.job_queue_size = 3;
  // Two go to the host, three wait, none ever ends.
  serve(echo({"--max-sequences", "1", "--step-ms", "3600000"}), what);
  std::vector<Client> clients;
  for (int i = 0; i < 5; ++i) clients.emplace_back(model(), request(i, 5));
  EXPECT_EQ(refusal(model(), request(9, 5)).kind(), ErrorKind::kOverloaded);
  EXPECT_STREQ(refusal(model(), request(9, 5)).what(), "Worker queue capacity exceeded for model: m");
  EXPECT_TRUE(eventually([&] { return model().status().in_host == 2; }));
  EXPECT_EQ(model().status().queued, 3);
  EXPECT_EQ(metric("peregrine_queued_requests{model=\"m\"}"), 3);

  // A place in the queue is free as soon as its owner goes; one in the host, when the loop has seen it.
  clients[3].cancel();
  EXPECT_EQ(model().status().queued, 2);
  clients.emplace_back(model(), request(6, 5));
  EXPECT_EQ(refusal(model(), request(9, 5)).kind(), ErrorKind::kOverloaded);
  clients[0].cancel();
  EXPECT_TRUE(eventually([&] { return model().status().queued == 2; }));
  clients.emplace_back(model(), request(7, 5));
  EXPECT_EQ(refusal(model(), request(9, 5)).kind(), ErrorKind::kOverloaded);
  EXPECT_EQ(metric("peregrine_requests_total{model=\"m\",outcome=\"overloaded\"}"), 4);
  EXPECT_EQ(metric("peregrine_requests_total{model=\"m\",outcome=\"cancelled\"}"), 2);
}

TEST_F(ServingTest, ACancelledRequestLeavesTheHost) {
  serve(echo({"--step-ms", "1", "--max-model-len", "1000000"}));
  const GenerationRequest endless = request(1, 900000, 2);
  Client gone(model(), endless);
  gone.wait_for_tokens(5);
  EXPECT_TRUE(eventually([&] { return metric("peregrine_engine_running_sequences{model=\"m\"}") == 2; }));
  gone.cancel();
  // What the host says, not what the server thinks.
  EXPECT_TRUE(eventually([&] { return metric("peregrine_engine_running_sequences{model=\"m\"}") == 0; }));
  EXPECT_TRUE(eventually([&] { return model().status().in_host == 0; }));
  EXPECT_EQ(metric("peregrine_requests_total{model=\"m\",outcome=\"cancelled\"}"), 1);
  EXPECT_EQ(Client(model(), request(2, 30)).finish(), expected(request(2, 30)));
  EXPECT_EQ(model().status().restarts, 0u);
}

TEST_F(ServingTest, CancelledNeighboursChangeNothing) {
  serve(echo({"--max-sequences", "4"}));
  for (int round = 0; round < 20; ++round) {
    std::vector<Client> clients;
    for (int i = 0; i < 16; ++i) clients.emplace_back(model(), request(i, 100, 1 + i % 2));
    for (int i = 0; i < 16; i += 2) {
      if (i % 4 == 0) clients[static_cast<std::size_t>(i)].wait_for_tokens(static_cast<std::size_t>(i));
      clients[static_cast<std::size_t>(i)].cancel();
    }
    for (int i = 1; i < 16; i += 2) {
      EXPECT_EQ(clients[static_cast<std::size_t>(i)].finish(), expected(request(i, 100, 1 + i % 2)));
    }
  }
  EXPECT_TRUE(eventually([&] { return model().status().in_host == 0; }));
  EXPECT_EQ(model().status().restarts, 0u);
}

TEST_F(ServingTest, WhatCanNeverRunIsRefusedWithNumbers) {
  serve(echo({"--max-sequences", "4", "--max-model-len", "100", "--vocab", "500"}));
  EXPECT_EQ(refusal(model(), request(0, 5, 5)).kind(), ErrorKind::kInvalidArgument);
  EXPECT_THAT(refusal(model(), request(0, 5, 5)).what(),
              HasSubstr("5 of 5 sequences (n, best_of, num_beams); model m runs 1 to 4"));
  EXPECT_EQ(refusal(model(), request(0, 5, 0)).kind(), ErrorKind::kInvalidArgument);
  EXPECT_EQ(refusal(model(), request(0, 5, -1)).kind(), ErrorKind::kInvalidArgument);

  GenerationRequest longest = request(0, 5);
  longest.prompt_ids.assign(99, 1);
  EXPECT_EQ(Client(model(), longest).finish(), expected(longest, 100));
  longest.prompt_ids.push_back(1);
  EXPECT_THAT(refusal(model(), longest).what(),
              HasSubstr("the prompt has 100 tokens; model m takes at most 100 (prompt and output together)"));
  longest.prompt_ids.clear();
  EXPECT_EQ(refusal(model(), longest).kind(), ErrorKind::kInvalidArgument);
  longest.prompt_ids = {1, 500};
  EXPECT_THAT(refusal(model(), longest).what(), HasSubstr("token id 500; model m knows 0 to 499"));
  longest.prompt_ids = {-1};
  EXPECT_EQ(refusal(model(), longest).kind(), ErrorKind::kInvalidArgument);
  EXPECT_EQ(metric("peregrine_requests_total{model=\"m\",outcome=\"refused\"}"), 8);
}

TEST_F(ServingTest, WhatTheHostRefusesFailsAlone) {
  serve(echo());
  GenerationRequest wrong = request(1, 5);
  wrong.parameters.top_p = 2;
  Client good(model(), request(2, 50));
  Client refused(model(), wrong);
  const core::Error error = refused.wait_for_error();
  EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument);
  EXPECT_THAT(error.what(), HasSubstr("top_p is 2"));
  EXPECT_EQ(good.finish(), expected(request(2, 50)));
  EXPECT_EQ(model().status().restarts, 0u);
  EXPECT_TRUE(eventually([&] { return model().status().in_host == 0; }));
}

TEST_F(ServingTest, NothingIsTakenBeforeTheModelIsThere) {
  start(echo({"--load-ms", "3600000"}), {source()});
  EXPECT_THROW(model().limits(), core::Error);
  EXPECT_EQ(refusal(model(), request(0, 5)).kind(), ErrorKind::kOverloaded);
  EXPECT_STREQ(refusal(model(), request(0, 5)).what(), "Model is not ready: m");
  EXPECT_TRUE(eventually([&] { return model().status().total_bytes > 0; })) << "progress is published";
  EXPECT_EQ(model().status().state, ModelState::kLoading);
  EXPECT_GT(model().status().loaded_bytes, 0u);
  EXPECT_LT(model().status().loaded_bytes, model().status().total_bytes);
}

}  // namespace
}  // namespace peregrine::serving
