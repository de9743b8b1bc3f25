// SPDX-License-Identifier: Apache-2.0
#include "openai_fixture.h"

#include <boost/json/parse.hpp>
#include <utility>

namespace peregrine::api {
namespace {

/// Cuts a body into its events, and checks what is around them.
std::vector<std::string> cut(const std::string& body, bool server_sent_events) {
  const std::string begin = server_sent_events ? "data: " : "";
  const std::string end = server_sent_events ? "\n\n" : "\n";
  std::vector<std::string> out;
  for (std::size_t at = 0; at < body.size();) {
    EXPECT_EQ(body.compare(at, begin.size(), begin), 0) << body.substr(at, 80);
    at += begin.size();
    const std::size_t stop = body.find(end, at);
    if (stop == std::string::npos) {
      ADD_FAILURE() << "an event has no end: " << body.substr(at, 80);
      break;
    }
    out.push_back(body.substr(at, stop - at));
    EXPECT_EQ(out.back().find('\n'), std::string::npos) << out.back();
    at = stop + end.size();
  }
  return out;
}

}  // namespace

boost::json::value Answer::json() const { return boost::json::parse(body); }

std::vector<boost::json::object> Answer::chunks() const {
  std::vector<boost::json::object> out;
  for (const std::string& event : events) {
    if (event != "[DONE]") out.push_back(boost::json::parse(event).as_object());
  }
  return out;
}

void OpenAiTest::SetUp() {
  PEREGRINE_REQUIRE_TEST_DATA("example-model/tokenizer.json");
  model_ = std::make_unique<testing::FakeModel>("shakespeare", testing::test_data() / "example-model");
  served_ = load_text(*model_);
  ASSERT_NE(served_.chat_template, nullptr) << served_.chat_template_error;
  std::vector<std::int32_t> tokens = ids(kText);
  tokens.push_back(0);  // end of text
  answer_with(std::move(tokens));
}

GenerationPlan OpenAiTest::read(Route route, const boost::json::object& body, bool server_sent_events) const {
  const DialectContext context{"7c1e", 1'700'000'000, server_sent_events};
  return route == Route::kChat ? read_chat(body, served_, context) : read_completion(body, served_, context);
}

GenerationPlan OpenAiTest::completion(std::string_view body) const {
  return read(Route::kCompletions, boost::json::parse(body).as_object());
}

GenerationPlan OpenAiTest::chat(std::string_view body) const {
  return read(Route::kChat, boost::json::parse(body).as_object());
}

Answer OpenAiTest::ask(Route route, std::string_view body, bool server_sent_events) const {
  GenerationPlan plan = read(route, boost::json::parse(body).as_object(), server_sent_events);
  const bool streaming = plan.streaming;
  const auto exchange =
      start_generation(served_, std::move(plan), "7c1e", std::make_shared<RequestLog>(), [] {});
  Answer answer;
  // The model gives a token at least with each call.
  for (int i = 0; i < 10'000; ++i) {
    if (exchange->next(answer.head, answer.body) != Exchange::State::kDone) continue;
    if (streaming && answer.head.status == 200) answer.events = cut(answer.body, server_sent_events);
    return answer;
  }
  ADD_FAILURE() << "the answer has no end";
  return answer;
}

std::string OpenAiTest::refused_field(Route route, std::string_view body) const {
  try {
    read(route, boost::json::parse(body).as_object());
  } catch (const FieldError& error) {
    EXPECT_EQ(http_status(error), 400) << body;
    EXPECT_NE(std::string(error.what()).find(error.field().substr(0, error.field().find_first_of(".["))),
              std::string::npos)
        << "the message must name the field " << error.field() << ": " << error.what();
    return error.field();
  } catch (const core::Error& error) {
    return "(none)";
  }
  return "";
}

std::string OpenAiTest::refusal(Route route, std::string_view body) const {
  try {
    read(route, boost::json::parse(body).as_object());
  } catch (const core::Error& error) {
    return error.what();
  }
  return "";
}

void OpenAiTest::answer_with(std::vector<std::int32_t> tokens, generation::FinishReason finish) {
  model_->answer = [tokens = std::move(tokens), finish](const serving::GenerationRequest&, std::int32_t) {
    return testing::FakeSequence{tokens, finish, ""};
  };
}

std::vector<std::int32_t> OpenAiTest::ids(std::string_view text) const {
  return served_.tokenizer->encode(text, {.add_special_tokens = false, .parse_special = false});
}

}  // namespace peregrine::api
