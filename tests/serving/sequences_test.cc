// SPDX-License-Identifier: Apache-2.0
// Requests of more than one plain sequence: beams, the best of several, prompts with log-probabilities, and
// texts for an encoder; each also where its host dies.
#include "serving/serving_fixture.h"

namespace peregrine::serving {
namespace {

using ::testing::HasSubstr;

class SequencesTest : public ServingTest {
 protected:
  static GenerationRequest beams(int index, std::int32_t max_new_tokens, std::int32_t width, std::int32_t n) {
    GenerationRequest request = ServingTest::request(index, max_new_tokens, n);
    request.parameters.best_of = 1;
    request.parameters.num_beams = width;
    return request;
  }

  /// What the model refuses a request with.
  std::string refusal(const GenerationRequest& request) {
    try {
      model().generate(request, [] {});
    } catch (const core::Error& error) {
      EXPECT_EQ(error.kind(), core::ErrorKind::kInvalidArgument);
      return error.what();
    }
    return "";
  }
};

TEST_F(SequencesTest, BeamsComeWholeWithTheirScores) {
  serve(echo());
  Client client(model(), beams(1, 20, 4, 2));
  const std::vector<SequenceResult>& got = client.finish();
  EXPECT_EQ(got, expected(beams(1, 20, 4, 2)));
  ASSERT_EQ(got.size(), 2u);
  EXPECT_EQ(got[1].score, -0.5f);
}

TEST_F(SequencesTest, BeamsBeginAnewWithANewHost) {
  // bad_host ends nothing; the second start records what it is given.
  serve(bad("record,record"));
  Client client(model(), beams(0, 10, 4, 2));
  client.wait_for_tokens(1);
  kill_host();
  ASSERT_TRUE(eventually([&] { return recorded().size() == 2; }));
  EXPECT_TRUE(recorded()[1].ends_with("generated=")) << recorded()[1];
}

TEST_F(SequencesTest, BeamsSurviveTheirHost) {
  serve(echo({"--step-ms", "2", "--crash-after-steps", "20", "--crash-epochs", "1"}));
  EXPECT_EQ(Client(model(), beams(3, 60, 3, 3)).finish(), expected(beams(3, 60, 3, 3)));
  EXPECT_EQ(model().status().restarts, 1u);
}

TEST_F(SequencesTest, BeamsTakeTheirWidthInTheHost) {
  // 4 run and 4 wait there: two searches of 4, the third waits here.
  serve(echo({"--step-ms", "2", "--max-sequences", "4"}));
  Client first(model(), beams(1, 300, 4, 1));
  Client second(model(), beams(2, 300, 4, 1));
  Client third(model(), beams(3, 5, 4, 1));
  EXPECT_TRUE(eventually([&] { return model().status().in_host == 2 && model().status().queued == 1; }));
  first.cancel();
  second.cancel();
  EXPECT_EQ(third.finish(), expected(beams(3, 5, 4, 1)));
  // All places are free again: four at once run as before.
  EXPECT_EQ(Client(model(), beams(4, 5, 4, 4)).finish(), expected(beams(4, 5, 4, 4)));
  Client fourth(model(), request(5, 5, 4));
  EXPECT_EQ(fourth.finish(), expected(request(5, 5, 4)));
  EXPECT_TRUE(eventually([&] { return model().status().in_host == 0; }));
}

TEST_F(SequencesTest, AllOfWhichTheBestAreChosenAreReported) {
  serve(echo());
  GenerationRequest best = request(1, 10, 2);
  best.parameters.best_of = 5;
  EXPECT_EQ(Client(model(), best).finish().size(), 5u);
  best.parameters.best_of = 33;
  EXPECT_THAT(refusal(best), HasSubstr("model m runs 1 to 32 at once"));
  EXPECT_THAT(refusal(beams(1, 10, 33, 1)), HasSubstr("model m runs 1 to 32 at once"));
  EXPECT_THAT(refusal(beams(1, 10, 2, 3)), HasSubstr("3 of 2 sequences"));
}

TEST_F(SequencesTest, PromptsComeOnceInTheirOrder) {
  serve(echo());
  GenerationRequest scored = request(14, 5, 2);
  scored.parameters.prompt_logprobs = 1;
  ASSERT_GT(scored.prompt_ids.size(), 9u) << "more than one piece";
  EXPECT_EQ(Client(model(), scored).finish(), expected(scored));
}

TEST_F(SequencesTest, APromptIsNotToldAgainByANewHost) {
  for (const char* steps : {"1", "2", "3", "4", "10"}) {
    serve(echo({"--step-ms", "1", "--crash-after-steps", steps, "--crash-epochs", "1"}));
    GenerationRequest scored = request(14, 20, 2);
    scored.parameters.prompt_logprobs = 0;
    EXPECT_EQ(Client(model(), scored).finish(), expected(scored)) << steps;
    EXPECT_EQ(model().status().restarts, 1u);
    models_.reset();
  }
}

TEST_F(SequencesTest, TextsForAnEncoder) {
  serve(echo({"--encoder-decoder", "--step-ms", "1", "--crash-after-steps", "10", "--crash-epochs", "1"}));
  GenerationRequest encoded = request(5, 40);
  encoded.encoder_ids = std::exchange(encoded.prompt_ids, {7});
  EXPECT_EQ(Client(model(), encoded).finish(), expected(encoded));
  EXPECT_EQ(model().status().restarts, 1u);
  EXPECT_EQ(metric("peregrine_prompt_tokens_total{model=\"m\"}"),
            static_cast<double>(encoded.encoder_ids.size()));
  EXPECT_THAT(refusal(request(1, 5)), HasSubstr("needs one"));
  encoded.encoder_ids.assign(1025, 1);
  EXPECT_THAT(refusal(encoded), HasSubstr("has 1025 tokens; model m takes at most 1024"));
  encoded.encoder_ids.assign(1024, 1);
  EXPECT_EQ(refusal(encoded), "");
  encoded.encoder_ids = {-1};
  EXPECT_THAT(refusal(encoded), HasSubstr("token id -1"));
}

TEST_F(SequencesTest, ATextForAnEncoderThatIsNotThere) {
  serve(echo());
  GenerationRequest encoded = request(5, 40);
  encoded.encoder_ids = {1, 2};
  EXPECT_THAT(refusal(encoded), HasSubstr("has no encoder"));
}

TEST_F(SequencesTest, APromptThatIsNotTheRequestsBreaksTheHost) {
  serve(bad("wrong-prompt,prompt-gap,echo"));
  GenerationRequest scored = request(14, 5);
  scored.parameters.prompt_logprobs = 0;
  for (std::int32_t& id : scored.prompt_ids) id %= 100;
  EXPECT_EQ(Client(model(), scored).finish(), expected(scored));
  EXPECT_EQ(bad_starts(), 3);
}

}  // namespace
}  // namespace peregrine::serving
