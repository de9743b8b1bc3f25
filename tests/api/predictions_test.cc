// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json/serialize.hpp>
#include <limits>
#include <string>

#include "api/service.h"
#include "fake_model.h"

// LMI's dialect, through the service: what a client sends and what it sees.

namespace peregrine::api {
namespace {

using configuration::OutputFormatter;
using testing::Answer;
using testing::FakeModel;
using ::testing::HasSubstr;
using testing::Script;

class PredictionsTest : public ::testing::Test {
 protected:
  Answer invoke(const std::string& body) { return testing::post(*service(), "/invocations", body); }

  /// After this, options of the model count no more.
  Service* service() {
    if (!service_) service_ = create_service({&model_}, metrics_);
    return service_.get();
  }

  void answer_with(std::string_view text, Script script = {}) {
    script.tokens = {testing::tokens_of(text)};
    model_.script = [script](const serving::GenerationRequest&) { return script; };
  }

  const generation::Parameters& asked() const { return model_.requests.back().parameters; }

  FakeModel model_;
  serving::Metrics metrics_;
  std::unique_ptr<Service> service_;
};

TEST_F(PredictionsTest, PlainAnswer) {
  answer_with("Thou art\n\"here\"");
  const Answer answer = invoke(R"({"inputs":"Hi","parameters":{"max_new_tokens":16}})");
  EXPECT_EQ(answer.status(), 200);
  EXPECT_EQ(answer.head.content_type, "application/json");
  EXPECT_EQ(answer.body, "{\"generated_text\":\"Thou art\\n\\\"here\\\"\"}\n");
  EXPECT_EQ(asked().max_new_tokens, 16);
  EXPECT_EQ(model_.requests.back().prompt_ids, testing::tokens_of("Hi"));
}

TEST_F(PredictionsTest, DetailsTellTheTokens) {
  answer_with("Thou", {.finish = generation::FinishReason::kEosToken});
  const auto answer =
      invoke(R"({"inputs":"Hi","parameters":{"details":true,"return_full_text":true}})").json();
  const auto& details = answer.at("details");
  EXPECT_EQ(answer.at("generated_text"), "HiThou");
  EXPECT_EQ(details.at("finish_reason"), "eos_token");
  EXPECT_EQ(details.at("inputs"), "Hi");
  const auto& tokens = details.at("tokens").as_array();
  EXPECT_EQ(details.at("generated_tokens").as_int64(), static_cast<std::int64_t>(tokens.size()));
  EXPECT_EQ(tokens[0].at("id").as_int64(), testing::tokens_of("Thou")[0]);
  EXPECT_EQ(tokens[0].at("log_prob").as_double(), -0.5);
  EXPECT_FALSE(tokens[0].as_object().contains("special_token"));
  EXPECT_FALSE(details.as_object().contains("top_tokens"));
}

TEST_F(PredictionsTest, SpecialTokensAreMarkedAndShownOnRequest) {
  model_.script = [](const serving::GenerationRequest&) {
    return Script{.tokens = {{testing::tokens_of("a")[0], 0}}, .finish = generation::FinishReason::kEosToken};
  };
  auto answer = invoke(R"({"inputs":"Hi","parameters":{"details":true}})").json();
  EXPECT_EQ(answer.at("generated_text"), "a");
  EXPECT_EQ(answer.at("details").at("tokens").at(1).at("special_token"), true);
  answer = invoke(R"({"inputs":"Hi","parameters":{"skip_special_tokens":false}})").json();
  EXPECT_EQ(answer.at("generated_text"), "a<|endoftext|>");
}

TEST_F(PredictionsTest, TopTokens) {
  answer_with("Thou");
  const auto answer = invoke(R"({"inputs":"Hi","parameters":{"details":true,"top_n_tokens":2}})").json();
  const auto& top = answer.at("details").at("top_tokens").as_array();
  ASSERT_EQ(top.size(), answer.at("details").at("tokens").as_array().size());
  ASSERT_EQ(top[0].as_array().size(), 2u);
  EXPECT_EQ(top[0].at(0).at("text"), answer.at("details").at("tokens").at(0).at("text"));
  EXPECT_EQ(top[0].at(1).at("log_prob").as_double(), -1.5);
}

TEST_F(PredictionsTest, SeveralSequences) {
  model_.script = [](const serving::GenerationRequest&) {
    return Script{.tokens = {testing::tokens_of("one"), testing::tokens_of("two")}};
  };
  const auto answer = invoke(R"({"inputs":"Hi","parameters":{"n":2,"temperature":0.5}})").json();
  EXPECT_EQ(answer.at("generated_text"), "one");
  const auto& others = answer.at("details").at("best_of_sequences").as_array();
  ASSERT_EQ(others.size(), 1u);
  EXPECT_EQ(others[0].at("generated_text"), "two");
  EXPECT_EQ(others[0].at("finish_reason"), "length");
  EXPECT_TRUE(others[0].at("tokens").is_array());
  const Answer streamed = invoke(R"({"inputs":"Hi","parameters":{"best_of":2},"stream":true})");
  EXPECT_EQ(streamed.status(), 400);
  EXPECT_THAT(streamed.body, HasSubstr("parameters.best_of"));
}

TEST_F(PredictionsTest, StreamsLines) {
  answer_with("Thou art here");
  const Answer answer = invoke(R"({"inputs":"Hi","parameters":{"details":true},"stream":true})");
  EXPECT_EQ(answer.head.content_type, "application/jsonlines");
  EXPECT_GT(answer.parts.size(), 1u);
  const auto lines = answer.lines();
  std::string text;
  for (const auto& line : lines) text += line.at("token").at("text").as_string();
  EXPECT_EQ(text, "Thou art here");
  const auto& last = lines.back().as_object();
  EXPECT_EQ(last.at("generated_text"), "Thou art here");
  EXPECT_EQ(last.at("details").at("generated_tokens").as_int64(), static_cast<std::int64_t>(lines.size()));
  EXPECT_FALSE(last.at("details").as_object().contains("tokens"));
  EXPECT_FALSE(lines.front().as_object().contains("generated_text"));
}

TEST_F(PredictionsTest, TheLastLineHasATokenAlsoWhereAStopStringTookThemAll) {
  answer_with("Thou. art here");
  const auto lines = invoke(R"({"inputs":"Hi","parameters":{"stop":"."},"stream":"true"})").lines();
  EXPECT_EQ(lines.back().at("generated_text"), "Thou");
  std::string text;
  for (const auto& line : lines) text += line.at("token").at("text").as_string();
  EXPECT_EQ(text, "Thou");
}

TEST_F(PredictionsTest, StopStringsOfBothFieldsCount) {
  answer_with("one two three");
  const auto text = [&](const std::string& parameters) {
    const auto answer = invoke(R"({"inputs":"Hi","parameters":)" + parameters + "}").json();
    return std::string(answer.at("generated_text").as_string());
  };
  EXPECT_EQ(text(R"({"stop_sequences":[" three"],"stop":" two"})"), "one");
  EXPECT_EQ(text(R"({"stop_sequences":[" two"],"include_stop_str_in_output":true})"), "one two");
  EXPECT_EQ(text(R"({"stop_sequences":[],"stop":null})"), "one two three");
  const auto answer = invoke(R"({"inputs":"Hi","parameters":{"stop":[" two"],"details":true}})").json();
  EXPECT_EQ(answer.at("details").at("finish_reason"), "stop_sequence");
}

TEST_F(PredictionsTest, Formatters) {
  struct Case {
    OutputFormatter option;
    std::string parameters, stream, type;
  };
  const std::string json = "application/json";
  const std::string lines = "application/jsonlines";
  const std::string events = "text/event-stream";
  for (const Case& c :
       std::vector<Case>{{OutputFormatter::kAuto, "{}", "false", json},
                         {OutputFormatter::kAuto, "{}", "true", lines},
                         {OutputFormatter::kJson, "{}", "true", json},
                         {OutputFormatter::kJsonLines, "{}", "false", lines},
                         {OutputFormatter::kSse, "{}", "true", events},
                         {OutputFormatter::kSse, "{}", "false", json},
                         {OutputFormatter::kSse, R"({"output_formatter":"json"})", "true", json},
                         {OutputFormatter::kAuto, R"({"output_formatter":"sse"})", "true", events},
                         {OutputFormatter::kAuto, R"({"output_formatter":"nonsense"})", "true", lines},
                         {OutputFormatter::kAuto, R"({"output_formatter":"jsonlines"})", "null", lines}}) {
    model_.model_options.output_formatter = c.option;
    const Answer answer =
        invoke(R"({"inputs":"Hi","parameters":)" + c.parameters + ",\"stream\":" + c.stream + "}");
    EXPECT_EQ(answer.head.content_type, c.type) << c.parameters << " " << c.stream;
    if (c.type != events) continue;
    EXPECT_TRUE(answer.body.starts_with("data: {\"token\":"));
    EXPECT_TRUE(answer.body.ends_with("}\n\n"));
    EXPECT_EQ(answer.body.find("[DONE]"), std::string::npos);
  }
}

TEST_F(PredictionsTest, LogProbsAreShortestAndNeverNan) {
  const auto written = [&](float log_prob) {
    answer_with("a", {.log_prob = log_prob});
    const std::string body = invoke(R"({"inputs":"Hi","parameters":{"details":true}})").body;
    const std::size_t begin = body.find("\"log_prob\":") + 11;
    return body.substr(begin, body.find('}', begin) - begin);
  };
  EXPECT_EQ(written(-0.1f), "-0.1");
  EXPECT_EQ(written(-16777216.0f), "-16777216");
  EXPECT_EQ(written(-1e-7f), "-1e-07");
  EXPECT_EQ(written(0.0f), "0");
  EXPECT_EQ(written(std::numeric_limits<float>::quiet_NaN()), "null");
  EXPECT_EQ(written(-std::numeric_limits<float>::infinity()), "null");
}

TEST_F(PredictionsTest, TruncateKeepsTheLastTokens) {
  const auto ids = testing::tokens_of("one two three four");
  invoke(R"({"inputs":"one two three four","parameters":{"truncate":2}})");
  EXPECT_EQ(model_.requests.back().prompt_ids, std::vector<std::int32_t>(ids.end() - 2, ids.end()));
}

TEST_F(PredictionsTest, LongPromptsAreRefusedWithNumbers) {
  std::string text;
  for (int i = 0; i < 3000; ++i) text += "word ";
  const Answer answer = invoke(R"({"inputs":")" + text + "\"}");
  EXPECT_EQ(answer.status(), 400);
  EXPECT_THAT(answer.body, HasSubstr("inputs has "));
  EXPECT_THAT(answer.body, HasSubstr("at most 1023"));
  // Far too long: refused before it is tokenized.
  const Answer huge = invoke(R"({"inputs":")" + std::string(4u << 20, 'x') + "\"}");
  EXPECT_EQ(huge.status(), 400);
  EXPECT_THAT(huge.body, HasSubstr("4194304 bytes"));
  EXPECT_TRUE(model_.requests.empty());
  // With truncate both can be done.
  EXPECT_EQ(invoke(R"({"inputs":")" + text + R"(","parameters":{"truncate":1000}})").status(), 200);
  EXPECT_EQ(model_.requests.back().prompt_ids.size(), 1000u);
}

TEST_F(PredictionsTest, MaxNewTokensIsBoundedByTheContext) {
  answer_with("a");
  invoke(R"({"inputs":"Hi","parameters":{"max_new_tokens":100000}})");
  EXPECT_EQ(asked().max_new_tokens, 1024 - static_cast<int>(testing::tokens_of("Hi").size()));
}

TEST_F(PredictionsTest, ParametersReachTheModel) {
  answer_with("a");
  invoke(R"({"inputs":"Hi","parameters":{"do_sample":true,"temperature":0.5,"top_k":7,"top_p":0.25,
    "repetition_penalty":1.5,"seed":42,"ignore_eos_token":true,"stop_token_ids":[3],"min_new_tokens":2.0}})");
  EXPECT_TRUE(asked().do_sample);
  EXPECT_EQ(asked().temperature, 0.5f);
  EXPECT_EQ(asked().top_k, 7);
  EXPECT_EQ(asked().top_p, 0.25f);
  EXPECT_EQ(asked().repetition_penalty, 1.5f);
  EXPECT_EQ(asked().seed, 42u);
  EXPECT_TRUE(asked().eos_token_ids.empty());
  EXPECT_EQ(asked().stop_token_ids, std::vector<std::int32_t>{3});
  EXPECT_EQ(asked().min_new_tokens, 2);
}

TEST_F(PredictionsTest, WhatIsNoRequestIs424) {
  const auto error = [&](const std::string& body) {
    const Answer answer = invoke(body);
    EXPECT_EQ(answer.status(), 424) << body;
    const auto json = answer.json();
    EXPECT_EQ(json.at("code"), 424);
    const std::string text(json.at("error").as_string());
    EXPECT_TRUE(text.starts_with("Input Parsing failed. Ensure that the request payload is valid. ")) << text;
    return text;
  };
  EXPECT_THAT(error(""), HasSubstr("does not contain any content"));
  EXPECT_THAT(error(R"({"inputs":""})"), HasSubstr("does not contain any content"));
  EXPECT_THAT(error(R"({"inputs":["a"]})"), HasSubstr("must be a string. Received type <class 'list'>"));
  EXPECT_THAT(error(R"({"inputs":null})"), HasSubstr("<class 'NoneType'>"));
  EXPECT_THAT(error(R"({"inputs":"a","parameters":[1]})"),
              HasSubstr("'parameters' must be provided as an object"));
  EXPECT_THAT(error(R"({"foo":1})"), HasSubstr("must contain prompt, inputs, or messages"));
  EXPECT_THAT(error(R"({"parameters":{}})"), HasSubstr("'inputs'"));
  EXPECT_THAT(error("[1]"), HasSubstr("should be a json object specifying the 'inputs' field"));
  EXPECT_THAT(error(R"({"inputs":"a)"), HasSubstr("byte"));
  EXPECT_THAT(error(R"({"inputs":NaN})"), HasSubstr("not valid JSON at byte 1"));
  EXPECT_THAT(error(R"({"inputs":"a","adapters":["x"]})"), HasSubstr("Adapter 'x' is not registered"));
  EXPECT_THAT(error(R"({"inputs":"a","adapters":["x","y"]})"), HasSubstr("Number of adapters"));
}

TEST_F(PredictionsTest, WrongParametersAre400AndNamed) {
  const auto error = [&](const std::string& parameters) {
    const Answer answer = invoke(R"({"inputs":"a","parameters":)" + parameters + "}");
    EXPECT_EQ(answer.status(), 400) << parameters;
    EXPECT_EQ(answer.json().at("code"), 400);
    return std::string(answer.json().at("error").as_string());
  };
  EXPECT_EQ(error(R"({"max_new_tokens":0})"),
            "parameters.max_new_tokens must be an integer from 1 to 2147483647, found 0");
  EXPECT_EQ(error(R"({"top_p":"x"})"), "parameters.top_p must be a number in [0, 1], found the string 'x'");
  EXPECT_EQ(error(R"({"suppress_tokens":[1,"x"]})"),
            "parameters.suppress_tokens[1] must be a token id (0 to 2147483647), found the string 'x'");
  EXPECT_THAT(error(R"({"eos_token_id":5000})"),
              HasSubstr("parameters.eos_token_id must hold token ids from 0"));
  EXPECT_THAT(error(R"({"num_beams":0})"), HasSubstr("parameters.num_beams must be an integer from 1"));
  EXPECT_THAT(error(R"({"num_beams":2,"n":3})"), HasSubstr("parameters.n must be at most num_beams"));
  EXPECT_THAT(error(R"({"guided_json":{"a":1}})"), HasSubstr("parameters.guided_json is not supported"));
  EXPECT_THAT(error(R"({"stop":[""]})"), HasSubstr("parameters.stop[0] must be a string of 1 to 1024 bytes"));
  EXPECT_THAT(error(R"({"n":33,"temperature":1})"), HasSubstr("parameters.n must be at most 32"));
  EXPECT_THAT(error(R"({"max_new_tokens":5,"max_tokens":6})"), HasSubstr("two names of one thing"));
  // What turns a feature off may be said.
  EXPECT_EQ(invoke(R"({"inputs":"a","parameters":{"decoder_input_details":false,"watermark":false,
    "grammar":null,"num_beams":1,"best_of":1,"nonsense_parameter":1}})")
                .status(),
            200);
}

TEST_F(PredictionsTest, ErrorsOfTheEngine) {
  answer_with("Thou art here", {.finish = generation::FinishReason::kError, .error = "out of luck"});
  const Answer whole = invoke(R"({"inputs":"a"})");
  EXPECT_EQ(whole.status(), 500);
  EXPECT_EQ(whole.body, "{\"error\":\"out of luck\",\"code\":500}\n");
  const auto lines = invoke(R"({"inputs":"a","stream":true})").lines();
  ASSERT_GE(lines.size(), 2u);
  EXPECT_EQ(lines.back().at("error"), "out of luck");
}

}  // namespace
}  // namespace peregrine::api
