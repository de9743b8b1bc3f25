// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <set>
#include <thread>

#include "serving/serving_fixture.h"

namespace peregrine::serving {
namespace {

using core::ErrorKind;
using ::testing::HasSubstr;

TEST_F(ServingTest, TokensArriveAsTheHostSaysThem) {
  serve(echo());
  Client client(model(), request(1, 40));
  EXPECT_EQ(client.finish(), expected(request(1, 40)));
  EXPECT_GE(client.generation().timing().first_token_seconds, client.generation().timing().queued_seconds);
  EXPECT_GT(client.generation().timing().first_token_seconds, 0);

  GenerationRequest group = request(2, 50, 5);
  group.parameters.eos_token_ids = {group.prompt_ids[3]};
  EXPECT_EQ(Client(model(), group).finish(), expected(group));
  EXPECT_EQ(expected(group)[1].ids.size(), 3u) << "they end at different times";

  GenerationRequest top = request(3, 2);
  top.parameters.top_n_tokens = 3;
  std::atomic<bool> woken{false};
  const auto generation = model().generate(top, [&] { woken = true; });
  std::vector<SequenceUpdate> updates;
  ASSERT_TRUE(eventually([&] { return woken.exchange(false) && generation->take(updates); }));
  ASSERT_FALSE(updates.empty());
  ASSERT_EQ(updates[0].tokens[0].top.size(), 3u);
  EXPECT_EQ(updates[0].tokens[0].top[1].id, top.prompt_ids[0] + 1);
}

TEST_F(ServingTest, TellsWhatTheModelIs) {
  ModelSource what = source();
  what.options.job_queue_size = 17;
  serve(echo({"--vocab", "1234", "--max-model-len", "99", "--max-sequences", "3"}), what);
  EXPECT_EQ(models_->find("m"), models_->all()[0]);
  EXPECT_EQ(models_->find("n"), nullptr);
  EXPECT_EQ(model().name(), "m");
  EXPECT_EQ(model().directory().info().model_type, "falcon");
  EXPECT_EQ(model().limits().vocab_size, 1234);
  EXPECT_EQ(model().limits().max_model_length, 99);
  EXPECT_EQ(model().limits().max_sequences, 3);
  const ModelStatus status = model().status();
  EXPECT_EQ(status.state, ModelState::kReady);
  EXPECT_STREQ(to_string(status.state), "ready");
  EXPECT_GT(status.host_pid, 0);
  EXPECT_EQ(status.restarts, 0u);
  EXPECT_EQ(status.job_queue_size, 17);
  EXPECT_GT(status.total_bytes, 0u);
  EXPECT_EQ(status.loaded_bytes, status.total_bytes);
}

TEST_F(ServingTest, SixtyFourAtOnce) {
  serve(echo({"--max-sequences", "16"}));
  std::vector<std::thread> clients;
  for (int i = 0; i < 64; ++i) {
    clients.emplace_back([this, i] {
      const GenerationRequest mine = request(i, 20 + i, 1 + i % 3);
      EXPECT_EQ(Client(model(), mine).finish(), expected(mine));
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_TRUE(eventually([&] { return model().status().in_host == 0; }));
  EXPECT_EQ(model().status().queued, 0);
}

TEST_F(ServingTest, TheServersWindowEndsAtTheContext) {
  serve(echo({"--max-model-len", "20"}));
  const GenerationRequest mine = request(0, 500);
  EXPECT_EQ(Client(model(), mine).finish(), expected(mine, 20));
}

TEST_F(ServingTest, SeveralModelsEachWithAHost) {
  start(echo(), {source("a"), source("b"), source("c")});
  ASSERT_TRUE(models_->wait_until_loaded());
  std::set<int> pids;
  for (Model* one : models_->all()) {
    pids.insert(one->status().host_pid);
    EXPECT_EQ(Client(*one, request(3, 30)).finish(), expected(request(3, 30)));
    EXPECT_EQ(metric("peregrine_generated_tokens_total{model=\"" + one->name() + "\"}"), 30);
  }
  EXPECT_EQ(pids.size(), 3u);
}

TEST_F(ServingTest, WhatCannotBeServedIsSaidAtOnce) {
  ModelSource nowhere = source();
  nowhere.directory = folder_.path() / "nowhere";
  try {
    const Models models({nowhere}, echo(), metrics_);
    FAIL();
  } catch (const core::Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kNotFound);
    EXPECT_THAT(error.what(), HasSubstr("nowhere"));
  }
  EXPECT_THROW(Models({source("a"), source("b"), source("a")}, echo(), metrics_), core::Error);

  // option.model_id says where the files are.
  nowhere.options.model_id = source().directory;
  serve(echo(), nowhere);
  EXPECT_EQ(model().directory().path(), source().directory);
}

TEST_F(ServingTest, MetricsCountWhatHappened) {
  serve(echo({"--max-sequences", "4"}));
  const GenerationRequest mine = request(4, 10, 2);
  Client(model(), mine).finish();
  EXPECT_EQ(metric("peregrine_model_ready{model=\"m\"}"), 1);
  EXPECT_EQ(metric("peregrine_requests_total{model=\"m\",outcome=\"length\"}"), 1);
  EXPECT_EQ(metric("peregrine_generated_tokens_total{model=\"m\"}"), 20);
  EXPECT_EQ(metric("peregrine_prompt_tokens_total{model=\"m\"}"),
            static_cast<double>(mine.prompt_ids.size()));
  EXPECT_EQ(metric("peregrine_request_queue_seconds_count{model=\"m\"}"), 1);
  EXPECT_EQ(metric("peregrine_time_to_first_token_seconds_count{model=\"m\"}"), 1);
  EXPECT_EQ(metric("peregrine_inter_token_latency_seconds_count{model=\"m\"}"), 18);
  EXPECT_EQ(metric("peregrine_engine_steps_total{model=\"m\"}"), 10);
  EXPECT_EQ(metric("peregrine_engine_batch_size_count{model=\"m\"}"), 10);
  EXPECT_EQ(metric("peregrine_engine_batch_size_sum{model=\"m\"}"), 20) << "the last step too had two";
  EXPECT_EQ(metric("peregrine_queued_requests{model=\"m\"}"), 0);
}

}  // namespace
}  // namespace peregrine::serving
