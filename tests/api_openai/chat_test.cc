// SPDX-License-Identifier: Apache-2.0
// What a chat request is read as, and what it is refused for.
#include <gmock/gmock.h>

#include <boost/json/serialize.hpp>

#include "openai_fixture.h"
#include "text/model_template.h"

namespace peregrine::api {
namespace {

class ChatTest : public OpenAiTest {
 protected:
  std::string refused(std::string_view messages, std::string_view more = "") const {
    return refused_field(Route::kChat, body(messages, more));
  }
  std::string refused_with(std::string_view member) const { return refused(kHello, member); }

  /// The text of the prompt that the template made.
  std::string prompt(std::string_view messages, std::string_view more = "") const {
    return served_.tokenizer->decode(chat(body(messages, more)).prompts.at(0), false);
  }
  generation::Parameters parameters(std::string_view member) const {
    return chat(body(kHello, member)).parameters;
  }

  void use_template(std::string_view source) {
    std::map<std::string, std::shared_ptr<const text::ChatTemplate>, std::less<>> templates;
    templates["default"] = text::ChatTemplate::parse(source, "test");
    served_.chat_template =
        std::make_shared<text::ModelTemplate>(std::move(templates), boost::json::object());
  }

  static constexpr std::string_view kHello = R"([{"role":"user","content":"Hello"}])";

  static std::string body(std::string_view messages, std::string_view more) {
    return R"({"messages":)" + std::string(messages) + (more.empty() ? "" : ",") + std::string(more) + "}";
  }
};

TEST_F(ChatTest, TheTemplateMakesThePrompt) {
  EXPECT_EQ(prompt(kHello), "JULIET:\nHello\n\nROMEO:\n");
  EXPECT_EQ(
      prompt(R"([{"role":"system","content":"Be brief."},{"role":"user","content":"Hello","name":"Nurse"},)"
             R"({"role":"assistant","content":"Ay"},{"role":"anything","content":"x"}])"),
      "JULIET:\nBe brief.\n\nNURSE:\nHello\n\nROMEO:\nAy\n\nJULIET:\nx\n\nROMEO:\n");
  // A null is no name.
  EXPECT_EQ(prompt(R"([{"role":"user","content":"Hello","name":null}])"), "JULIET:\nHello\n\nROMEO:\n");
  EXPECT_EQ(prompt(kHello, R"("add_generation_prompt":false)"), "JULIET:\nHello\n\n");
  const std::string begun =
      R"([{"role":"user","content":"Hello"},{"role":"assistant","content":"O gentle"}])";
  EXPECT_EQ(prompt(begun, R"("continue_final_message":true)"), "JULIET:\nHello\n\nROMEO:\nO gentle");
  EXPECT_EQ(refused(begun, R"("continue_final_message":true,"add_generation_prompt":true)"),
            "continue_final_message");
}

TEST_F(ChatTest, PartsAreJoined) {
  EXPECT_EQ(
      prompt(R"([{"role":"user","content":[{"type":"text","text":"He"},{"type":"text","text":"llo"}]}])"),
      "JULIET:\nHe\nllo\n\nROMEO:\n");
  EXPECT_EQ(prompt(R"([{"role":"user","content":[]}])"), "JULIET:\n\n\nROMEO:\n");
  EXPECT_EQ(prompt(R"([{"role":"assistant","content":null}])"), "ROMEO:\n\n\nROMEO:\n");
}

TEST_F(ChatTest, Messages) {
  EXPECT_EQ(refused_field(Route::kChat, "{}"), "messages");
  for (const char* messages : {"null", "5", "{}", "[]", R"("Hello")"})
    EXPECT_EQ(refused(messages), "messages");
  EXPECT_EQ(refused("[5]"), "messages[0]");
  EXPECT_EQ(refused("[null]"), "messages[0]");
  EXPECT_EQ(refused("[{}]"), "messages[0].role");
  EXPECT_EQ(refused(R"([{"role":5,"content":"a"}])"), "messages[0].role");
  EXPECT_EQ(refused(R"([{"role":"","content":"a"}])"), "messages[0].role");
  EXPECT_EQ(refused(R"([{"role":"user"}])"), "messages[0].content");
  EXPECT_EQ(refused(R"([{"role":"user","content":null}])"), "messages[0].content");
  EXPECT_EQ(refused(R"([{"role":"user","content":"a"},{"role":"user","content":5}])"), "messages[1].content");
  EXPECT_EQ(refused(R"([{"role":"user","content":{}}])"), "messages[0].content");
  EXPECT_EQ(refused(R"([{"role":"user","content":"a","name":5}])"), "messages[0].name");
  EXPECT_EQ(refused(R"([{"role":"user","content":["a"]}])"), "messages[0].content[0]");
  EXPECT_EQ(refused(R"([{"role":"user","content":[{"text":"a"}]}])"), "messages[0].content[0].type");
  EXPECT_EQ(refused(R"([{"role":"user","content":[{"type":"text"}]}])"), "messages[0].content[0].text");
  EXPECT_EQ(refused(R"([{"role":"user","content":[{"type":"text","text":5}]}])"),
            "messages[0].content[0].text");
  const std::string image =
      R"([{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"x"}}]}])";
  EXPECT_EQ(refused(image), "messages[0].content[1].type");
  EXPECT_NE(refusal(Route::kChat, body(image, "")).find("'image_url' is not supported"), std::string::npos)
      << refusal(Route::kChat, body(image, ""));
}

TEST_F(ChatTest, ToolCallsOfEarlierAnswers) {
  const auto call = [](const std::string& arguments) {
    return R"([{"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":)"
           R"({"name":"f","arguments":)" +
           arguments + R"(}}]},{"role":"tool","content":"4","tool_call_id":"1"}])";
  };
  EXPECT_EQ(refused(call(R"("{\"a\": 1}")")), "");
  EXPECT_EQ(refused(call(R"({"a":1})")), "");
  EXPECT_EQ(refused(call(R"("")")), "");
  EXPECT_EQ(refused(call("null")), "");
  const std::string field = "messages[0].tool_calls[0].function.arguments";
  EXPECT_EQ(refused(call(R"("{\"a\": ")")), field);
  EXPECT_EQ(refused(call(R"("[1]")")), field);
  EXPECT_EQ(refused(call("5")), field);
  EXPECT_EQ(refused(R"([{"role":"assistant","tool_calls":5}])"), "messages[0].tool_calls");
  EXPECT_EQ(refused(R"([{"role":"assistant","tool_calls":[5]}])"), "messages[0].tool_calls[0]");
  EXPECT_EQ(refused(R"([{"role":"assistant","tool_calls":[{}]}])"), "messages[0].tool_calls[0].function");
}

TEST_F(ChatTest, MaxTokens) {
  const auto room = static_cast<std::int32_t>(1024 - ids("JULIET:\nHello\n\nROMEO:\n").size());
  EXPECT_EQ(chat(body(kHello, "")).parameters.max_new_tokens, room);
  EXPECT_EQ(parameters(R"("max_tokens":7)").max_new_tokens, 7);
  EXPECT_EQ(parameters(R"("max_completion_tokens":8)").max_new_tokens, 8);
  EXPECT_EQ(parameters(R"("max_tokens":8,"max_completion_tokens":8)").max_new_tokens, 8);
  EXPECT_EQ(refused_with(R"("max_tokens":7,"max_completion_tokens":8)"), "max_completion_tokens");
  EXPECT_EQ(refused_with(R"("max_tokens":1024)"), "max_tokens");
  EXPECT_EQ(refused_with(R"("max_completion_tokens":1024)"), "max_completion_tokens");
  EXPECT_EQ(refused_with(R"("max_completion_tokens":0)"), "max_completion_tokens");
}

TEST_F(ChatTest, APromptBeyondTheContextIsRefused) {
  std::string words;
  for (int i = 0; i < 1500; ++i) words += "Romeo ";
  const std::string messages = R"([{"role":"user","content":")" + words + "\"}]";
  EXPECT_EQ(refused(messages), "messages");
  EXPECT_EQ(chat(body(messages, R"("truncate_prompt_tokens":100)")).prompts[0].size(), 100u);
  EXPECT_EQ(chat(body(messages, R"("truncate_prompt_tokens":-1,"max_tokens":24)")).prompts[0].size(), 1000u);
}

TEST_F(ChatTest, SamplingAndLogProbs) {
  EXPECT_TRUE(parameters("\"user\":\"me\"").do_sample);
  EXPECT_FALSE(parameters(R"("temperature":0.0)").do_sample);
  EXPECT_EQ(parameters(R"("logprobs":true)").top_n_tokens, 0);
  EXPECT_TRUE(chat(body(kHello, R"("logprobs":true)")).keep_tokens);
  EXPECT_EQ(parameters(R"("logprobs":true,"top_logprobs":20)").top_n_tokens, 20);
  EXPECT_EQ(parameters(R"("logprobs":false,"top_logprobs":0)").top_n_tokens, 0);
  EXPECT_FALSE(chat(body(kHello, R"("logprobs":false)")).keep_tokens);
  EXPECT_EQ(refused_with(R"("top_logprobs":2)"), "top_logprobs");
  EXPECT_EQ(refused_with(R"("logprobs":true,"top_logprobs":21)"), "top_logprobs");
  EXPECT_EQ(refused_with(R"("logprobs":5)"), "logprobs");
}

TEST_F(ChatTest, Tools) {
  const std::string tools = R"("tools":[{"type":"function","function":{"name":"f","parameters":{}}}])";
  EXPECT_EQ(refused_with(tools), "tools");
  EXPECT_EQ(refused_with(tools + R"(,"tool_choice":"auto")"), "tools");
  EXPECT_EQ(refused_with(tools + R"(,"tool_choice":"required")"), "tool_choice");
  EXPECT_EQ(refused_with(tools + R"(,"tool_choice":{"type":"function","function":{"name":"f"}})"),
            "tool_choice");
  EXPECT_EQ(refused_with(tools + R"(,"tool_choice":"none")"), "");
  EXPECT_EQ(refused_with(R"("tools":[],"tool_choice":"auto")"), "");
  EXPECT_EQ(refused_with(R"("tools":null,"tool_choice":null)"), "");
  EXPECT_EQ(refused_with(R"("tool_choice":"none")"), "");
  EXPECT_EQ(refused_with(R"("tool_choice":"maybe")"), "tool_choice");
  EXPECT_EQ(refused_with(R"("tools":[5],"tool_choice":"none")"), "tools[0]");
  EXPECT_EQ(refused_with(R"("tools":[{"type":"function"}],"tool_choice":"none")"), "tools[0].function.name");
  EXPECT_EQ(refused_with(R"("functions":[{"name":"f"}])"), "functions");
  EXPECT_EQ(refused_with(R"("functions":[],"function_call":"none")"), "");
  EXPECT_EQ(refused_with(R"("function_call":{"name":"f"})"), "function_call");
}

TEST_F(ChatTest, UnsupportedIsRefused) {
  EXPECT_EQ(refused_with(R"("chat_template":"{{ messages }}")"), "chat_template");
  EXPECT_EQ(refused_with(R"("chat_template":null)"), "");
  EXPECT_EQ(refused_with(R"("chat_template_kwargs":5)"), "chat_template_kwargs");
  EXPECT_EQ(refused_with(R"("chat_template_kwargs":{"enable_thinking":false})"), "");
  EXPECT_EQ(refused_with(R"("modalities":["text"])"), "");
  EXPECT_EQ(refused_with(R"("modalities":["text","audio"])"), "modalities[1]");
  EXPECT_EQ(refused_with(R"("audio":{"voice":"x"})"), "audio");
  EXPECT_EQ(refused_with(R"("echo":true)"), "echo");
  EXPECT_EQ(refused_with(R"("response_format":{"type":"json_schema","json_schema":{}})"), "response_format");
  EXPECT_EQ(refused_with(R"("response_format":{"type":"text"},"parallel_tool_calls":true,)"
                         R"("reasoning_effort":"low","store":false,"metadata":{},"service_tier":"auto")"),
            "");
}

TEST_F(ChatTest, TheTemplateSeesWhatTheRequestSays) {
  const std::string tools =
      R"("tools":[{"type":"function","function":{"name":"weather"}}],"tool_choice":"none")";
  use_template("{% if tools %}{{ tools[0].function.name }}{% else %}no tools{% endif %}");
  EXPECT_EQ(prompt(kHello, tools), "weather");
  EXPECT_EQ(prompt(kHello), "no tools");
  use_template("{{ 'thinks' if enable_thinking else 'answers' }}");
  EXPECT_EQ(prompt(kHello, R"("chat_template_kwargs":{"enable_thinking":true})"), "thinks");
  EXPECT_EQ(prompt(kHello, R"("chat_template_kwargs":{"enable_thinking":false})"), "answers");
  use_template("{{ documents[0].title }}");
  EXPECT_EQ(prompt(kHello, R"("documents":[{"title":"Verona"}])"), "Verona");
  // The arguments of a call come as a string and are an object for the template.
  use_template("{{ messages[0].tool_calls[0].function.arguments.city }},{{ messages[0].content == '' }}");
  EXPECT_EQ(prompt(R"([{"role":"assistant","content":null,"tool_calls":[{"function":{"name":"weather",)"
                   R"("arguments":"{\"city\": \"Verona\"}"}}]}])"),
            "Verona,True");
  use_template("{{ 'calls' if messages[0].tool_calls is defined else 'none' }}");
  EXPECT_EQ(prompt(R"([{"role":"assistant","content":"a","tool_calls":[]}])"), "none");
}

TEST_F(ChatTest, SpecialTokensOfTheTemplateAreTokens) {
  use_template("<|endoftext|>{{ messages[0].content }}");
  const auto tokens = chat(body(kHello, "")).prompts.at(0);
  ASSERT_FALSE(tokens.empty());
  EXPECT_EQ(tokens[0], 0);
  EXPECT_EQ(served_.tokenizer->decode(tokens, true), "Hello");
}

TEST_F(ChatTest, TheTemplateCanRefuse) {
  use_template("{{ raise_exception('Only user and assistant roles are supported!') }}");
  EXPECT_EQ(refused_with(R"("n":1)"), "messages");
  EXPECT_NE(refusal(Route::kChat, body(kHello, "")).find("Only user and assistant roles are supported!"),
            std::string::npos);
}

TEST_F(ChatTest, AModelWithoutTemplateTakesNoMessages) {
  served_.chat_template = nullptr;
  served_.chat_template_error = "model shakespeare has no chat template, so it takes no messages";
  EXPECT_EQ(refused_with(R"("n":1)"), "messages");
  EXPECT_EQ(refusal(Route::kChat, body(kHello, "")), served_.chat_template_error);
}

}  // namespace
}  // namespace peregrine::api
