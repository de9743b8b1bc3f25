// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <fstream>
#include <functional>
#include <map>
#include <string>

#include "api/service.h"
#include "fake_model.h"
#include "support/test_data.h"

// The specification's cases that need no engine and no other fixture than one text model.

namespace peregrine::api {
namespace {

using configuration::OutputFormatter;
using testing::Answer;

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

std::string text_at(const boost::json::value& json, std::string_view key) {
  const auto* found = json.is_object() ? json.get_object().if_contains(key) : nullptr;
  return found != nullptr && found->is_string() ? std::string(found->get_string()) : std::string("(none)");
}

bool is_text(const Answer& answer) {
  const auto json = answer.json();
  return json.is_object() && json.get_object().contains("generated_text") &&
         json.at("generated_text").is_string();
}

bool streams_whole(const Answer& answer) {
  const auto lines = answer.lines();
  std::string text;
  for (const auto& line : lines) text += std::string(line.at("token").at("text").as_string());
  return answer.head.content_type == "application/jsonlines" && lines.size() <= 16 &&
         text_at(lines.back(), "generated_text") == text;
}

/// What "expect" says of a case, beside the status.
std::map<std::string, std::function<bool(const Answer&)>> checks() {
  const auto error_has = [](std::string part) {
    return [part](const Answer& a) {
      return contains(text_at(a.json(), "error"), part) && a.json().at("code") == a.status();
    };
  };
  const auto message_is = [](std::string text) {
    return [text](const Answer& a) {
      return text_at(a.json(), "message") == text && a.json().at("code") == a.status();
    };
  };
  const std::string no_method = "Requested method is not allowed, please refer to API document.";
  return {
      {"health-001",
       [](const Answer& a) {
         return a.head.content_type == "application/json" && a.header("x-request-id") != "" &&
                text_at(a.json().at("llm"), "status") == "Healthy";
       }},
      {"health-006", [](const Answer& a) { return a.header("x-request-id") == "abc-123"; }},
      {"route-001", [](const Answer& a) { return a.body == "{}\n"; }},
      {"route-003", message_is("Model or workflow not found: InvalidModel")},
      {"route-004", message_is("Requested resource is not found, please refer to API document.")},
      {"route-006", message_is("Model or workflow not found: InvalidModel")},
      {"route-008", message_is(no_method)},
      {"route-009", message_is(no_method)},
      {"route-011", [](const Answer&) { return true; }},
      {"route-018",
       [](const Answer& a) { return contains(text_at(a.json(), "message"), "Model or workflow not found"); }},
      {"limit-005", is_text},
      {"lmi-001", [](const Answer& a) { return is_text(a) && !a.json().get_object().contains("details"); }},
      {"lmi-003", streams_whole},
      {"lmi-005", [](const Answer& a) { return text_at(a.json(), "generated_text").starts_with("A"); }},
      {"lmi-006", is_text},
      {"lmi-008", error_has("must be a string")},
      {"lmi-010", error_has("'inputs'")},
      {"lmi-011", error_has("'parameters' must be provided as an object")},
      {"lmi-013", error_has("must contain prompt, inputs, or messages")},
      {"lmi-018", is_text},
      {"lmi-020",
       [](const Answer& a) {
         return a.head.content_type == "text/event-stream" && a.body.starts_with("data: {") &&
                !contains(a.body, "[DONE]");
       }},
      {"lmi-023", [](const Answer& a) { return a.head.content_type == "application/jsonlines"; }},
      {"lmi-026", is_text},
      {"lmi-028", [](const Answer& a) { return text_at(a.json(), "object") == "text_completion"; }},
      {"lmi-030", error_has("temperature")},
      {"chat-001",
       [](const Answer& a) {
         return text_at(a.json(), "object") == "chat.completion" &&
                text_at(a.json(), "id").starts_with("chatcmpl-");
       }},
      {"chat-003", [](const Answer& a) { return a.head.content_type == "application/jsonlines"; }},
      {"chat-005", error_has("temperature")},
      {"chat-008", error_has("image")},
  };
}

bool status_fits(const boost::json::value& expected, int status) {
  if (!expected.is_array()) return expected == status;
  return std::ranges::any_of(expected.get_array(), [&](const auto& one) { return one == status; });
}

HttpRequest request_of(const boost::json::object& json) {
  HttpRequest request;
  request.method = json.at("method").as_string();
  const std::string path(json.at("path").as_string());
  request.path = path.substr(0, path.find('?'));
  if (contains(path, "?")) request.query = path.substr(path.find('?') + 1);
  for (const auto& header : json.at("headers").as_object()) {
    std::string name(header.key());
    std::ranges::transform(name, name.begin(),
                           [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
    request.headers.emplace_back(name, std::string(header.value().as_string()));
  }
  const auto& body = json.at("body");
  if (body.is_object() && body.get_object().contains("$text")) {
    request.body = body.at("$text").as_string();
  } else if (!body.is_null()) {
    request.body = boost::json::serialize(body);
  }
  return request;
}

TEST(LmiCases, AreAnsweredAsTheSpecificationSays) {
  PEREGRINE_REQUIRE_TEST_DATA("lmi-cases.jsonl");
  const auto expected = checks();
  std::ifstream file(testing::test_data() / "lmi-cases.jsonl");
  std::size_t done = 0;
  for (std::string line; std::getline(file, line);) {
    const auto json = boost::json::parse(line).as_object();
    const std::string id(json.at("id").as_string());
    const auto check = expected.find(id);
    if (check == expected.end()) continue;
    ++done;
    testing::FakeModel model("llm");
    const std::string setup(json.at("setup").as_string());
    if (contains(setup, "output_formatter=sse")) model.model_options.output_formatter = OutputFormatter::kSse;
    if (contains(setup, "output_formatter=jsonlines"))
      model.model_options.output_formatter = OutputFormatter::kJsonLines;
    serving::Metrics metrics;
    const auto service = create_service({&model}, metrics);
    const Answer answer = testing::ask(*service, request_of(json));
    EXPECT_TRUE(status_fits(json.at("expect_status"), answer.status()))
        << id << ": " << answer.status() << " " << answer.body;
    EXPECT_TRUE(check->second(answer)) << id << ": " << answer.body;
  }
  EXPECT_EQ(done, expected.size());
}

}  // namespace
}  // namespace peregrine::api
