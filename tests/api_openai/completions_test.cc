// SPDX-License-Identifier: Apache-2.0
// What a completion request is read as, and what it is refused for.
#include <gmock/gmock.h>

#include <boost/json/serialize.hpp>

#include "openai_fixture.h"

namespace peregrine::api {
namespace {

using Prompts = std::vector<std::vector<std::int32_t>>;

class CompletionsTest : public OpenAiTest {
 protected:
  std::string refused(std::string_view body) const { return refused_field(Route::kCompletions, body); }
  std::string refused_with(std::string_view member) const {
    return refused(R"({"prompt":"ROMEO:",)" + std::string(member) + "}");
  }
  std::string message(std::string_view member) const {
    return refusal(Route::kCompletions, R"({"prompt":"ROMEO:",)" + std::string(member) + "}");
  }
  generation::Parameters parameters(std::string_view member) const {
    return completion(R"({"prompt":"ROMEO:",)" + std::string(member) + "}").parameters;
  }
};

TEST_F(CompletionsTest, Prompts) {
  const Prompts both = {{859, 26}, ids("To be")};
  EXPECT_EQ(completion(R"({"prompt":"ROMEO:"})").prompts, Prompts{both[0]});
  EXPECT_EQ(completion(R"({"prompt":["ROMEO:","To be"]})").prompts, both);
  EXPECT_EQ(completion(R"({"prompt":[859,26]})").prompts, Prompts{both[0]});
  EXPECT_EQ(completion(R"({"prompt":[[859,26],[859]]})").prompts, (Prompts{both[0], {859}}));
  EXPECT_EQ(completion(R"({"prompt":[859,26,1,2],"truncate_prompt_tokens":2})").prompts, (Prompts{{1, 2}}));
  EXPECT_EQ(completion(R"({"prompt":"To be ROMEO:","truncate_prompt_tokens":1})").prompts, (Prompts{{26}}));

  EXPECT_EQ(refused("{}"), "prompt");
  EXPECT_EQ(refused(R"({"prompt":null})"), "prompt");
  EXPECT_EQ(refused(R"({"prompt":""})"), "prompt");
  EXPECT_EQ(refused(R"({"prompt":[]})"), "prompt");
  EXPECT_EQ(refused(R"({"prompt":5})"), "prompt");
  EXPECT_EQ(refused(R"({"prompt":{}})"), "prompt");
  EXPECT_EQ(refused(R"({"prompt":["a",""]})"), "prompt[1]");
  EXPECT_EQ(refused(R"({"prompt":["a",5]})"), "prompt[1]");
  EXPECT_EQ(refused(R"({"prompt":[null]})"), "prompt[0]");
  EXPECT_EQ(refused(R"({"prompt":[[]]})"), "prompt[0]");
  EXPECT_EQ(refused(R"({"prompt":[[1],"a"]})"), "prompt[1]");
  EXPECT_EQ(refused(R"({"prompt":[[1],[2,"a"]]})"), "prompt[1][1]");
  EXPECT_EQ(refused(R"({"prompt":[1,2048]})"), "prompt[1]");
  EXPECT_EQ(refused(R"({"prompt":[1,-1]})"), "prompt[1]");
  EXPECT_EQ(refused(R"({"prompt":[1,1.5]})"), "prompt[1]");
  EXPECT_EQ(refused(R"({"prompt":[1,18446744073709551615]})"), "prompt[1]");
  EXPECT_EQ(refused(R"({"prompt":[1,"a"]})"), "prompt[1]");
}

TEST_F(CompletionsTest, TheNumberAndSizeOfPromptsIsLimited) {
  boost::json::array many(128, "a");
  EXPECT_EQ(refused(boost::json::serialize(boost::json::object{{"prompt", many}})), "");
  many.emplace_back("a");
  EXPECT_EQ(refused(boost::json::serialize(boost::json::object{{"prompt", many}})), "prompt");

  boost::json::array tokens(1023, 5);
  const auto request = [&](std::int64_t max_tokens) {
    return boost::json::serialize(boost::json::object{{"prompt", tokens}, {"max_tokens", max_tokens}});
  };
  EXPECT_EQ(refused(request(1)), "");
  EXPECT_EQ(refused(request(2)), "max_tokens");
  tokens.emplace_back(5);
  EXPECT_EQ(refused(request(1)), "prompt");
  tokens.resize(100'000, 5);
  EXPECT_EQ(refused(request(1)), "prompt");
  EXPECT_EQ(refused(R"({"prompt":")" + std::string(2'000'000, 'a') + "\"}"), "prompt");
}

TEST_F(CompletionsTest, MaxTokens) {
  EXPECT_EQ(completion(R"({"prompt":"ROMEO:"})").parameters.max_new_tokens, 16);
  EXPECT_EQ(parameters(R"("max_tokens":null)").max_new_tokens, 16);
  EXPECT_EQ(parameters(R"("max_tokens":1022)").max_new_tokens, 1022);
  EXPECT_EQ(refused_with(R"("max_tokens":1023)"), "max_tokens");
  const std::string text = message(R"("max_tokens":1023)");
  for (const char* part : {"maximum context length is 1024", "1025", "2 of the prompt", "1023"}) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  }
  // Without max_tokens the answer is as long as there is room.
  boost::json::array tokens(1020, 5);
  EXPECT_EQ(
      completion(boost::json::serialize(boost::json::object{{"prompt", tokens}})).parameters.max_new_tokens,
      4);
  // A prompt that is cut leaves room.
  tokens.resize(3000, 5);
  const boost::json::object cut{{"prompt", tokens}, {"truncate_prompt_tokens", -1}, {"max_tokens", 100}};
  const GenerationPlan plan = completion(boost::json::serialize(cut));
  EXPECT_EQ(plan.prompts[0].size(), 924u);
  EXPECT_EQ(plan.parameters.max_new_tokens, 100);
}

TEST_F(CompletionsTest, SamplingIsTheDefault) {
  // generation_config.json: temperature 0.8, top_k 50.
  const generation::Parameters usual = completion(R"({"prompt":"ROMEO:"})").parameters;
  EXPECT_TRUE(usual.do_sample);
  EXPECT_FLOAT_EQ(usual.temperature, 0.8f);
  EXPECT_EQ(usual.top_k, 50);
  EXPECT_EQ(usual.top_p, 1.0f);
  EXPECT_EQ(usual.n, 1);
  EXPECT_EQ(usual.eos_token_ids, std::vector<std::int32_t>{0});
  EXPECT_FALSE(usual.seed);
  EXPECT_FALSE(parameters(R"("temperature":0)").do_sample);
  EXPECT_TRUE(parameters(R"("temperature":0.01)").do_sample);
  EXPECT_FLOAT_EQ(parameters(R"("temperature":2)").temperature, 2.0f);
}

TEST_F(CompletionsTest, ParametersArrive) {
  const generation::Parameters all = parameters(
      R"("top_p":0.5,"top_k":-1,"min_p":0.1,"repetition_penalty":1.2,"presence_penalty":-2,"frequency_penalty":2,)"
      R"("seed":7,"n":3,"best_of":3,"min_tokens":2,"stop_token_ids":[5],"ignore_eos":true,"logprobs":5)");
  EXPECT_FLOAT_EQ(all.top_p, 0.5f);
  EXPECT_EQ(all.top_k, 0);
  EXPECT_FLOAT_EQ(all.min_p, 0.1f);
  EXPECT_FLOAT_EQ(all.repetition_penalty, 1.2f);
  EXPECT_FLOAT_EQ(all.presence_penalty, -2.0f);
  EXPECT_FLOAT_EQ(all.frequency_penalty, 2.0f);
  EXPECT_EQ(all.seed, 7u);
  EXPECT_EQ(all.n, 3);
  EXPECT_EQ(all.min_new_tokens, 2);
  EXPECT_EQ(all.stop_token_ids, std::vector<std::int32_t>{5});
  EXPECT_TRUE(all.eos_token_ids.empty());
  EXPECT_EQ(all.top_n_tokens, 5);
}

TEST_F(CompletionsTest, AnyIntegerIsASeed) {
  EXPECT_EQ(parameters(R"("seed":-1)").seed, 0xFFFF'FFFF'FFFF'FFFFu);
  EXPECT_EQ(parameters(R"("seed":-9223372036854775808)").seed, 0x8000'0000'0000'0000u);
  EXPECT_EQ(parameters(R"("seed":9223372036854775807)").seed, 0x7FFF'FFFF'FFFF'FFFFu);
  EXPECT_EQ(refused_with(R"("seed":1.5)"), "seed");
  EXPECT_EQ(refused_with(R"("seed":"1")"), "seed");
}

TEST_F(CompletionsTest, Ranges) {
  for (const char* member : {R"("temperature":-0.1)",
                             R"("temperature":2.1)",
                             R"("top_p":0)",
                             R"("top_p":1.1)",
                             R"("presence_penalty":2.1)",
                             R"("presence_penalty":-2.1)",
                             R"("frequency_penalty":-3)",
                             R"("n":0)",
                             R"("n":33)",
                             R"("best_of":2,"n":3)",
                             R"("best_of":33)",
                             R"("prompt_logprobs":21)",
                             R"("prompt_logprobs":-1)",
                             R"("length_penalty":"x")",
                             R"("early_stopping":"x")",
                             R"("bad_words":"x")",
                             R"("bad_words":[""])",
                             R"("best_of":0)",
                             R"("max_tokens":0)",
                             R"("max_tokens":2147483648)",
                             R"("logprobs":21)",
                             R"("logprobs":-1)",
                             R"("logprobs":true)",
                             R"("top_k":-2)",
                             R"("min_p":2)",
                             R"("repetition_penalty":0)",
                             R"("min_tokens":-1)",
                             R"("stop_token_ids":[2048])",
                             R"("stop_token_ids":7)",
                             R"("stop":[""])",
                             R"("stop":5)",
                             R"("truncate_prompt_tokens":0)",
                             R"("truncate_prompt_tokens":-2)"}) {
    const std::string field = refused_with(member);
    EXPECT_EQ(field.substr(0, field.find('[')),
              std::string(member).substr(1, std::string(member).find('"', 1) - 1))
        << member;
  }
  EXPECT_EQ(refused_with(R"("min_tokens":20,"max_tokens":10)"), "min_tokens");
  // All sequences would be the same.
  EXPECT_EQ(refused_with(R"("n":2,"temperature":0)"), "n");
}

TEST_F(CompletionsTest, UnsupportedIsRefusedAndOffIsAccepted) {
  for (const char* member :
       {R"("suffix":"x")", R"("logit_bias":{"5":1})", R"("allowed_token_ids":[1])",
        R"("guided_json":{"type":"object"})", R"("response_format":{"type":"json_object"})",
        R"("response_format":{"type":"json_schema"})", R"("structured_outputs":{"regex":"x"})"}) {
    const std::string name = std::string(member).substr(1, std::string(member).find('"', 1) - 1);
    EXPECT_EQ(refused_with(member), name) << member;
    EXPECT_NE(message(member).find("not supported yet"), std::string::npos) << message(member);
  }
  EXPECT_EQ(refused_with(R"("response_format":{"type":"xml"})"), "response_format.type");
  EXPECT_EQ(refused_with(R"("response_format":{})"), "response_format.type");
  EXPECT_EQ(
      refused_with(R"("suffix":"","logit_bias":{},"response_format":{"type":"text"},"echo":false,)"
                   R"("use_beam_search":false,"best_of":1,"user":"me","metadata":{"a":"b"},"store":true,)"
                   R"("service_tier":"auto","never_heard_of":[1])"),
      "");
}

TEST_F(CompletionsTest, BestOfAndBeams) {
  const generation::Parameters best = parameters(R"("n":2,"best_of":5)");
  EXPECT_EQ(best.n, 2);
  EXPECT_EQ(best.computed_sequences(), 5);
  EXPECT_EQ(best.num_beams, 1);
  EXPECT_TRUE(best.do_sample);
  const generation::Parameters beams =
      parameters(R"("n":2,"best_of":4,"use_beam_search":true,"length_penalty":0.5,"early_stopping":true)");
  EXPECT_EQ(beams.num_beams, 4);
  EXPECT_EQ(beams.reported_sequences(), 2);
  EXPECT_EQ(beams.length_penalty, 0.5f);
  EXPECT_EQ(beams.early_stopping, generation::EarlyStopping::kTrue);
  EXPECT_FALSE(beams.do_sample);
  EXPECT_EQ(parameters(R"("use_beam_search":true,"n":3)").num_beams, 3);
  const generation::Parameters one = parameters(R"("use_beam_search":true)");
  EXPECT_EQ(one.num_beams, 1);
  EXPECT_FALSE(one.do_sample) << "a beam of one is greedy";
  // What is known only at the end is not streamed.
  EXPECT_EQ(refused_with(R"("stream":true,"best_of":2)"), "best_of");
  EXPECT_EQ(refused_with(R"("stream":true,"best_of":2,"use_beam_search":true)"), "best_of");
  EXPECT_EQ(refused_with(R"("stream":true,"n":2,"use_beam_search":true)"), "n");
  EXPECT_EQ(refused_with(R"("stream":true,"n":2,"best_of":2)"), "");
  EXPECT_EQ(refused_with(R"("stream":true,"prompt_logprobs":1)"), "prompt_logprobs");
}

TEST_F(CompletionsTest, WordsThatMayNotAppear) {
  const auto word = ids("Romeo");
  const auto behind_a_blank = ids(" Romeo");
  EXPECT_THAT(parameters(R"("bad_words":["Romeo"])").bad_words_ids,
              ::testing::ElementsAre(word, behind_a_blank));
}

TEST_F(CompletionsTest, PromptLogProbs) {
  EXPECT_EQ(parameters(R"("prompt_logprobs":3)").prompt_logprobs, 3);
  EXPECT_EQ(parameters(R"("echo":true,"logprobs":2)").prompt_logprobs, 2);
  EXPECT_EQ(parameters(R"("echo":true,"logprobs":2,"prompt_logprobs":4)").prompt_logprobs, 4);
  EXPECT_FALSE(parameters(R"("echo":true)").prompt_logprobs.has_value());
}

TEST_F(CompletionsTest, ATextForAnEncoder) {
  model_->model_limits.encoder_decoder = true;
  model_->model_limits.max_model_length = 8;
  // The example has no token to begin with but this one.
  const auto start = model_->directory().info().bos_token_id;
  ASSERT_TRUE(start.has_value());
  const GenerationPlan plan = completion(R"({"prompt":[1,2,3,4,5,6,7,8],"max_tokens":7})");
  EXPECT_EQ(plan.decoder_start, start);
  EXPECT_EQ(plan.prompts[0].size(), 8u) << "it takes nothing of the answer's room";
  EXPECT_EQ(plan.parameters.max_new_tokens, 7);
  EXPECT_EQ(refused(R"({"prompt":[1,2,3,4,5,6,7,8,9]})"), "prompt");
  EXPECT_EQ(refused(R"({"prompt":[1,2],"max_tokens":8})"), "max_tokens");
  // The end that a text was given stays.
  EXPECT_EQ(completion(R"({"prompt":[1,2,3,4],"truncate_prompt_tokens":2})").prompts, (Prompts{{1, 2}}));
  EXPECT_EQ(completion(R"({"prompt":[1,2,3,0],"truncate_prompt_tokens":2})").prompts, (Prompts{{1, 0}}));
  EXPECT_EQ(completion(R"({"prompt":[1,2,3,4,5,6,7,8,9],"truncate_prompt_tokens":-1})").prompts[0].size(),
            8u);
  EXPECT_EQ(refused_with(R"("prompt_logprobs":1)"), "prompt_logprobs");
  EXPECT_EQ(refused_with(R"("echo":true,"logprobs":1)"), "echo");
}

TEST_F(CompletionsTest, StreamOptions) {
  EXPECT_EQ(refused_with(R"("stream_options":{"include_usage":true})"), "stream_options");
  EXPECT_EQ(refused_with(R"("stream":false,"stream_options":{})"), "stream_options");
  EXPECT_EQ(refused_with(R"("stream":false,"stream_options":null)"), "");
  EXPECT_EQ(refused_with(R"("stream":true,"stream_options":{"include_usage":5})"),
            "stream_options.include_usage");
  EXPECT_EQ(refused_with(R"("stream":true,"stream_options":{"continuous_usage_stats":true})"),
            "stream_options.continuous_usage_stats");
  EXPECT_EQ(
      refused_with(R"("stream":true,"stream_options":{"include_usage":false,"include_obfuscation":false})"),
      "");
}

TEST_F(CompletionsTest, WhatTheTextIsMadeOf) {
  const GenerationPlan plan =
      completion(R"({"prompt":"x","stop":["a","b"],"include_stop_str_in_output":true,"stream":true})");
  EXPECT_THAT(plan.text.stop, ::testing::ElementsAre("a", "b"));
  EXPECT_TRUE(plan.text.include_stop_in_text);
  EXPECT_TRUE(plan.text.skip_special_tokens);
  EXPECT_TRUE(plan.streaming);
  EXPECT_FALSE(plan.keep_tokens);
  EXPECT_THAT(completion(R"({"prompt":"x","stop":"a"})").text.stop, ::testing::ElementsAre("a"));
}

TEST_F(CompletionsTest, AModelThatIsNotReadyIsOverloaded) {
  model_->model_status.state = serving::ModelState::kLoading;
  try {
    completion(R"({"prompt":"x"})");
    FAIL();
  } catch (const core::Error& error) {
    EXPECT_EQ(error.kind(), core::ErrorKind::kOverloaded);
    EXPECT_STREQ(error.what(), "Model is not ready: shakespeare");
  }
}

}  // namespace
}  // namespace peregrine::api
