// SPDX-License-Identifier: Apache-2.0
#include "api/service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json/parse.hpp>
#include <string>

#include "api/request_id.h"
#include "api/router.h"
#include "fake_model.h"

namespace peregrine::api {
namespace {

using serving::ModelState;
using testing::Answer;
using testing::FakeModel;
using ::testing::HasSubstr;

class ServiceTest : public ::testing::Test {
 protected:
  Answer send(std::string method, std::string path, std::string body = "",
              std::vector<std::pair<std::string, std::string>> headers = {}) {
    HttpRequest request;
    request.method = std::move(method);
    const std::size_t query = path.find('?');
    request.path = path.substr(0, query);
    if (query != std::string::npos) request.query = path.substr(query + 1);
    request.headers = std::move(headers);
    request.body = std::move(body);
    return testing::ask(*service_, std::move(request));
  }

  FakeModel first_{"first"};
  FakeModel second_{"second"};
  serving::Metrics metrics_;
  std::unique_ptr<Service> service_ = create_service({&first_, &second_}, metrics_);
  std::unique_ptr<Service> alone_ = create_service({&first_}, metrics_);
};

const std::string kHi = R"({"inputs":"Hi"})";

TEST_F(ServiceTest, EveryAnswerHasTheCommonHeaders) {
  for (const std::string& path : {std::string("/ping"), std::string("/nowhere"), std::string("/v1/models")}) {
    const Answer answer = send("GET", path, "", {{"x-request-id", "abc-123"}});
    EXPECT_EQ(answer.header("x-request-id"), "abc-123");
    EXPECT_EQ(answer.header("Pragma"), "no-cache");
    EXPECT_EQ(answer.header("Cache-Control"), "no-cache; no-store, must-revalidate, private");
    EXPECT_EQ(answer.header("Expires"), "Thu, 01 Jan 1970 00:00:00 UTC");
  }
  const Answer answer = testing::post(*alone_, "/invocations", kHi, {{"x-request-id", "mine"}});
  EXPECT_EQ(answer.header("x-request-id"), "mine");
  EXPECT_EQ(first_.requests.back().request_id, "mine");
}

TEST_F(ServiceTest, RequestIdsThatCannotBeRepeatedAreReplaced) {
  for (const std::string& id : {std::string(), std::string("a b"), std::string("a\nb"), std::string(129, 'a'),
                                std::string("\xC3\xA9")}) {
    const std::string given = send("GET", "/ping", "", {{"x-request-id", id}}).header("x-request-id");
    EXPECT_EQ(given.size(), 36u) << given;
    EXPECT_EQ(given[14], '4');
  }
  EXPECT_NE(fresh_uuid(), fresh_uuid());
}

TEST_F(ServiceTest, Ping) {
  EXPECT_EQ(send("GET", "/ping").json(),
            boost::json::parse(R"({"first":{"status":"Healthy"},"second":{"status":"Healthy"}})"));
  first_.state.state = ModelState::kRestarting;
  second_.state.state = ModelState::kLoading;
  Answer answer = send("GET", "/ping/");
  EXPECT_EQ(answer.status(), 200);
  EXPECT_EQ(answer.json(),
            boost::json::parse(R"({"first":{"status":"Unhealthy"},"second":{"status":"PENDING"}})"));
  first_.state.state = ModelState::kFailed;
  answer = send("GET", "/ping");
  EXPECT_EQ(answer.status(), 500);
  EXPECT_EQ(answer.json().at("first").at("status"), "FAILED");
  const auto none = create_service(std::vector<serving::Model*>{}, metrics_);
  EXPECT_EQ(testing::get(*none, "/ping").body, "{}\n");
}

TEST_F(ServiceTest, Readiness) {
  EXPECT_EQ(send("GET", "/readyz").status(), 200);
  for (const auto state :
       {ModelState::kRestarting, ModelState::kLoading, ModelState::kDraining, ModelState::kFailed}) {
    second_.state.state = state;
    const Answer answer = send("GET", "/readyz");
    EXPECT_EQ(answer.status(), 503);
    EXPECT_NE(answer.header("Retry-After"), "");
    EXPECT_TRUE(answer.json().at("models").as_object().contains("second"));
    EXPECT_FALSE(answer.json().at("models").as_object().contains("first"));
    EXPECT_EQ(send("GET", "/livez").status(), 200);
  }
  second_.state.state = ModelState::kReady;
  second_.state.queued = second_.state.job_queue_size;
  EXPECT_THAT(send("GET", "/readyz").body, HasSubstr("queue is full (10 requests)"));
}

TEST_F(ServiceTest, MetricsCountByRoutePattern) {
  send("POST", "/predictions/first", kHi);
  send("GET", "/some/secret/path");
  const Answer answer = send("GET", "/metrics");
  EXPECT_EQ(answer.head.content_type, "text/plain; version=0.0.4; charset=utf-8");
  EXPECT_THAT(answer.body, HasSubstr("/predictions/{model}"));
  EXPECT_EQ(answer.body.find("secret"), std::string::npos);
}

TEST_F(ServiceTest, AnswersThatNobodyWaitsForAreCountedAs499) {
  HttpRequest request{"POST", "/predictions/first", "", {}, kHi};
  service_->handle(std::move(request), [] {}).reset();
  EXPECT_THAT(metrics_.text(), HasSubstr("499"));
  EXPECT_EQ(first_.cancelled, 1);
}

TEST_F(ServiceTest, UnknownPathsAndModels) {
  for (const std::string& path : {std::string("/InvalidUrl"), std::string("/predictions"),
                                  std::string("/predictions/"), std::string("//"), std::string("")}) {
    const Answer answer = send("GET", path);
    EXPECT_EQ(answer.status(), 404) << path;
    EXPECT_EQ(answer.json().at("type"), "ResourceNotFoundException") << path;
    EXPECT_EQ(answer.json().at("message"), "Requested resource is not found, please refer to API document.");
    EXPECT_EQ(answer.json().at("code"), 404);
  }
  for (const std::string& path :
       {std::string("/predictions/x"), std::string("/models/x/invoke"),
        std::string("/invocations?model_name=x"), std::string("/predictions/x/v9")}) {
    const Answer answer = send("PUT", path, "no json");
    EXPECT_EQ(answer.status(), 404) << path;
    EXPECT_EQ(answer.json().at("type"), "ModelNotFoundException");
    EXPECT_EQ(answer.json().at("message"), "Model or workflow not found: x");
  }
  // A model has no versions, so none exists.
  EXPECT_EQ(send("POST", "/predictions/first/v9", kHi).status(), 404);
  EXPECT_EQ(send("POST", "/predictions/first?model_version=2", kHi).status(), 404);
  // What is no UTF-8 in a path does not get into an answer.
  EXPECT_EQ(send("POST", "/predictions/\xFF", kHi).json().at("message"),
            "Model or workflow not found: \uFFFD");
}

TEST_F(ServiceTest, TheModelIsChosenByTheFirstThatNamesOne) {
  const auto asks = [&](FakeModel& model, const std::string& path, const std::string& body,
                        std::vector<std::pair<std::string, std::string>> headers = {}) {
    const std::size_t before = model.requests.size();
    const Answer answer = send("POST", path, body, std::move(headers));
    return answer.status() == 200 && model.requests.size() == before + 1;
  };
  const std::string in_body = R"({"inputs":"Hi","model_name":"first"})";
  const std::vector<std::pair<std::string, std::string>> attribute = {
      {"x-amzn-sagemaker-custom-attributes", "a=b; model_name=second;delay=0"}};
  EXPECT_TRUE(asks(first_, "/predictions/first", kHi));
  EXPECT_TRUE(asks(second_, "/models/second/invoke", kHi));
  EXPECT_TRUE(asks(second_, "/invocations?x=y&model_name=sec%6Fnd", in_body));
  EXPECT_TRUE(asks(second_, "/invocations", in_body, {{"model_name", "second"}}));
  EXPECT_TRUE(asks(second_, "/invocations", in_body, attribute));
  EXPECT_TRUE(asks(first_, "/invocations", in_body));
  const Answer none = send("POST", "/invocations", kHi);
  EXPECT_EQ(none.status(), 400);
  EXPECT_EQ(none.json().at("type"), "BadRequestException");
  EXPECT_EQ(none.json().at("message"), "Parameter model_name is required.");
  EXPECT_EQ(testing::post(*alone_, "/invocations/", kHi).status(), 200);
}

TEST_F(ServiceTest, Methods) {
  EXPECT_EQ(send("OPTIONS", "/").body, "{}\n");
  EXPECT_EQ(send("OPTIONS", "/predictions/first").body, "{}\n");
  EXPECT_EQ(send("OPTIONS", "/predictions/x").status(), 404);
  EXPECT_EQ(send("PUT", "/predictions/first", kHi).status(), 200);
  EXPECT_EQ(send("HEAD", "/ping").status(), 200);
  Answer answer = send("POST", "/ping");
  EXPECT_EQ(answer.status(), 405);
  EXPECT_EQ(answer.header("Allow"), "GET, HEAD");
  EXPECT_EQ(answer.json().at("message"), "Requested method is not allowed, please refer to API document.");
  answer = send("GET", "/v1/chat/completions");
  EXPECT_EQ(answer.status(), 405);
  EXPECT_EQ(answer.header("Allow"), "POST");
  EXPECT_TRUE(answer.json().at("error").is_object());
  EXPECT_EQ(send("POST", "/models/noop").status(), 405);
}

TEST_F(ServiceTest, WhatABodyMayBe) {
  const auto status = [&](const std::string& type, const std::string& body) {
    return testing::post(*alone_, "/invocations", body, {{"content-type", type}}).status();
  };
  EXPECT_EQ(status("application/json; charset=utf-8", kHi), 200);
  EXPECT_EQ(status("application/x-www-form-urlencoded", kHi), 200);  // curl -d
  EXPECT_EQ(status("text/plain", kHi), 200);
  EXPECT_EQ(status("text/plain", "hello"), 415);
  EXPECT_EQ(status("application/json", "hello"), 424);
  const Answer refused = testing::post(*alone_, "/invocations", "a,b", {{"content-type", "Text/CSV"}});
  EXPECT_THAT(refused.body, HasSubstr("'text/csv' is not supported: send a JSON object as application/json"));
}

TEST_F(ServiceTest, HostileBodies) {
  const auto body_of = [&](const std::string& body) { return testing::post(*alone_, "/invocations", body); };
  EXPECT_EQ(body_of(R"({"inputs":)" + std::string(100, '[') + std::string(100, ']') + "}").status(), 424);
  std::string many = R"({"inputs":"Hi","x":[0)";
  for (int i = 0; i < 2'000'000; ++i) many += ",0";
  const Answer refused = body_of(many + "]}");
  EXPECT_EQ(refused.status(), 424);
  EXPECT_THAT(refused.body, HasSubstr("at most 2000000"));
  // Separators in a text are not values.
  std::string text = R"({"inputs":"Hi","x":")";
  for (int i = 0; i < 2'000'000; ++i) text += i % 2 == 0 ? "," : "\\\"";
  EXPECT_EQ(body_of(text + "\"}").status(), 200);
  EXPECT_EQ(body_of("{\"inputs\":\"\xFF\"}").status(), 424);
}

TEST_F(ServiceTest, WhatWouldBeMissedInTheAnswerIsRefused) {
  const auto status = [&](std::vector<std::pair<std::string, std::string>> headers,
                          std::string path = "/invocations") {
    return testing::post(*alone_, std::move(path), kHi, std::move(headers)).status();
  };
  EXPECT_EQ(status({{"handler", "register_adapter"}}), 400);
  EXPECT_EQ(status({{"x-amzn-sagemaker-custom-attributes", "handler=x"}}), 400);
  EXPECT_EQ(status({{"x-synchronous", "false"}}), 400);
  EXPECT_EQ(status({{"x-starting-token", "abc"}}), 400);
  EXPECT_EQ(status({{"x-amzn-sagemaker-adapter-identifier", "x"}}), 424);
  EXPECT_EQ(status({}, "/invocations?adapter=x"), 424);
  EXPECT_EQ(status({{"x-synchronous", "true"}, {"x-priority", "1"}}), 200);
}

TEST_F(ServiceTest, ModelsThatTakeNothingNow) {
  first_.refusal =
      core::Error(core::ErrorKind::kOverloaded, "Worker queue capacity exceeded for model: first");
  Answer answer = testing::post(*alone_, "/invocations", kHi);
  EXPECT_EQ(answer.status(), 503);
  EXPECT_EQ(answer.json().at("type"), "WlmCapacityException");
  EXPECT_EQ(answer.json().at("message"), "Worker queue capacity exceeded for model: first");
  EXPECT_NE(answer.header("Retry-After"), "");
  first_.state.state = ModelState::kLoading;
  answer = testing::post(*alone_, "/invocations", kHi);
  EXPECT_EQ(answer.status(), 503);
  EXPECT_EQ(answer.json().at("message"), "Model is not ready: first");
}

TEST_F(ServiceTest, OpenAiModels) {
  const auto list = send("GET", "/v1/models").json();
  EXPECT_EQ(list.at("object"), "list");
  ASSERT_EQ(list.at("data").as_array().size(), 2u);
  EXPECT_EQ(list.at("data").at(1).at("id"), "second");
  EXPECT_EQ(list.at("data").at(1).at("object"), "model");
  EXPECT_TRUE(list.at("data").at(1).at("created").is_int64());
  EXPECT_EQ(send("GET", "/v1/models/first").json().at("id"), "first");
  const Answer unknown = send("GET", "/v1/models/x/y");
  EXPECT_EQ(unknown.status(), 404);
  EXPECT_EQ(unknown.json().at("error").at("code"), "model_not_found");
  EXPECT_THAT(unknown.body, HasSubstr("'x/y' does not exist; this server has first, second"));
}

TEST_F(ServiceTest, OpenAiRoutesSpeakOpenAi) {
  const auto error = [&](const std::string& path, const std::string& body, int status) {
    const Answer answer = send("POST", path, body);
    EXPECT_EQ(answer.status(), status) << body;
    const auto json = answer.json();
    EXPECT_TRUE(json.at("error").at("message").is_string());
    EXPECT_TRUE(json.at("error").at("type").is_string());
    return json.at("error");
  };
  EXPECT_EQ(error("/v1/completions", R"({"prompt":"a","model":"x"})", 404).at("code"), "model_not_found");
  EXPECT_EQ(error("/v1/completions", R"({"prompt":"a"})", 400).at("param"), "model");
  EXPECT_EQ(error("/v1/completions", R"({"prompt":"a","model":7})", 400).at("param"), "model");
  error("/v1/completions", "", 400);
  error("/v1/chat/completions", "[]", 400);
  error("/v1/nothing", "", 404);
  // LMI has the path of chat as another name of /invocations.
  EXPECT_TRUE(
      testing::post(*alone_, "/v1/chat/completions", kHi).json().as_object().contains("generated_text"));
}

TEST_F(ServiceTest, RefusalsOfTheListener) {
  Head head;
  std::string body;
  service_->refuse(431, "The headers are larger than 65536 bytes", head, body);
  EXPECT_EQ(head.status, 431);
  EXPECT_EQ(boost::json::parse(body).at("message"), "The headers are larger than 65536 bytes");
  Head large;
  body.clear();
  service_->refuse(413, "x", large, body);
  EXPECT_EQ(large.status, 413);
  EXPECT_EQ(body, "");
  Head busy;
  service_->refuse(503, "There are 10000 connections", busy, body);
  EXPECT_EQ(boost::json::parse(body).at("code"), 503);
}

TEST(Router, QueryStrings) {
  const auto values = parse_query("a=b+c&d=%41%zz%4&&=x&e&f==g");
  ASSERT_EQ(values.size(), 4u);
  EXPECT_EQ(values[0].value, "b c");
  EXPECT_EQ(values[1].value, "A%zz%4");
  EXPECT_EQ(values[2].name, "e");
  EXPECT_EQ(values[2].value, "");
  EXPECT_EQ(values[3].value, "=g");
}

}  // namespace
}  // namespace peregrine::api
