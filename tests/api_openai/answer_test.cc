// SPDX-License-Identifier: Apache-2.0
// The answers: whole and streamed, as JSON.
#include <gmock/gmock.h>

#include <boost/json/serialize.hpp>

#include "openai_fixture.h"

namespace peregrine::api {
namespace {

using boost::json::object;
using boost::json::value;
using ::testing::ElementsAre;

std::vector<std::string> keys(const object& json) {
  std::vector<std::string> out;
  for (const auto& member : json) out.emplace_back(member.key());
  return out;
}

std::string text_of(const value& json) { return std::string(json.as_string()); }

/// Checks everything of a chunk or answer but its choices and usage.
void expect_frame(const object& json, std::string_view id, std::string_view type) {
  EXPECT_EQ(json.at("id"), value(id));
  EXPECT_EQ(json.at("object"), value(type));
  EXPECT_EQ(json.at("created"), value(1'700'000'000));
  EXPECT_EQ(json.at("model"), value("shakespeare"));
}

void expect_usage(const value& usage, std::size_t prompt, std::size_t generated) {
  EXPECT_EQ(usage, value({{"prompt_tokens", prompt},
                          {"completion_tokens", generated},
                          {"total_tokens", prompt + generated}}));
}

TEST_F(OpenAiTest, WholeCompletion) {
  const Answer answer = ask(Route::kCompletions, R"({"prompt":"ROMEO:","max_tokens":100})");
  EXPECT_EQ(answer.head.status, 200);
  EXPECT_EQ(answer.head.content_type, "application/json");
  EXPECT_EQ(answer.body.back(), '\n');
  const object json = answer.json().as_object();
  EXPECT_THAT(keys(json), ElementsAre("id", "object", "created", "model", "choices", "usage"));
  expect_frame(json, "cmpl-7c1e", "text_completion");
  EXPECT_EQ(json.at("choices"),
            value({{{"index", 0}, {"text", kText}, {"logprobs", nullptr}, {"finish_reason", "stop"}}}));
  expect_usage(json.at("usage"), 2, ids(kText).size() + 1);
}

TEST_F(OpenAiTest, WholeChat) {
  const Answer answer =
      ask(Route::kChat, R"({"messages":[{"role":"user","content":"Hello"}],"max_tokens":3})");
  EXPECT_EQ(answer.head.content_type, "application/json");
  const object json = answer.json().as_object();
  EXPECT_THAT(keys(json), ElementsAre("id", "object", "created", "model", "choices", "usage"));
  expect_frame(json, "chatcmpl-7c1e", "chat.completion");
  ASSERT_EQ(json.at("choices").as_array().size(), 1u);
  const object choice = json.at("choices").as_array()[0].as_object();
  EXPECT_THAT(keys(choice), ElementsAre("index", "message", "logprobs", "finish_reason"));
  EXPECT_EQ(choice.at("finish_reason"), value("length"));
  EXPECT_EQ(choice.at("logprobs"), value(nullptr));
  const auto tokens = ids(kText);
  EXPECT_EQ(choice.at("message"), value({{"role", "assistant"},
                                         {"content", served_.tokenizer->decode({tokens.data(), 3}, true)},
                                         {"refusal", nullptr}}));
  expect_usage(json.at("usage"), ids("JULIET:\nHello\n\nROMEO:\n").size(), 3);
}

TEST_F(OpenAiTest, StreamedCompletionIsTheWholeOne) {
  for (const bool events : {true, false}) {
    for (const std::size_t step : {1, 2, 7, 0}) {
      model_->tokens_per_take = step;
      const Answer answer =
          ask(Route::kCompletions, R"({"prompt":"ROMEO:","max_tokens":100,"stream":true})", events);
      EXPECT_EQ(answer.head.content_type,
                events ? "text/event-stream; charset=utf-8" : "application/jsonlines");
      ASSERT_FALSE(answer.events.empty());
      EXPECT_EQ(answer.events.back() == "[DONE]", events);
      std::string text;
      const auto chunks = answer.chunks();
      for (const object& chunk : chunks) {
        EXPECT_THAT(keys(chunk), ElementsAre("id", "object", "created", "model", "choices"));
        expect_frame(chunk, "cmpl-7c1e", "text_completion");
        const object& choice = chunk.at("choices").as_array().at(0).as_object();
        EXPECT_THAT(keys(choice), ElementsAre("index", "text", "logprobs", "finish_reason"));
        EXPECT_EQ(choice.at("finish_reason"), &chunk == &chunks.back() ? value("stop") : value(nullptr));
        text += choice.at("text").as_string();
      }
      EXPECT_EQ(text, kText);
    }
  }
}

TEST_F(OpenAiTest, StreamedChatIsTheWholeOne) {
  for (const std::size_t step : {1, 3, 0}) {
    model_->tokens_per_take = step;
    const Answer answer =
        ask(Route::kChat, R"({"messages":[{"role":"user","content":"Hello"}],"stream":true})");
    const auto chunks = answer.chunks();
    ASSERT_GE(chunks.size(), 3u);
    std::string text;
    for (std::size_t i = 0; i < chunks.size(); ++i) {
      expect_frame(chunks[i], "chatcmpl-7c1e", "chat.completion.chunk");
      const object& choice = chunks[i].at("choices").as_array().at(0).as_object();
      EXPECT_THAT(keys(choice), ElementsAre("index", "delta", "logprobs", "finish_reason"));
      const object& delta = choice.at("delta").as_object();
      if (i == 0) {
        EXPECT_EQ(delta, (object{{"role", "assistant"}, {"content", ""}}));
      } else if (i + 1 == chunks.size()) {
        EXPECT_TRUE(delta.empty());
      } else {
        EXPECT_THAT(keys(delta), ElementsAre("content"));
        text += delta.at("content").as_string();
      }
      EXPECT_EQ(choice.at("finish_reason"), i + 1 == chunks.size() ? value("stop") : value(nullptr));
    }
    EXPECT_EQ(text, kText);
    EXPECT_EQ(answer.events.back(), "[DONE]");
  }
}

TEST_F(OpenAiTest, UsageComesOnceAtTheEndOfAStream) {
  const std::string options =
      R"(,"max_tokens":4,"n":2,"stream":true,"stream_options":{"include_usage":true}})";
  for (const Route route : {Route::kCompletions, Route::kChat}) {
    const std::string body = (route == Route::kChat ? R"({"messages":[{"role":"user","content":"Hi"}])"
                                                    : R"({"prompt":"ROMEO:")") +
                             options;
    const Answer answer = ask(route, body);
    const auto chunks = answer.chunks();
    ASSERT_GE(chunks.size(), 2u);
    for (std::size_t i = 0; i + 1 < chunks.size(); ++i) EXPECT_EQ(chunks[i].at("usage"), value(nullptr));
    EXPECT_TRUE(chunks.back().at("choices").as_array().empty());
    const std::size_t prompt = route == Route::kChat ? ids("JULIET:\nHi\n\nROMEO:\n").size() : 2;
    expect_usage(chunks.back().at("usage"), prompt, 8);
  }
}

TEST_F(OpenAiTest, SeveralPromptsAndSequencesHaveTheirIndexes) {
  model_->answer = [this](const serving::GenerationRequest& request, std::int32_t index) {
    return testing::FakeSequence{
        ids(served_.tokenizer->decode(request.prompt_ids, true) + std::to_string(index)),
        generation::FinishReason::kLength, ""};
  };
  const std::vector<std::string> expected = {"ab0", "ab1", "cd0", "cd1"};
  const object whole = ask(Route::kCompletions, R"({"prompt":["ab","cd"],"n":2})").json().as_object();
  std::vector<std::string> texts;
  for (const value& choice : whole.at("choices").as_array()) {
    EXPECT_EQ(choice.at("index"), value(texts.size()));
    EXPECT_EQ(choice.at("finish_reason"), value("length"));
    texts.push_back(text_of(choice.at("text")));
  }
  EXPECT_EQ(texts, expected);

  std::vector<std::string> streamed(4);
  for (const object& chunk :
       ask(Route::kCompletions, R"({"prompt":["ab","cd"],"n":2,"stream":true})").chunks()) {
    const value& choice = chunk.at("choices").as_array().at(0);
    streamed.at(choice.at("index").to_number<std::size_t>()) += choice.at("text").as_string();
  }
  EXPECT_EQ(streamed, expected);

  streamed.assign(2, "");
  std::vector<int> roles(2);
  const std::string body = R"({"messages":[{"role":"user","content":"x"}],"n":2,"stream":true})";
  for (const object& chunk : ask(Route::kChat, body).chunks()) {
    const value& choice = chunk.at("choices").as_array().at(0);
    const auto index = choice.at("index").to_number<std::size_t>();
    const object& delta = choice.at("delta").as_object();
    if (delta.contains("role")) ++roles.at(index);
    if (delta.contains("content")) streamed.at(index) += delta.at("content").as_string();
  }
  EXPECT_THAT(roles, ElementsAre(1, 1));
  EXPECT_THAT(streamed, ElementsAre("JULIET:\nx\n\nROMEO:\n0", "JULIET:\nx\n\nROMEO:\n1"));
}

TEST_F(OpenAiTest, EchoPutsThePromptInFront) {
  const std::string prompts = R"({"prompt":["ab","cd"],"echo":true,"n":2,"max_tokens":2)";
  const auto tokens = ids(kText);
  const std::string text = served_.tokenizer->decode({tokens.data(), 2}, true);
  const std::vector<std::string> expected = {"ab" + text, "ab" + text, "cd" + text, "cd" + text};
  std::vector<std::string> whole;
  const value answer = ask(Route::kCompletions, prompts + "}").json();
  for (const value& choice : answer.at("choices").as_array()) whole.push_back(text_of(choice.at("text")));
  EXPECT_EQ(whole, expected);
  std::vector<std::string> streamed(4);
  for (const object& chunk : ask(Route::kCompletions, prompts + R"(,"stream":true})").chunks()) {
    const value& choice = chunk.at("choices").as_array().at(0);
    streamed.at(choice.at("index").to_number<std::size_t>()) += choice.at("text").as_string();
  }
  EXPECT_EQ(streamed, expected);
  // Of token ids their text.
  const std::string body = R"({"prompt":[859,26],"echo":true,"max_tokens":2})";
  EXPECT_EQ(ask(Route::kCompletions, body).json().at("choices").as_array()[0].at("text"),
            value("ROMEO:" + text));
}

TEST_F(OpenAiTest, CompletionLogProbs) {
  const auto tokens = ids(kText);
  const value whole = ask(Route::kCompletions, R"({"prompt":"ROMEO:","max_tokens":100,"logprobs":2})").json();
  const object log_probs = whole.at("choices").as_array()[0].at("logprobs").as_object();
  EXPECT_THAT(keys(log_probs), ElementsAre("tokens", "token_logprobs", "top_logprobs", "text_offset"));
  const std::size_t count = tokens.size() + 1;
  for (const auto& list : log_probs) ASSERT_EQ(list.value().as_array().size(), count) << list.key();

  const auto offset = [&](std::size_t i) { return log_probs.at("text_offset").as_array()[i].as_int64(); };
  std::size_t position = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const std::int32_t id = i < tokens.size() ? tokens[i] : 0;
    const std::string name = served_.tokenizer->decode({&id, 1}, false);
    EXPECT_EQ(log_probs.at("tokens").as_array()[i], value(name));
    const double expected = testing::FakeModel::fake_log_prob(i);
    EXPECT_EQ(log_probs.at("token_logprobs").as_array()[i].to_number<double>(), expected);
    const object& top = log_probs.at("top_logprobs").as_array()[i].as_object();
    EXPECT_EQ(top.at(name).to_number<double>(), expected);
    EXPECT_LE(top.size(), 2u);
    EXPECT_GE(offset(i), static_cast<std::int64_t>(position));
    position = static_cast<std::size_t>(offset(i));
  }
  EXPECT_EQ(offset(0), 0);
  // Offsets count code points: of "O Romeo, Romeo! wherefore art thou Romeo? — café 🎭." there are 51.
  EXPECT_EQ(offset(count - 1), 51);
  EXPECT_EQ(log_probs.at("tokens").as_array()[count - 1], value("<|endoftext|>"));

  // Streamed, the lists of all chunks together are the same.
  for (const std::size_t step : {1, 3, 0}) {
    model_->tokens_per_take = step;
    object joined;
    const std::string body = R"({"prompt":"ROMEO:","max_tokens":100,"logprobs":2,"stream":true})";
    for (const object& chunk : ask(Route::kCompletions, body).chunks()) {
      for (const auto& list : chunk.at("choices").as_array().at(0).at("logprobs").as_object()) {
        value& all = joined[list.key()];
        if (all.is_null()) all.emplace_array();
        for (const value& item : list.value().as_array()) all.as_array().push_back(item);
      }
    }
    EXPECT_EQ(joined, log_probs);
  }
}

TEST_F(OpenAiTest, WithoutAlternativesTheTokenItselfIsReported) {
  const value whole = ask(Route::kCompletions, R"({"prompt":"ROMEO:","max_tokens":1,"logprobs":0})").json();
  const value& log_probs = whole.at("choices").as_array()[0].at("logprobs");
  EXPECT_EQ(log_probs.at("top_logprobs").as_array()[0], value({{"O", -0.25}}));
}

TEST_F(OpenAiTest, ChatLogProbs) {
  const auto tokens = ids(kText);
  const std::string body =
      R"({"messages":[{"role":"user","content":"Hi"}],"max_tokens":100,"logprobs":true,"top_logprobs":3)";
  const value whole = ask(Route::kChat, body + "}").json();
  const auto& content = whole.at("choices").as_array()[0].at("logprobs").at("content").as_array();
  ASSERT_EQ(content.size(), tokens.size() + 1);
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const object& entry = content[i].as_object();
    EXPECT_THAT(keys(entry), ElementsAre("token", "logprob", "bytes", "top_logprobs"));
    const std::string name = served_.tokenizer->decode({&tokens[i], 1}, false);
    EXPECT_EQ(entry.at("token"), value(name));
    std::string bytes;
    for (const value& byte : entry.at("bytes").as_array()) bytes += static_cast<char>(byte.as_int64());
    EXPECT_EQ(bytes, name);
    ASSERT_EQ(entry.at("top_logprobs").as_array().size(), 3u);
    const object& best = entry.at("top_logprobs").as_array()[0].as_object();
    EXPECT_THAT(keys(best), ElementsAre("token", "logprob", "bytes"));
    EXPECT_EQ(best.at("token"), value(name));
    EXPECT_EQ(best.at("logprob"), entry.at("logprob"));
  }
  boost::json::array joined;
  for (const object& chunk : ask(Route::kChat, body + R"(,"stream":true})").chunks()) {
    const value& log_probs = chunk.at("choices").as_array().at(0).at("logprobs");
    if (log_probs.is_null()) continue;
    for (const value& item : log_probs.at("content").as_array()) joined.push_back(item);
  }
  EXPECT_EQ(joined, content);
}

TEST_F(OpenAiTest, StopStringsCutAcrossTokens) {
  for (const std::size_t step : {1, 4, 0}) {
    model_->tokens_per_take = step;
    for (const std::string_view stop : {"herefore a", "— c", "meo!", "🎭"}) {
      const std::string expected(kText.substr(0, kText.find(stop)));
      const std::string body =
          R"({"prompt":"ROMEO:","max_tokens":100,"logprobs":0,"stop":["zzz",")" + std::string(stop) + "\"]";
      const value whole = ask(Route::kCompletions, body + "}").json();
      const value& choice = whole.at("choices").as_array()[0];
      EXPECT_EQ(choice.at("text"), value(expected));
      EXPECT_EQ(choice.at("finish_reason"), value("stop"));
      // Nothing behind the cut is counted or named.
      EXPECT_EQ(whole.at("usage").at("completion_tokens"),
                value(choice.at("logprobs").at("tokens").as_array().size()));
      EXPECT_LT(choice.at("logprobs").at("tokens").as_array().size(), ids(kText).size());

      std::string text;
      for (const object& chunk : ask(Route::kCompletions, body + R"(,"stream":true})").chunks()) {
        text += chunk.at("choices").as_array().at(0).at("text").as_string();
      }
      EXPECT_EQ(text, expected);
    }
  }
  const std::string shown =
      R"({"prompt":"x","max_tokens":100,"stop":"herefore a","include_stop_str_in_output":true})";
  EXPECT_EQ(ask(Route::kCompletions, shown).json().at("choices").as_array()[0].at("text"),
            value("O Romeo, Romeo! wherefore a"));
}

TEST_F(OpenAiTest, SpecialTokensAreShownOnRequest) {
  const std::string body = R"({"prompt":"ROMEO:","max_tokens":100,"skip_special_tokens":false})";
  EXPECT_EQ(ask(Route::kCompletions, body).json().at("choices").as_array()[0].at("text"),
            value(std::string(kText) + "<|endoftext|>"));
}

TEST_F(OpenAiTest, AnAnswerCutWithinACharacterIsUtf8) {
  const auto tokens = ids("🎭");
  ASSERT_GT(tokens.size(), 1u);
  for (const bool stream : {false, true}) {
    const Answer answer =
        ask(Route::kCompletions, std::string(R"({"prompt":"x","max_tokens":1,"logprobs":1)") +
                                     (stream ? R"(,"stream":true})" : "}"));
    ASSERT_EQ(answer.head.status, 200);
  }
  answer_with(tokens);
  const value whole = ask(Route::kCompletions, R"({"prompt":"x","max_tokens":1,"logprobs":1})").json();
  const value& choice = whole.at("choices").as_array()[0];
  EXPECT_EQ(choice.at("text"), value("\uFFFD"));
  EXPECT_EQ(choice.at("logprobs").at("tokens").as_array().size(), 1u);
  expect_usage(whole.at("usage"), ids("x").size(), 1);
  model_->tokens_per_take = 1;
  const Answer streamed =
      ask(Route::kCompletions, R"({"prompt":"x","max_tokens":1,"logprobs":1,"stream":true})");
  std::string text;
  std::size_t named = 0;
  for (const object& chunk : streamed.chunks()) {
    const value& part = chunk.at("choices").as_array().at(0);
    text += part.at("text").as_string();
    named += part.at("logprobs").at("tokens").as_array().size();
  }
  EXPECT_EQ(text, "\uFFFD");
  EXPECT_EQ(named, 1u);
}

TEST_F(OpenAiTest, AnAnswerWithoutTokensHasAReason) {
  answer_with({0});
  EXPECT_EQ(ask(Route::kCompletions, R"({"prompt":"x"})").json().at("choices"),
            value({{{"index", 0}, {"text", ""}, {"logprobs", nullptr}, {"finish_reason", "stop"}}}));
  const auto chunks =
      ask(Route::kChat, R"({"messages":[{"role":"user","content":"x"}],"stream":true})").chunks();
  ASSERT_EQ(chunks.size(), 2u);
  EXPECT_EQ(chunks[1].at("choices").as_array()[0].at("finish_reason"), value("stop"));
}

TEST_F(OpenAiTest, FailuresAreErrorObjects) {
  model_->failure = core::Error(core::ErrorKind::kOverloaded, "the model was unloaded");
  const std::string chat = R"({"messages":[{"role":"user","content":"x"}])";
  const Answer early = ask(Route::kChat, chat + R"(,"stream":true})");
  EXPECT_EQ(early.head.status, 503);
  EXPECT_EQ(early.json().at("error").at("message"), value("the model was unloaded"));

  model_->failure_after = 4;
  EXPECT_EQ(ask(Route::kChat, chat + "}").head.status, 503);
  const Answer late = ask(Route::kChat, chat + R"(,"stream":true})");
  EXPECT_EQ(late.head.status, 200);
  ASSERT_GE(late.events.size(), 3u);
  EXPECT_EQ(late.events.back(), "[DONE]");
  const object error = late.chunks().back();
  EXPECT_THAT(keys(error), ElementsAre("error"));
  EXPECT_THAT(keys(error.at("error").as_object()), ElementsAre("message", "type", "param", "code"));
  EXPECT_EQ(error.at("error").at("message"), value("the model was unloaded"));

  const Answer lines = ask(Route::kChat, chat + R"(,"stream":true})", false);
  EXPECT_EQ(lines.events.back().rfind("{\"error\":", 0), 0u);
}

}  // namespace
}  // namespace peregrine::api
