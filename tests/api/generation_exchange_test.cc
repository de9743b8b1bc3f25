// SPDX-License-Identifier: Apache-2.0
#include "api/generation_exchange.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "fake_model.h"

namespace peregrine::api {
namespace {

using core::ErrorKind;
using testing::FakeModel;
using testing::Script;

/// Writes what it is told as plain words, so that a test can read the order of calls.
class PlainWriter : public AnswerWriter {
 public:
  Head head(bool streaming) const override {
    Head head;
    head.content_type = streaming ? "stream" : "whole";
    return head;
  }
  ErrorStyle error_style() const override { return ErrorStyle::kInference; }
  void add_prompt(std::size_t prompt, std::vector<generation::SampledToken> tokens) override {
    prompts_ += "<" + std::to_string(prompt);
    for (const auto& token : tokens) prompts_ += " " + std::to_string(token.token.id);
    prompts_ += ">";
  }
  void write_whole(std::span<const SequenceAnswer> answers, std::string& body) override {
    body += prompts_;
    for (const auto& answer : answers) body += "[" + summary(answer) + "]";
  }
  void begin_stream(std::string& body) override { body += prompts_ + "begin "; }
  void write_tokens(std::size_t index, const SequenceAnswer& answer, std::span<const TextToken> tokens,
                    std::string& body) override {
    ASSERT_FALSE(tokens.empty());
    body += std::to_string(index) + ":";
    for (const auto& token : tokens) body += token.text;
    if (answer.finish) body += "!" + summary(answer);
    body += " ";
  }
  void write_finish(std::size_t index, const SequenceAnswer& answer, std::string& body) override {
    body += std::to_string(index) + ":!" + summary(answer) + " ";
  }
  void end_stream(std::span<const SequenceAnswer> answers, std::string& body) override {
    body += "end" + std::to_string(answers.size());
  }
  void write_stream_error(const core::Error& error, std::string& body) override {
    body += std::string("error:") + error.what();
  }

 private:
  std::string prompts_;
  static std::string summary(const SequenceAnswer& answer) {
    return answer.text + "|" + to_string(answer.finish.value_or(generation::FinishReason::kError)) + "|" +
           std::to_string(answer.token_count) + "|" + std::to_string(answer.tokens.size());
  }
};

class GenerationExchangeTest : public ::testing::Test {
 protected:
  GenerationExchangeTest() : served_(load_text(model_)) {}

  GenerationPlan plan(bool streaming, std::size_t prompts = 1, std::int32_t n = 1) {
    GenerationPlan plan;
    plan.prompts.assign(prompts, {1, 2, 3});
    plan.parameters.n = n;
    plan.parameters.best_of = n;
    plan.streaming = streaming;
    plan.writer = std::make_unique<PlainWriter>();
    return plan;
  }

  void answer_with(std::string_view text, Script script = {}) {
    script.tokens = {testing::tokens_of(text)};
    model_.script = [script](const serving::GenerationRequest&) { return script; };
  }

  /// Runs a plan to its end; the parts are in parts_.
  std::string run(GenerationPlan plan) {
    int wakes = 0;
    const auto exchange = start_generation(served_, std::move(plan), "id", log_, [&] { ++wakes; });
    std::string whole;
    for (int i = 0; i < 1000; ++i) {
      std::string part;
      const auto state = exchange->next(head_, part);
      whole += part;
      if (state == Exchange::State::kWaiting) continue;
      parts_.push_back(part);
      if (state == Exchange::State::kDone) {
        EXPECT_EQ(model_.alive, 0) << "the engine still works for an answer that is whole";
        return whole;
      }
      EXPECT_FALSE(part.empty()) << "an empty part would end a chunked answer";
    }
    ADD_FAILURE() << "no end";
    return whole;
  }

  FakeModel model_;
  ServedModel served_;
  std::shared_ptr<RequestLog> log_ = std::make_shared<RequestLog>();
  Head head_;
  std::vector<std::string> parts_;
};

TEST_F(GenerationExchangeTest, WholeAnswersComeInOnePart) {
  answer_with("abc");
  const std::size_t count = testing::tokens_of("abc").size();
  EXPECT_EQ(run(plan(false)), "[abc|length|" + std::to_string(count) + "|0]");
  EXPECT_EQ(parts_.size(), 1u);
  EXPECT_EQ(head_.content_type, "whole");
  EXPECT_EQ(log_->prompt_tokens, 3u);
  EXPECT_EQ(log_->generated_tokens, count);
  EXPECT_EQ(log_->queued_seconds, 0.25);
  EXPECT_EQ(log_->first_token_seconds, 0.5);
  auto keeping = plan(false);
  keeping.keep_tokens = true;
  EXPECT_EQ(run(std::move(keeping)),
            "[abc|length|" + std::to_string(count) + "|" + std::to_string(count) + "]");
}

TEST_F(GenerationExchangeTest, StreamsAsTokensCome) {
  answer_with("To be, or not");
  const std::string whole = run(plan(true));
  EXPECT_TRUE(whole.starts_with("begin 0:To"));
  EXPECT_TRUE(whole.ends_with(" end1"));
  EXPECT_GT(parts_.size(), 2u);
  EXPECT_EQ(head_.content_type, "stream");
  EXPECT_NE(whole.find("!To be, or not|length|"), std::string::npos);
}

TEST_F(GenerationExchangeTest, AnEndWithoutTokensIsToldToo) {
  answer_with("abc", {.finish_apart = true});
  EXPECT_NE(run(plan(true)).find(" 0:!abc|length|"), std::string::npos);
}

TEST_F(GenerationExchangeTest, PromptsAndSequencesAreNumberedInOrder) {
  model_.script = [&](const serving::GenerationRequest&) {
    Script script;
    const std::string name(1, static_cast<char>('A' + 2 * (model_.requests.size() - 1)));
    const std::string next(1, static_cast<char>(name[0] + 1));
    script.tokens = {testing::tokens_of(name), testing::tokens_of(next)};
    return script;
  };
  EXPECT_EQ(run(plan(false, 2, 2)), "[A|length|1|0][B|length|1|0][C|length|1|0][D|length|1|0]");
}

TEST_F(GenerationExchangeTest, AStopStringEndsTheAnswerAndTheEnginesWork) {
  answer_with("one two three four five six seven eight nine ten", {.chunk = 2});
  for (const bool streaming : {false, true}) {
    auto stopping = plan(streaming, 2);
    stopping.text.stop = {" three"};
    const std::string whole = run(std::move(stopping));
    EXPECT_NE(whole.find("one two|stop_sequence|"), std::string::npos) << whole;
    EXPECT_EQ(whole.find("thr"), std::string::npos) << whole;
  }
  EXPECT_EQ(model_.cancelled, 4);
}

TEST_F(GenerationExchangeTest, StoppedSequencesWaitForTheirSisters) {
  model_.script = [](const serving::GenerationRequest&) {
    return Script{.tokens = {testing::tokens_of("a. b b b b b b"), testing::tokens_of("c c c c c c c")}};
  };
  auto stopping = plan(true, 1, 2);
  stopping.text.stop = {"."};
  const std::string whole = run(std::move(stopping));
  EXPECT_NE(whole.find("!a|stop_sequence|1|0"), std::string::npos) << whole;
  EXPECT_NE(whole.find("!c c c c c c c|length"), std::string::npos) << whole;
  EXPECT_EQ(whole.find("b"), whole.find("begin")) << whole;
}

/// The texts of a whole answer, one after the other.
std::string texts(const std::string& whole) {
  std::string out;
  for (std::size_t at = whole.find('['); at != std::string::npos; at = whole.find('[', at + 1)) {
    out += whole.substr(at + 1, whole.find('|', at) - at - 1) + ";";
  }
  return out;
}

TEST_F(GenerationExchangeTest, TheBestAreThoseWithTheHighestLogProbabilityPerToken) {
  model_.script = [](const serving::GenerationRequest&) {
    Script script;
    for (const char* text : {"a", "b", "c", "d", "e"}) script.tokens.push_back(testing::tokens_of(text));
    script.log_probs = {-3, -1, -2, -0.5f, std::numeric_limits<float>::quiet_NaN()};
    return script;
  };
  auto best = plan(false, 2, 2);
  best.parameters.best_of = 5;
  EXPECT_EQ(texts(run(std::move(best))), "d;b;d;b;");
  EXPECT_EQ(model_.requests.back().parameters.best_of, 5);
  EXPECT_EQ(texts(run(plan(false, 1, 5))), "a;b;c;d;e;") << "all of them are in their own order";
  auto sorted = plan(false, 1, 5);
  sorted.best_first = true;
  EXPECT_EQ(texts(run(std::move(sorted))), "d;b;c;a;e;");
}

TEST_F(GenerationExchangeTest, WhatAStopStringCutDoesNotCount) {
  // Each token is less likely than the one before: the short one is the best only because it was cut.
  model_.script = [](const serving::GenerationRequest&) {
    return Script{.tokens = {testing::tokens_of("a a a a"), testing::tokens_of("b. b b b b b b b b b"),
                             testing::tokens_of(". c c c c c")}};
  };
  auto best = plan(false, 1, 2);
  best.parameters.best_of = 3;
  best.text.stop = {"."};
  EXPECT_EQ(texts(run(std::move(best))), "b;a a a a;") << "one of which nothing is left is the last";
}

TEST_F(GenerationExchangeTest, HypothesesKeepTheirOrderAndStopInTheEngine) {
  model_.script = [](const serving::GenerationRequest&) {
    return Script{.tokens = {testing::tokens_of("one. two"), testing::tokens_of("three")},
                  .scores = {-0.25f, -0.5f},
                  .log_probs = {-9, -1}};
  };
  auto beams = plan(false, 1, 2);
  beams.parameters.best_of = 1;
  beams.parameters.num_beams = 4;
  beams.text.stop = {"."};
  EXPECT_EQ(texts(run(std::move(beams))), "one;three;");
  EXPECT_EQ(model_.requests.back().parameters.stop_strings, std::vector<std::string>{"."});
  auto sampled = plan(false);
  sampled.text.stop = {"."};
  run(std::move(sampled));
  EXPECT_TRUE(model_.requests.back().parameters.stop_strings.empty()) << "the server finds them";
}

TEST_F(GenerationExchangeTest, ATextForAnEncoderIsNoBeginning) {
  answer_with("abc");
  auto encoded = plan(false);
  encoded.decoder_start = 7;
  run(std::move(encoded));
  EXPECT_EQ(model_.requests.back().prompt_ids, std::vector<std::int32_t>{7});
  EXPECT_EQ(model_.requests.back().encoder_ids, (std::vector<std::int32_t>{1, 2, 3}));
  EXPECT_EQ(log_->prompt_tokens, 3u);
}

TEST_F(GenerationExchangeTest, PromptsAreToldBeforeTheirAnswers) {
  answer_with("ab");
  auto whole = plan(false, 2);
  whole.parameters.prompt_logprobs = 0;
  EXPECT_TRUE(run(std::move(whole)).starts_with("<0 2 3><1 2 3>["));
  auto streamed = plan(true);
  streamed.parameters.prompt_logprobs = 0;
  EXPECT_TRUE(run(std::move(streamed)).starts_with("<0 2 3>begin "));
}

TEST_F(GenerationExchangeTest, AnErrorBeforeTheFirstTokenHasAStatus) {
  for (const bool streaming : {false, true}) {
    answer_with("", {.finish = generation::FinishReason::kError, .error = "no luck"});
    EXPECT_EQ(run(plan(streaming)), "{\"error\":\"no luck\",\"code\":500}\n");
    EXPECT_EQ(head_.status, 500);
  }
  // Also where tokens came in the same breath, as nothing of them was sent.
  answer_with("abc", {.finish = generation::FinishReason::kError, .error = "no luck", .chunk = 99});
  EXPECT_EQ(run(plan(true)), "{\"error\":\"no luck\",\"code\":500}\n");
  model_.requests.clear();
  model_.script = [&](const serving::GenerationRequest&) {
    Script script{.tokens = {testing::tokens_of("abc")}, .error = "no luck", .chunk = 99};
    if (model_.requests.size() == 2) script.finish = generation::FinishReason::kError;
    return script;
  };
  head_ = {};
  EXPECT_EQ(run(plan(true, 2)), "{\"error\":\"no luck\",\"code\":500}\n");
  EXPECT_EQ(head_.status, 500);
}

TEST_F(GenerationExchangeTest, AnErrorInTheMiddle) {
  answer_with("To be", {.failure = core::Error(ErrorKind::kOverloaded, "gone")});
  EXPECT_EQ(run(plan(false)), "{\"error\":\"gone\",\"code\":503}\n");
  EXPECT_EQ(head_.status, 503);
  head_ = {};
  const std::string whole = run(plan(true));
  EXPECT_TRUE(whole.starts_with("begin 0:To")) << whole;
  EXPECT_TRUE(whole.ends_with("error:gone")) << whole;
  EXPECT_EQ(head_.status, 200);
}

TEST_F(GenerationExchangeTest, WhereOnePromptIsRefusedNoneIsLeft) {
  model_.refusal = core::Error(ErrorKind::kOverloaded, "full");
  model_.refuse_from = 2;
  EXPECT_THROW(start_generation(served_, plan(true, 3), "id", log_, [] {}), core::Error);
  EXPECT_EQ(model_.requests.size(), 2u);
  EXPECT_EQ(model_.alive, 0);
}

TEST_F(GenerationExchangeTest, AClientThatLeavesCancels) {
  answer_with("a long answer that is never read");
  auto exchange = start_generation(served_, plan(true), "id", log_, [] {});
  std::string body;
  exchange->next(head_, body);
  EXPECT_EQ(model_.alive, 1);
  exchange.reset();
  EXPECT_EQ(model_.alive, 0);
  EXPECT_EQ(model_.cancelled, 1);
}

}  // namespace
}  // namespace peregrine::api
