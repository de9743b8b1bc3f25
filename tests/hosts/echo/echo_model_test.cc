// SPDX-License-Identifier: Apache-2.0
#include "hosts/echo/echo_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <utility>

#include "channel/convert.h"
#include "core/error.h"

namespace peregrine::echo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

using Ids = std::vector<std::int32_t>;

wire::Submit request(std::uint64_t id, const Ids& prompt, const generation::Parameters& parameters = {}) {
  wire::Submit submit;
  submit.set_model("m");
  submit.set_request(id);
  submit.mutable_prompt_ids()->Assign(prompt.begin(), prompt.end());
  channel::to_message(parameters, *submit.mutable_sampling());
  return submit;
}

struct Output {
  Ids ids;
  std::vector<float> log_probs;
  wire::Finish finish = wire::RUNNING;
  int first_step = -1;
};

/// Steps until all is done; outputs by request and sequence.
std::map<std::pair<std::uint64_t, int>, Output> run(EchoModel& model) {
  std::map<std::pair<std::uint64_t, int>, Output> outputs;
  for (int step = 0; !model.idle(); ++step) {
    wire::Events events;
    model.step(events);
    EXPECT_EQ(events.model(), "m");
    for (const auto& event : events.sequences()) {
      Output& output = outputs[{event.request(), event.sequence()}];
      EXPECT_EQ(output.finish, wire::RUNNING) << "an event after the end";
      if (output.first_step < 0) output.first_step = step;
      for (const auto& token : event.tokens()) {
        output.ids.push_back(token.id());
        output.log_probs.push_back(token.log_prob());
      }
      output.finish = event.finish();
    }
  }
  return outputs;
}

TEST(EchoModel, EchoesThePromptRoundAndRound) {
  EchoModel model("m", {});
  generation::Parameters parameters;
  parameters.max_new_tokens = 10;
  parameters.n = 2;
  parameters.best_of = 2;
  model.submit(request(7, {10, 20, 30}, parameters));
  auto outputs = run(model);
  ASSERT_EQ(outputs.size(), 2);
  EXPECT_THAT((outputs[{7, 0}].ids), ElementsAre(10, 20, 30, 10, 20, 30, 10, 20, 30, 10));
  EXPECT_THAT((outputs[{7, 1}].ids), ElementsAre(20, 30, 10, 20, 30, 10, 20, 30, 10, 20));
  EXPECT_THAT((outputs[{7, 0}].log_probs),
              ElementsAre(0, -.125f, -.25f, -.375f, -.5f, -.625f, -.75f, -.875f, 0, -.125f));
  EXPECT_EQ((outputs[{7, 0}].finish), wire::LENGTH);
}

TEST(EchoModel, EndsWhereItIsAsked) {
  generation::Parameters parameters;
  parameters.eos_token_ids = {30};
  EchoModel model("m", {.max_model_len = 8});
  model.submit(request(1, {10, 20, 30}, parameters));
  parameters.min_new_tokens = 3;
  model.submit(request(2, {10, 20, 30, 40}, parameters));
  parameters.stop_token_ids = {40};
  model.submit(request(3, {10, 20, 30, 40}, parameters));
  auto outputs = run(model);
  EXPECT_THAT((outputs[{1, 0}].ids), ElementsAre(10, 20, 30));
  EXPECT_EQ((outputs[{1, 0}].finish), wire::EOS_TOKEN);
  EXPECT_THAT((outputs[{2, 0}].ids), ElementsAre(10, 20, 30, 40));
  EXPECT_EQ((outputs[{2, 0}].finish), wire::LENGTH) << "prompt and output fill the context of 8";
  EXPECT_EQ((outputs[{3, 0}].finish), wire::STOP_SEQUENCE);
}

TEST(EchoModel, GivesAlternatives) {
  generation::Parameters parameters;
  parameters.top_n_tokens = 3;
  EchoModel model("m", {.vocab = 32});
  model.submit(request(1, {31}, parameters));
  wire::Events events;
  model.step(events);
  const auto token = channel::from_message(events.sequences(0).tokens(0));
  ASSERT_EQ(token.top.size(), 3);
  EXPECT_EQ(token.top[0].id, 31);
  EXPECT_EQ(token.top[1].id, 0);
  EXPECT_EQ(token.top[2].id, 1);
  EXPECT_EQ(token.top[0].log_prob, token.token.log_prob);
  EXPECT_GT(token.top[0].log_prob, token.top[1].log_prob);
  EXPECT_GT(token.top[1].log_prob, token.top[2].log_prob);
}

TEST(EchoModel, RunsWholeGroupsInOrder) {
  generation::Parameters one;
  one.max_new_tokens = 2;
  generation::Parameters three = one;
  three.n = 3;
  three.best_of = 3;
  EchoModel model("m", {.max_sequences = 3});
  model.submit(request(1, {5}, one));
  model.submit(request(2, {5}, three));
  model.submit(request(3, {5}, one));
  wire::Events events;
  model.step(events);
  EXPECT_EQ(events.sequences_size(), 1) << "the second does not fit beside the first, the third is behind it";
  EXPECT_EQ(events.stats().running(), 1);
  EXPECT_EQ(events.stats().waiting(), 2);
  EXPECT_EQ(events.stats().steps(), 1);
  const auto outputs = run(model);
  EXPECT_EQ(outputs.at({2, 2}).first_step, 1);
  EXPECT_EQ(outputs.at({3, 0}).first_step, 3);
}

TEST(EchoModel, ContinuesAReplay) {
  generation::Parameters parameters;
  parameters.max_new_tokens = 9;
  parameters.n = 3;
  parameters.best_of = 3;
  parameters.eos_token_ids = {30};
  parameters.min_new_tokens = 2;
  EchoModel whole("m", {});
  whole.submit(request(1, {10, 20, 30, 40}, parameters));
  const auto expected = run(whole);

  for (std::size_t cut = 0; cut < 6; ++cut) {
    EchoModel model("m", {});
    wire::Submit submit = request(1, {10, 20, 30, 40}, parameters);
    for (int s = 0; s < 3; ++s) {
      const Ids& ids = expected.at({1, s}).ids;
      const auto last = ids.begin() + static_cast<std::ptrdiff_t>(std::min(cut, ids.size()));
      submit.add_generated()->mutable_ids()->Assign(ids.begin(), last);
    }
    model.submit(submit);
    const auto outputs = run(model);
    for (int s = 0; s < 3; ++s) {
      Ids ids(submit.generated(s).ids().begin(), submit.generated(s).ids().end());
      const Output& output = outputs.at({1, s});
      ids.insert(ids.end(), output.ids.begin(), output.ids.end());
      EXPECT_EQ(ids, expected.at({1, s}).ids);
      EXPECT_EQ(output.finish, expected.at({1, s}).finish);
      EXPECT_EQ(output.first_step, 0);
    }
  }
}

TEST(EchoModel, ForgetsWhatIsCancelled) {
  EchoModel model("m", {.max_sequences = 1});
  model.submit(request(1, {5}));
  model.submit(request(2, {5}));
  wire::Events events;
  model.step(events);
  model.cancel(1);
  model.cancel(2);
  model.cancel(3);
  EXPECT_TRUE(model.idle());
  EXPECT_THAT(run(model), IsEmpty());
}

TEST(EchoModel, Refuses) {
  const auto refusal = [](const std::function<void(wire::Submit&)>& change) -> std::string {
    EchoModel model("m", {.vocab = 100, .max_model_len = 8, .max_sequences = 4});
    wire::Submit submit = request(1, {1, 2, 3});
    change(submit);
    try {
      model.submit(submit);
    } catch (const core::Error& error) {
      EXPECT_TRUE(model.idle());
      return std::string(core::to_string(error.kind())) + ": " + error.what();
    }
    return "";
  };
  EXPECT_EQ(refusal([](auto&) {}), "");
  EXPECT_THAT(refusal([](auto& s) { s.set_prompt_ids(1, 100); }), HasSubstr("prompt_ids[1] is 100"));
  EXPECT_THAT(refusal([](auto& s) { s.set_prompt_ids(1, -1); }), HasSubstr("invalid_argument"));
  EXPECT_THAT(refusal([](auto& s) { s.clear_prompt_ids(); }), HasSubstr("has 0 tokens"));
  EXPECT_THAT(refusal([](auto& s) { s.mutable_prompt_ids()->Resize(8, 1); }), HasSubstr("has 8 tokens"));
  EXPECT_EQ(refusal([](auto& s) { s.mutable_prompt_ids()->Resize(7, 1); }), "");
  EXPECT_THAT(refusal([](auto& s) { s.set_kind(wire::EMBED); }), HasSubstr("unsupported"));
  EXPECT_THAT(refusal([](auto& s) { s.set_adapter("a"); }), HasSubstr("unsupported"));
  EXPECT_THAT(refusal([](auto& s) { s.mutable_sampling()->set_best_of(5); }), HasSubstr("1 to 4"));
  EXPECT_THAT(refusal([](auto& s) { s.mutable_sampling()->set_n(0); }), HasSubstr("n is 0"));
  EXPECT_THAT(refusal([](auto& s) { s.mutable_sampling()->set_num_beams(5); }), HasSubstr("1 to 4"));
  EXPECT_THAT(refusal([](auto& s) {
                s.mutable_sampling()->set_num_beams(2);
                s.add_generated();
              }),
              HasSubstr("begin anew"));
  EXPECT_THAT(refusal([](auto& s) { s.add_encoder_ids(100); }), HasSubstr("encoder_ids[0] is 100"));
  EXPECT_THAT(refusal([](auto& s) { s.add_generated(), s.add_generated(); }), HasSubstr("2 sequences"));
  EXPECT_THAT(refusal([](auto& s) { s.add_generated()->add_ids(100); }), HasSubstr("generated[0]"));
  EXPECT_THAT(refusal([](auto& s) { s.add_generated()->mutable_ids()->Resize(6, 1); }),
              HasSubstr("can have 5"));
}

TEST(EchoModel, ATextForTheEncoderIsWhatIsEchoed) {
  generation::Parameters parameters;
  parameters.max_new_tokens = 3;
  EchoModel model("m", {});
  wire::Submit submit = request(1, {0}, parameters);
  for (const int id : {7, 8}) submit.add_encoder_ids(id);
  model.submit(submit);
  auto outputs = run(model);
  EXPECT_THAT((outputs[{1, 0}].ids), ElementsAre(7, 8, 7));
}

TEST(EchoModel, BeamsComeWholeWithTheirScores) {
  generation::Parameters parameters;
  parameters.max_new_tokens = 4;
  parameters.num_beams = 3;
  parameters.n = 2;
  parameters.eos_token_ids = {30};
  EchoModel model("m", {});
  model.submit(request(1, {10, 20, 30, 40, 50}, parameters));
  wire::Events events;
  for (int step = 0; step < 2; ++step) {
    events.Clear();
    model.step(events);
    EXPECT_EQ(events.sequences_size(), 0);
    EXPECT_EQ(events.stats().running(), 3);
  }
  model.step(events);
  ASSERT_EQ(events.sequences_size(), 2);
  EXPECT_EQ(events.sequences(0).tokens_size(), 3);
  EXPECT_EQ(events.sequences(0).score(), -0.25f);
  EXPECT_EQ(events.sequences(1).tokens_size(), 2);
  EXPECT_EQ(events.sequences(1).finish(), wire::EOS_TOKEN);
  EXPECT_EQ(events.sequences(1).score(), -0.5f);
  EXPECT_TRUE(model.idle());
}

TEST(EchoModel, ThePromptComesInPiecesBeforeItsAnswer) {
  generation::Parameters parameters;
  parameters.max_new_tokens = 1;
  parameters.prompt_logprobs = 1;
  EchoModel model("m", {});
  Ids prompt;
  for (int i = 0; i < 12; ++i) prompt.push_back(100 + i);
  model.submit(request(1, prompt, parameters));
  Ids scored;
  for (const std::int32_t start : {1, 9}) {
    wire::Events events;
    model.step(events);
    ASSERT_EQ(events.sequences_size(), 1);
    EXPECT_EQ(events.sequences(0).prompt_start(), start);
    EXPECT_EQ(events.sequences(0).tokens_size(), 0);
    for (const auto& token : events.sequences(0).prompt()) {
      scored.push_back(token.id());
      EXPECT_EQ(token.top(0).id(), token.id());
    }
  }
  EXPECT_THAT(scored, ::testing::ElementsAreArray(prompt.begin() + 1, prompt.end()));
  EXPECT_THAT((run(model)[{1, 0}].ids), ElementsAre(100));
}

TEST(EchoModel, RefusesARequestThatIsHere) {
  EchoModel model("m", {});
  model.submit(request(1, {1}));
  EXPECT_THROW(model.submit(request(1, {1})), core::Error);
}

}  // namespace
}  // namespace peregrine::echo
