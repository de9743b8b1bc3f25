// SPDX-License-Identifier: Apache-2.0
// Answers that tell more than one sequence's text: the best of several, beams, and the prompt's
// log-probabilities.
#include <gmock/gmock.h>

#include <boost/json/serialize.hpp>

#include "openai_fixture.h"

namespace peregrine::api {
namespace {

using boost::json::array;
using boost::json::object;
using boost::json::value;

class SequencesTest : public OpenAiTest {
 protected:
  value json(Route route, std::string_view body) const {
    const Answer answer = ask(route, body);
    EXPECT_EQ(answer.head.status, 200) << answer.body;
    return answer.json();
  }

  /// A completion's texts, in order.
  std::vector<std::string> texts(std::string_view body) const {
    std::vector<std::string> out;
    const value answer = json(Route::kCompletions, body);
    for (const value& choice : answer.at("choices").as_array()) {
      EXPECT_EQ(choice.at("index").to_number<std::size_t>(), out.size());
      out.emplace_back(choice.at("text").as_string());
    }
    return out;
  }
};

TEST_F(SequencesTest, TheBestOfSeveralByLogProbabilityPerToken) {
  model_->answer = [this](const serving::GenerationRequest& request, std::int32_t index) {
    const char* const names[] = {"a", "b", "c", "d"};
    const float log_probs[] = {-3, -0.5f, -2, -1};
    testing::FakeSequence sequence{ids(names[index]), generation::FinishReason::kEosToken, "", {}};
    sequence.log_probs.assign(sequence.tokens.size(), log_probs[index]);
    EXPECT_LT(index, request.parameters.best_of);
    return sequence;
  };
  EXPECT_THAT(texts(R"({"prompt":["ab","cd"],"n":2,"best_of":4})"),
              ::testing::ElementsAre("b", "d", "b", "d"));
  EXPECT_THAT(texts(R"({"prompt":"ab","n":4})"), ::testing::ElementsAre("a", "b", "c", "d"));
  const value one = json(Route::kCompletions, R"({"prompt":"ab","best_of":4})");
  EXPECT_EQ(one.at("choices").as_array().size(), 1u);
  EXPECT_EQ(one.at("usage").at("completion_tokens").to_number<std::size_t>(), ids("b").size())
      << "of what is returned";
}

TEST_F(SequencesTest, HypothesesComeInTheOrderOfTheSearch) {
  model_->answer = [this](const serving::GenerationRequest&, std::int32_t index) {
    return testing::FakeSequence{
        ids(index == 0 ? "first" : "second"), generation::FinishReason::kEosToken, "", {}};
  };
  EXPECT_THAT(texts(R"({"prompt":"ab","n":2,"best_of":4,"use_beam_search":true})"),
              ::testing::ElementsAre("first", "second"));
}

TEST_F(SequencesTest, AnEchoedPromptHasLogProbabilitiesToo) {
  const std::string body =
      R"({"prompt":["ROMEO: my love","ROMEO:"],"echo":true,"logprobs":2,"max_tokens":3,"n":2)";
  const value whole = json(Route::kCompletions, body + "}");
  const auto& choices = whole.at("choices").as_array();
  ASSERT_EQ(choices.size(), 4u);
  const auto prompt = ids("ROMEO: my love");
  const auto tokens = ids(kText);
  const object lists = choices[1].at("logprobs").as_object();
  for (const auto& list : lists) ASSERT_EQ(list.value().as_array().size(), prompt.size() + 3) << list.key();
  std::string text;
  for (std::size_t i = 0; i < prompt.size() + 3; ++i) {
    const std::int32_t id = i < prompt.size() ? prompt[i] : tokens[i - prompt.size()];
    const std::string name = served_.tokenizer->decode({&id, 1}, false);
    EXPECT_EQ(lists.at("tokens").at(i), value(name));
    EXPECT_EQ(lists.at("text_offset").at(i).to_number<std::size_t>(), text.size()) << i;
    text += name;
    if (i == 0) {
      EXPECT_TRUE(lists.at("token_logprobs").at(i).is_null());
      EXPECT_TRUE(lists.at("top_logprobs").at(i).is_null());
      continue;
    }
    const double expected = i < prompt.size() ? -static_cast<double>(i) / 8
                                              : testing::FakeModel::fake_log_prob(i - prompt.size());
    EXPECT_EQ(lists.at("token_logprobs").at(i).to_number<double>(), expected) << i;
    EXPECT_EQ(lists.at("top_logprobs").at(i).as_object().at(name).to_number<double>(), expected);
  }
  EXPECT_EQ(choices[1].at("text"), value(text));
  EXPECT_EQ(choices[2].at("logprobs").at("tokens").as_array().size(), 2u + 3);
  EXPECT_FALSE(choices[0].as_object().contains("prompt_logprobs"));

  // Streamed, the lists of all chunks together are the same.
  for (const std::size_t step : {1, 0}) {
    model_->tokens_per_take = step;
    std::vector<object> joined(4);
    for (const object& chunk : ask(Route::kCompletions, body + R"(,"stream":true})").chunks()) {
      const value& choice = chunk.at("choices").at(0);
      for (const auto& list : choice.at("logprobs").as_object()) {
        value& all = joined.at(choice.at("index").to_number<std::size_t>())[list.key()];
        if (all.is_null()) all.emplace_array();
        for (const value& item : list.value().as_array()) all.as_array().push_back(item);
      }
    }
    for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(value(joined[i]), choices[i].at("logprobs")) << i;
  }
}

TEST_F(SequencesTest, PromptLogProbsAreVllms) {
  const value expected = {
      nullptr,
      {{"26", {{"logprob", -0.125}, {"rank", 1}, {"decoded_token", ":"}}},
       {"27",
        {{"logprob", -0.625},
         {"rank", 2},
         {"decoded_token", served_.tokenizer->decode(std::vector<std::int32_t>{27}, false)}}}}};
  const value completion =
      json(Route::kCompletions, R"({"prompt":[859,26],"prompt_logprobs":2,"max_tokens":1,"n":2})");
  for (const value& choice : completion.at("choices").as_array()) {
    EXPECT_EQ(choice.at("prompt_logprobs"), expected);
    EXPECT_TRUE(choice.at("logprobs").is_null());
  }
  // Without alternatives nobody knows the rank.
  const value none = json(Route::kCompletions, R"({"prompt":[859,26],"prompt_logprobs":0,"max_tokens":1})");
  EXPECT_EQ(none.at("choices").at(0).at("prompt_logprobs"),
            value({nullptr, {{"26", {{"logprob", -0.125}, {"rank", nullptr}, {"decoded_token", ":"}}}}}));
  const value chat = json(
      Route::kChat, R"({"messages":[{"role":"user","content":"Hi"}],"prompt_logprobs":1,"max_tokens":1})");
  const auto& list = chat.at("prompt_logprobs").as_array();
  EXPECT_EQ(list.size(), chat.at("usage").at("prompt_tokens").to_number<std::size_t>());
  EXPECT_TRUE(list[0].is_null());
  EXPECT_EQ(list[1].as_object().size(), 1u);
}

}  // namespace
}  // namespace peregrine::api
