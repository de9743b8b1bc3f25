// SPDX-License-Identifier: Apache-2.0
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <random>
#include <sstream>
#include <thread>

#include "serving/serving_fixture.h"

namespace peregrine::serving {
namespace {

using ::testing::HasSubstr;

TEST_F(ServingTest, AHostKilledWhileIdleIsReplaced) {
  serve(echo());
  const int first = model().status().host_pid;
  kill_host();
  EXPECT_TRUE(eventually(
      [&] { return model().status().state == ModelState::kReady && model().status().host_pid != first; }));
  EXPECT_EQ(model().status().restarts, 1u);
  EXPECT_EQ(metric("peregrine_host_restarts_total{model=\"m\"}"), 1);
  EXPECT_EQ(Client(model(), request(1, 50)).finish(), expected(request(1, 50)));
}

TEST_F(ServingTest, RequestsWaitWhileTheHostIsReplaced) {
  // The second start takes a while: long enough for everybody to see it.
  ModelSource what = source();
  what.options.job_queue_size = 2;
  serve(bad("echo,silent,echo"), what);
  kill_host();
  EXPECT_TRUE(eventually([&] { return bad_starts() == 2; }));
  EXPECT_EQ(model().status().state, ModelState::kRestarting);
  EXPECT_EQ(metric("peregrine_model_ready{model=\"m\"}"), 0);
  Client one(model(), request(1, 20));
  Client two(model(), request(2, 20));
  EXPECT_EQ(model().status().queued, 2);
  EXPECT_THROW(Client(model(), request(3, 20)), core::Error);
  kill_host();
  EXPECT_EQ(one.finish(), expected(request(1, 20)));
  EXPECT_EQ(two.finish(), expected(request(2, 20)));
}

TEST_F(ServingTest, ThirtyTwoStreamsSurviveKillsAtAnyMoment) {
  serve(echo({"--step-ms", "2", "--max-sequences", "32"}));
  std::mt19937 random(std::random_device{}());
  std::vector<std::thread> threads;
  std::atomic<int> running{32};
  for (int i = 0; i < 32; ++i) {
    threads.emplace_back([this, i, &running] {
      const GenerationRequest mine = request(i, 200 + i, 1 + i % 4);
      EXPECT_EQ(Client(model(), mine).finish(), expected(mine)) << "request " << i;
      --running;
    });
  }
  int kills = 0;
  while (running > 0 && kills < 8) {
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % 150));
    if (model().status().host_pid > 0) ++kills;
    kill_host();
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GE(model().status().restarts, 1u);
  EXPECT_TRUE(eventually([&] { return model().status().in_host == 0; }));
  double tokens = 0;
  for (int i = 0; i < 32; ++i) tokens += (200 + i) * (1 + i % 4);
  EXPECT_EQ(metric("peregrine_generated_tokens_total{model=\"m\"}"), tokens);
}

TEST_F(ServingTest, SequencesThatHadEndedStayEnded) {
  // Of four sequences two end in the first steps, two much later; the host dies in between.
  serve(echo({"--step-ms", "2"}));
  GenerationRequest mine = request(0, 400, 4);
  mine.prompt_ids.clear();
  for (int i = 0; i < 150; ++i) mine.prompt_ids.push_back(500 + i);
  mine.parameters.eos_token_ids = {mine.prompt_ids[1]};
  Client client(model(), mine);
  client.wait_for_tokens(50);
  kill_host();
  client.wait_for_tokens(120);
  kill_host();
  EXPECT_EQ(client.finish(), expected(mine));
  EXPECT_GE(model().status().restarts, 1u);
  EXPECT_EQ(metric("peregrine_requests_total{model=\"m\",outcome=\"eos_token\"}"), 1);
}

TEST_F(ServingTest, ASequenceThatEndedInAnErrorStaysEnded) {
  // The first host fails sequence 1. The second, which cannot know, goes on with it until it is told not to:
  // alone it would run for 800 steps.
  serve(bad("sequence-error,echo", {"--step-ms", "20"}));
  GenerationRequest mine = request(0, 900, 2);
  mine.prompt_ids.clear();
  for (int i = 0; i < 100; ++i) mine.prompt_ids.push_back(i);
  mine.parameters.eos_token_ids = {mine.prompt_ids[0]};
  Client client(model(), mine);
  client.wait_for_tokens(1);
  kill_host();
  const std::vector<SequenceResult>& got = client.finish();
  EXPECT_EQ(got[0], expected(mine)[0]);
  EXPECT_THAT(got[1].ids, ::testing::ElementsAre(1));
  EXPECT_EQ(got[1].finish, generation::FinishReason::kError);
  EXPECT_TRUE(eventually([&] { return metric("peregrine_engine_running_sequences{model=\"m\"}") == 0; }));
  EXPECT_LT(metric("peregrine_engine_steps_total{model=\"m\"}"), 90);
}

TEST_F(ServingTest, AReplayHasTheSeedAndTheTokensSoFar) {
  serve(bad("record,record"));
  GenerationRequest seeded = request(1, 10, 2);
  seeded.parameters.seed = 7;
  Client first(model(), request(0, 10, 2));
  Client second(model(), seeded);
  Client third(model(), request(2, 10));
  for (Client* client : {&first, &second, &third}) client->wait_for_tokens(1);
  kill_host();
  ASSERT_TRUE(eventually([&] { return recorded().size() == 6; }));
  const std::vector<std::string> lines = recorded();
  const auto part = [&](std::size_t line, const char* name) {
    const std::size_t begin = lines[line].find(name) + std::string_view(name).size();
    return lines[line].substr(begin, lines[line].find(' ', begin) - begin);
  };
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(part(i, "request="), part(i + 3, "request="));
    EXPECT_EQ(part(i, "seed="), part(i + 3, "seed="));
    EXPECT_EQ(part(i, "prompt="), part(i + 3, "prompt="));
    EXPECT_EQ(part(i, "generated="), "");
    EXPECT_EQ(part(i + 3, "generated="), i == 2 ? "1|" : "1||");
  }
  EXPECT_EQ(part(1, "seed="), "7");
  EXPECT_NE(part(0, "seed="), part(2, "seed=")) << "drawn for each request";
}

TEST_F(ServingTest, ReplayedGoBeforeThoseThatWait) {
  serve(echo({"--step-ms", "1", "--max-sequences", "1"}));
  std::mutex mutex;
  std::vector<int> order;
  std::vector<std::unique_ptr<Generation>> generations;
  for (int i = 0; i < 6; ++i) {
    generations.push_back(model().generate(request(i, 150), [&, i] {
      const std::lock_guard lock(mutex);
      if (order.empty() || order.back() != i) order.push_back(i);
    }));
  }
  std::vector<SequenceUpdate> updates;
  ASSERT_TRUE(eventually([&] {
    updates.clear();
    generations[0]->take(updates);
    return !updates.empty();
  }));
  kill_host();
  ASSERT_TRUE(eventually([&] {
    bool all = true;
    for (const auto& generation : generations) all = generation->take(updates) && all;
    return all;
  }));
  EXPECT_THAT(order, ::testing::ElementsAre(0, 1, 2, 3, 4, 5));
  EXPECT_EQ(model().status().restarts, 1u);
}

TEST_F(ServingTest, AHostThatCrashesOnceIsReplayed) {
  serve(echo({"--crash-after-steps", "7", "--crash-epochs", "1"}));
  EXPECT_EQ(Client(model(), request(5, 60, 3)).finish(), expected(request(5, 60, 3)));
  EXPECT_EQ(model().status().restarts, 1u);
  EXPECT_GE(metric("peregrine_engine_steps_total{model=\"m\"}"), 60);
}

TEST_F(ServingTest, AHostThatAlwaysCrashesAfterSomeStepsStillGetsThere) {
  serve(echo({"--crash-after-steps", "20", "--crash-epochs", "1000"}));
  EXPECT_EQ(Client(model(), request(5, 90)).finish(), expected(request(5, 90)));
  EXPECT_GE(model().status().restarts, 4u);
}

TEST_F(ServingTest, CancellingWhileThereIsNoHost) {
  serve(bad("echo,silent,echo", {"--step-ms", "2"}));
  Client gone(model(), request(1, 900));
  Client stays(model(), request(2, 100));
  gone.wait_for_tokens(3);
  kill_host();
  EXPECT_TRUE(eventually([&] { return bad_starts() == 2; }));
  gone.cancel();
  EXPECT_TRUE(eventually([&] { return model().status().in_host == 1; }));
  kill_host();
  EXPECT_EQ(stays.finish(), expected(request(2, 100)));
  EXPECT_TRUE(eventually([&] { return model().status().in_host == 0; }));
}

TEST_F(ServingTest, LogsTellTheStory) {
  std::ostringstream out;
  const auto before = spdlog::default_logger();
  spdlog::set_default_logger(
      std::make_shared<spdlog::logger>("", std::make_shared<spdlog::sinks::ostream_sink_mt>(out)));
  serve(echo({"--step-ms", "2"}));
  Client client(model(), request(1, 100));
  client.wait_for_tokens(3);
  const std::string pid = std::to_string(model().status().host_pid);
  kill_host();
  client.finish();
  models_.reset();
  spdlog::set_default_logger(before);
  const std::string log = out.str();
  EXPECT_THAT(log, HasSubstr("engine host started model=m pid=" + pid + " epoch=1"));
  EXPECT_THAT(log, HasSubstr("model ready model=m pid=" + pid + " epoch=1"));
  EXPECT_THAT(log, HasSubstr("engine host died model=m pid=" + pid + " epoch=1"));
  EXPECT_THAT(log, HasSubstr("signal SIGKILL"));
  EXPECT_THAT(log, HasSubstr("replaying requests model=m epoch=2 requests=1"));
}

}  // namespace
}  // namespace peregrine::serving
