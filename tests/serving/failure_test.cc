// SPDX-License-Identifier: Apache-2.0
#include <chrono>

#include "channel/frame.h"
#include "serving/serving_fixture.h"

namespace peregrine::serving {
namespace {

using core::ErrorKind;
using ::testing::HasSubstr;

/// What a model that has failed says to a request.
void expect_gone(Model& model, const GenerationRequest& request) {
  EXPECT_EQ(model.status().state, ModelState::kFailed);
  EXPECT_EQ(model.status().host_pid, 0);
  try {
    Client client(model, request);
    ADD_FAILURE() << "the request was taken";
  } catch (const core::Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kOverloaded);
    EXPECT_STREQ(error.what(), "All model workers has been shutdown: m");
  }
}

TEST_F(ServingTest, AFailedLoadIsAFailedModel) {
  start(echo({"--fail-load", "tensor x has the wrong shape"}), {source()});
  EXPECT_FALSE(models_->wait_until_loaded());
  EXPECT_EQ(model().status().error, "tensor x has the wrong shape");
  EXPECT_EQ(model().status().restarts, 0u);
  expect_gone(model(), request(1, 5));
  EXPECT_TRUE(eventually([] { return !has_children(); }));
}

TEST_F(ServingTest, OneOfSeveralModelsFails) {
  // Whichever starts first gets the bad start.
  start(bad("fail-load,echo"), {source("a"), source("b")});
  EXPECT_FALSE(models_->wait_until_loaded());
  EXPECT_TRUE(eventually([&] {
    return (model("a").status().state == ModelState::kReady) +
               (model("b").status().state == ModelState::kReady) ==
           1;
  }));
}

TEST_F(ServingTest, AnotherProtocolIsNamedWithBothVersions) {
  start(bad("wrong-protocol"), {source()});
  EXPECT_FALSE(models_->wait_until_loaded());
  EXPECT_THAT(model().status().error, HasSubstr("version 4711"));
  EXPECT_THAT(model().status().error,
              HasSubstr("this server version " + std::to_string(channel::kProtocolVersion)));
  EXPECT_THAT(model().status().error, HasSubstr("8.15"));
  expect_gone(model(), request(1, 5));
}

TEST_F(ServingTest, AnotherProtocolAfterARestartFailsWhatRuns) {
  serve(bad("echo,wrong-protocol", {"--step-ms", "2"}));
  Client running(model(), request(1, 900));
  running.wait_for_tokens(3);
  kill_host();
  const core::Error error = running.wait_for_error();
  EXPECT_EQ(error.kind(), ErrorKind::kOverloaded);
  EXPECT_STREQ(error.what(), "All model workers has been shutdown: m");
  expect_gone(model(), request(1, 5));
}

TEST_F(ServingTest, DeathsBeforeTheFirstLoadAreRetriedTwice) {
  start(bad("die,die-in-load,echo"), {source()});
  EXPECT_TRUE(models_->wait_until_loaded());
  EXPECT_EQ(model().status().restarts, 2u);
}

TEST_F(ServingTest, StrangersAreNotGreeted) {
  start(bad("no-hello,wrong-epoch,echo"), {source()});
  EXPECT_TRUE(models_->wait_until_loaded());
  EXPECT_EQ(model().status().restarts, 2u);
}

TEST_F(ServingTest, ThreeDeathsBeforeTheFirstLoadAreEnough) {
  start(bad("die"), {source()});
  EXPECT_FALSE(models_->wait_until_loaded());
  EXPECT_THAT(model().status().error, HasSubstr("ended 3 times before the model was loaded"));
  EXPECT_THAT(model().status().error, HasSubstr("exit code 7"));
  expect_gone(model(), request(1, 5));
}

TEST_F(ServingTest, AProgramThatIsNotThere) {
  start({.command = {"/nowhere/peregrine", "engine"}}, {source()});
  EXPECT_FALSE(models_->wait_until_loaded());
  EXPECT_THAT(model().status().error, HasSubstr("/nowhere/peregrine"));
  EXPECT_THAT(model().status().error, HasSubstr("No such file"));
}

TEST_F(ServingTest, LoadingTakesTooLong) {
  ModelSource what = source();
  what.options.model_loading_timeout = std::chrono::seconds(1);
  start(echo({"--load-ms", "3600000"}), {what});
  EXPECT_FALSE(models_->wait_until_loaded());
  EXPECT_THAT(model().status().error, HasSubstr("model_loading_timeout=1 s"));
  EXPECT_TRUE(eventually([] { return !has_children(); }));
}

TEST_F(ServingTest, ReloadsAreTriedUntilOneSucceeds) {
  serve(bad("echo,fail-load,die-in-load,loads-another,echo", {"--step-ms", "2"}));
  Client client(model(), request(1, 100));
  client.wait_for_tokens(3);
  kill_host();
  EXPECT_TRUE(eventually([&] { return model().status().restarts >= 3; }));
  EXPECT_EQ(model().status().state, ModelState::kRestarting);
  EXPECT_EQ(client.finish(), expected(request(1, 100)));
  EXPECT_EQ(model().status().restarts, 4u);
}

TEST_F(ServingTest, CrashLoopsBackOff) {
  const auto begin = std::chrono::steady_clock::now();
  start(bad("die-after-load"), {source()});
  EXPECT_TRUE(models_->wait_until_loaded());
  EXPECT_TRUE(eventually([&] { return model().status().restarts >= 5; }));
  // The first at once, then after 100, 200, 400 and 800 ms at least.
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(1400));
  EXPECT_NE(model().status().state, ModelState::kFailed);
}

/// Each of these answers to a request is a broken host: it is replaced, and the request gets what it should.
class BrokenHost : public ServingTest, public ::testing::WithParamInterface<const char*> {};

TEST_P(BrokenHost, IsReplaced) {
  serve(bad(std::string(GetParam()) + ",echo"));
  const GenerationRequest mine = request(1, 12, 2);
  const std::vector<SequenceResult> got = Client(model(), mine).finish();
  EXPECT_EQ(model().status().restarts, 1u);
  EXPECT_EQ(got, expected(mine));
}

INSTANTIATE_TEST_SUITE_P(Serving, BrokenHost,
                         ::testing::Values("wrong-token", "wrong-top", "wrong-sequence", "negative-sequence",
                                           "wrong-finish", "wrong-model", "too-many-tokens", "failed"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::erase(name, '-');
                           return name;
                         });

TEST_F(ServingTest, BytesThatAreNoMessages) {
  // Sent right after the greeting, so that the first load is what they hit.
  start(bad("garbage,echo"), {source()});
  EXPECT_TRUE(models_->wait_until_loaded());
  EXPECT_EQ(model().status().restarts, 1u);
}

}  // namespace
}  // namespace peregrine::serving
