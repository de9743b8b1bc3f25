// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <cstdint>
#include <string>
#include <vector>

#include "channel/convert.h"
#include "hosts/host_program.h"

namespace peregrine {
namespace {

using channel::wire::FromHost;
using channel::wire::ToHost;
using ::testing::ElementsAre;

class EchoHost : public ::testing::Test {
 protected:
  void start(std::vector<std::string> flags = {}, std::uint64_t epoch = 1) {
    flags.insert(flags.begin(), PEREGRINE_ECHO_HOST);
    host_.emplace(std::move(flags));
    const auto hello = host_->greet(epoch);
    ASSERT_TRUE(hello);
    EXPECT_EQ(hello->epoch(), epoch);
    EXPECT_EQ(hello->protocol(), channel::kProtocolVersion);
    EXPECT_EQ(hello->capabilities(0), "generate");
  }

  void load() {
    ToHost message;
    message.mutable_load_model()->set_model("m");
    host_->send(message);
    EXPECT_TRUE(next().has_load_progress());
    EXPECT_TRUE(next().has_load_progress());
    EXPECT_TRUE(next().has_loaded());
  }

  /// The next message; an empty one where the host has gone.
  FromHost next() { return host_->receive().value_or(FromHost()); }

  void submit(std::uint64_t request, int max_new_tokens, const std::string& model = "m") {
    ToHost message;
    auto& submit = *message.mutable_submit();
    submit.set_model(model);
    submit.set_request(request);
    for (const int id : {3, 4, 5}) submit.add_prompt_ids(id);
    generation::Parameters parameters;
    parameters.max_new_tokens = max_new_tokens;
    channel::to_message(parameters, *submit.mutable_sampling());
    host_->send(message);
  }

  void ping(std::uint64_t number) {
    ToHost message;
    message.mutable_ping()->set_number(number);
    host_->send(message);
  }

  /// Steps that the host does until one ends a sequence or it goes.
  int steps_until_end() {
    for (int steps = 0;; ++steps) {
      const auto message = host_->receive();
      if (!message || !message->has_events()) return steps;
      if (message->events().sequences(0).finish() != channel::wire::RUNNING) return steps + 1;
    }
  }

  std::optional<testing::HostProgram> host_;
};

TEST_F(EchoHost, LoadsAndGenerates) {
  start({"--vocab", "64", "--max-model-len", "12", "--max-sequences", "2"});
  ToHost message;
  message.mutable_load_model()->set_model("m");
  host_->send(message);
  const FromHost first = next();
  EXPECT_EQ(first.load_progress().model(), "m");
  EXPECT_GT(first.load_progress().total_bytes(), first.load_progress().done_bytes());
  const FromHost second = next();
  EXPECT_EQ(second.load_progress().total_bytes(), second.load_progress().done_bytes());
  const FromHost loaded = next();
  EXPECT_EQ(loaded.loaded().model(), "m");
  EXPECT_EQ(loaded.loaded().vocab_size(), 64);
  EXPECT_EQ(loaded.loaded().max_model_length(), 12);
  EXPECT_EQ(loaded.loaded().max_sequences(), 2);
  EXPECT_EQ(loaded.loaded().device(), "echo");

  submit(1, 4);
  std::vector<int> ids;
  for (FromHost events = next(); events.has_events(); events = next()) {
    ASSERT_EQ(events.events().sequences_size(), 1);
    ids.push_back(events.events().sequences(0).tokens(0).id());
    if (events.events().sequences(0).finish() == channel::wire::LENGTH) break;
  }
  EXPECT_THAT(ids, ElementsAre(3, 4, 5, 3));

  message.mutable_get_stats()->set_model("m");
  host_->send(message);
  const FromHost stats = next();
  EXPECT_EQ(stats.stats().steps(), 4);
  EXPECT_EQ(stats.stats().decode_tokens(), 4);
  EXPECT_EQ(stats.stats().running(), 0);

  message.mutable_unload()->set_model("m");
  host_->send(message);
  EXPECT_EQ(next().unloaded().model(), "m");
  submit(2, 4);
  EXPECT_EQ(next().refused().error().kind(), channel::wire::Error::NOT_FOUND);
}

TEST_F(EchoHost, FailsALoad) {
  start({"--fail-load", "no room \xff"});
  ToHost message;
  message.mutable_load_model()->set_model("m");
  host_->send(message);
  EXPECT_TRUE(next().has_load_progress());
  EXPECT_EQ(next().load_failed().error().message(), "no room \xff");
}

TEST_F(EchoHost, AnswersWhileItLoads) {
  start({"--load-ms", "300000"});
  ToHost message;
  message.mutable_load_model()->set_model("m");
  host_->send(message);
  EXPECT_TRUE(next().has_load_progress());
  ping(9);
  EXPECT_EQ(next().pong().number(), 9);
  host_->close();
  EXPECT_EQ(host_->wait(), 0);
}

TEST_F(EchoHost, RefusesWhatItDoesNotKnow) {
  start();
  ToHost message;
  host_->send(message);
  EXPECT_EQ(next().refused().error().kind(), channel::wire::Error::UNSUPPORTED);
  message.mutable_load_adapter()->set_model("m");
  host_->send(message);
  EXPECT_EQ(next().refused().error().kind(), channel::wire::Error::UNSUPPORTED);
  message.mutable_invoke()->set_request(5);
  host_->send(message);
  const FromHost refused = next();
  EXPECT_EQ(refused.refused().error().kind(), channel::wire::Error::UNSUPPORTED);
  EXPECT_EQ(refused.refused().request(), 5);
  submit(6, 4, "other");
  EXPECT_EQ(next().refused().request(), 6);
}

TEST_F(EchoHost, SaysNothingOfARequestOnceItIsCancelled) {
  start({"--max-model-len", "1000000"});
  load();
  submit(1, 900000);
  submit(2, 900000);
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(next().has_events());
  ToHost message;
  message.mutable_cancel()->set_model("m");
  message.mutable_cancel()->set_request(1);
  host_->send(message);
  ping(1);
  while (!next().has_pong()) {
  }
  for (int i = 0; i < 10; ++i) {
    const FromHost events = next();
    ASSERT_EQ(events.events().sequences_size(), 1);
    EXPECT_EQ(events.events().sequences(0).request(), 2);
  }
}

TEST_F(EchoHost, FinishesWhatItHasAndDrains) {
  start();
  load();
  submit(1, 5);
  ToHost message;
  message.mutable_drain();
  host_->send(message);
  EXPECT_EQ(steps_until_end(), 5);
  EXPECT_TRUE(next().has_drained());
  EXPECT_FALSE(host_->receive());
  EXPECT_EQ(host_->wait(), 0);
}

TEST_F(EchoHost, TakesNothingWhileItDrains) {
  start({"--step-ms", "300000"});
  load();
  submit(1, 5);
  ToHost message;
  message.mutable_drain();
  host_->send(message);
  submit(2, 5);
  const FromHost refused = next();
  EXPECT_EQ(refused.refused().request(), 2);
  EXPECT_EQ(refused.refused().error().kind(), channel::wire::Error::OVERLOADED);
  message.mutable_cancel()->set_model("m");
  message.mutable_cancel()->set_request(1);
  host_->send(message);
  EXPECT_TRUE(next().has_drained());
  EXPECT_EQ(host_->wait(), 0);
}

TEST_F(EchoHost, EndsWithTheChannelAndNotBySignals) {
  start();
  load();
  ::kill(host_->pid(), SIGINT);
  ::kill(host_->pid(), SIGTERM);
  ping(1);
  EXPECT_TRUE(next().has_pong());
  submit(1, 1000);
  host_->close();
  EXPECT_EQ(host_->wait(), 0);
}

TEST_F(EchoHost, CrashesAfterItsStepsInTheFirstEpochs) {
  start({"--crash-after-steps", "3"});
  load();
  submit(1, 20);
  EXPECT_EQ(steps_until_end(), 3);
  EXPECT_EQ(host_->wait(), 128 + SIGABRT);

  start({"--crash-after-steps", "3", "--crash-epochs", "2"}, 2);
  load();
  submit(1, 20);
  EXPECT_EQ(steps_until_end(), 3);

  start({"--crash-after-steps", "3", "--crash-epochs", "2"}, 3);
  load();
  submit(1, 20);
  EXPECT_EQ(steps_until_end(), 20);
}

TEST_F(EchoHost, HangsAndStillEndsWithTheChannel) {
  start({"--hang-after-steps", "4"});
  load();
  submit(1, 20);
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(next().has_events());
  ping(1);
  EXPECT_FALSE(host_->says_something(std::chrono::milliseconds(300)));
  host_->close();
  EXPECT_EQ(host_->wait(), 0);
}

TEST_F(EchoHost, EchoesInvokesInChunks) {
  start({"--invoke-echo"});
  load();
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{65536}, std::size_t{1000003}}) {
    std::string body(size, '\0');
    for (std::size_t i = 0; i < size; ++i) body[i] = static_cast<char>(i * 7 >> 3);
    ToHost message;
    message.mutable_invoke()->set_model("m");
    message.mutable_invoke()->set_request(size);
    message.mutable_invoke()->set_body(body);
    (*message.mutable_invoke()->mutable_properties())["content-type"] = "text/plain";
    host_->send(message);
    std::string echoed;
    int chunks = 0;
    for (bool last = false; !last; ++chunks) {
      const FromHost answer = next();
      ASSERT_TRUE(answer.has_invoke_chunk());
      EXPECT_EQ(answer.invoke_chunk().request(), size);
      EXPECT_EQ(answer.invoke_chunk().status(), chunks == 0 ? 200 : 0);
      EXPECT_LE(answer.invoke_chunk().data().size(), 65536);
      echoed += answer.invoke_chunk().data();
      last = answer.invoke_chunk().last();
    }
    EXPECT_EQ(echoed, body);
  }
}

TEST_F(EchoHost, SaysWhichProtocolItSpeaksToAnotherServer) {
  host_.emplace(std::vector<std::string>{PEREGRINE_ECHO_HOST});
  const auto hello = host_->greet(1, channel::kProtocolVersion + 1);
  ASSERT_TRUE(hello);
  EXPECT_EQ(hello->protocol(), channel::kProtocolVersion);
  EXPECT_FALSE(host_->receive());
  EXPECT_EQ(host_->wait(), 2);
}

TEST_F(EchoHost, EndsOnWhatIsNoMessage) {
  start();
  ToHost message;
  message.mutable_submit()->set_model("\xff");  // A string must be UTF-8.
  host_->send(message);
  EXPECT_FALSE(host_->receive());
  EXPECT_EQ(host_->wait(), 2);
}

}  // namespace
}  // namespace peregrine
