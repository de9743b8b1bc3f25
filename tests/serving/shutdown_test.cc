// SPDX-License-Identifier: Apache-2.0
#include <signal.h>

#include <chrono>
#include <thread>

#include "serving/serving_fixture.h"

namespace peregrine::serving {
namespace {

using core::ErrorKind;

void expect_refused(Model& model, const GenerationRequest& request, const char* message) {
  try {
    Client client(model, request);
    ADD_FAILURE() << "the request was taken";
  } catch (const core::Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kOverloaded);
    EXPECT_STREQ(error.what(), message);
  }
}

TEST_F(ServingTest, DrainingLetsRequestsEnd) {
  serve(echo({"--step-ms", "1", "--max-sequences", "2"}));
  std::vector<Client> clients;
  for (int i = 0; i < 8; ++i) clients.emplace_back(model(), request(i, 60));
  EXPECT_FALSE(models_->drain(std::chrono::milliseconds(0)));
  EXPECT_EQ(model().status().state, ModelState::kDraining);
  expect_refused(model(), request(9, 5), "Worker shutting down: m");
  EXPECT_TRUE(models_->drain(kPatience));
  EXPECT_EQ(model().status().in_host, 0);
  EXPECT_EQ(model().status().queued, 0);
  for (int i = 0; i < 8; ++i) {
    EXPECT_EQ(clients[static_cast<std::size_t>(i)].finish(), expected(request(i, 60)));
  }
}

TEST_F(ServingTest, AHostThatDiesWhileDrainingIsReplayed) {
  serve(echo({"--step-ms", "2"}));
  Client client(model(), request(1, 100));
  client.wait_for_tokens(3);
  EXPECT_FALSE(models_->drain(std::chrono::milliseconds(0)));
  kill_host();
  EXPECT_TRUE(models_->drain(kPatience));
  EXPECT_EQ(client.finish(), expected(request(1, 100)));
}

TEST_F(ServingTest, DrainingWithoutRequestsIsDone) {
  serve(echo());
  EXPECT_TRUE(models_->drain(std::chrono::milliseconds(0)));
}

TEST_F(ServingTest, RequestsOutliveTheModels) {
  serve(echo({"--step-ms", "1", "--max-sequences", "1", "--max-model-len", "1000000"}));
  std::vector<Client> clients;
  for (int i = 0; i < 5; ++i) clients.emplace_back(model(), request(i, 900000));
  Client done(model(), request(7, 1));
  clients[0].wait_for_tokens(3);
  models_.reset();
  EXPECT_FALSE(has_children());
  for (Client& client : clients) {
    for (int again = 0; again < 2; ++again) {
      std::vector<SequenceUpdate> updates;
      try {
        client.generation().take(updates);
        ADD_FAILURE() << "nothing was thrown";
      } catch (const core::Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::kOverloaded);
        EXPECT_STREQ(error.what(), "server is shutting down");
      }
    }
  }
}

TEST_F(ServingTest, ThoseWhoWaitAreWoken) {
  serve(echo({"--step-ms", "3600000"}));
  Client client(model(), request(1, 5));
  std::thread waiting([&] { EXPECT_STREQ(client.wait_for_error().what(), "server is shutting down"); });
  models_.reset();
  waiting.join();
}

TEST_F(ServingTest, NothingIsLeftBehind) {
  const std::size_t before = descriptors();
  for (int round = 0; round < 3; ++round) {
    serve(echo({"--step-ms", "1"}));
    Client client(model(), request(1, 50));
    client.wait_for_tokens(2);
    kill_host();
    client.finish();
    models_.reset();
    EXPECT_FALSE(has_children());
  }
  EXPECT_EQ(descriptors(), before);
}

TEST_F(ServingTest, StoppedInEveryState) {
  const std::size_t before = descriptors();
  { const Models never_started({source()}, echo(), metrics_); }
  start(echo({"--load-ms", "3600000"}), {source()});  // perhaps before the host has started
  models_.reset();
  start(echo({"--load-ms", "3600000"}), {source()});  // while it loads
  EXPECT_TRUE(eventually([&] { return model().status().total_bytes > 0; }));
  models_.reset();
  start(bad("die-after-load"), {source()});  // between two starts
  EXPECT_TRUE(eventually([&] { return model().status().restarts >= 3; }));
  models_.reset();
  start(echo({"--fail-load", "no"}), {source()});  // after it has failed
  EXPECT_FALSE(models_->wait_until_loaded());
  models_.reset();
  serve(echo());  // right after a kill
  kill_host();
  models_.reset();
  EXPECT_FALSE(has_children());
  EXPECT_EQ(descriptors(), before);
}

TEST_F(ServingTest, AHostThatDoesNotEndIsKilled) {
  serve(echo());
  ::kill(model().status().host_pid, SIGSTOP);
  models_.reset();
  EXPECT_FALSE(has_children());
}

}  // namespace
}  // namespace peregrine::serving
