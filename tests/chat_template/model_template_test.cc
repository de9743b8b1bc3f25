// SPDX-License-Identifier: Apache-2.0
// A model directory's templates and special tokens, and what a request adds.

#include "text/model_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "core/error.h"
#include "core/json.h"
#include "support/test_data.h"

namespace peregrine {
namespace {

namespace fs = std::filesystem;
using core::ErrorKind;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr const char* kConversation = R"({"messages": [{"role": "user", "content": "hi"}]})";

class ModelTemplates : public ::testing::Test {
 protected:
  void write(const fs::path& name, std::string_view text) {
    fs::create_directories((folder_.path() / name).parent_path());
    std::ofstream(folder_.path() / name, std::ios::binary) << text;
  }

  std::string render(std::string_view request = kConversation, std::string_view override_text = "") {
    const auto model = text::load_model_template(folder_.path(), override_text);
    if (!model) return "(none)";
    return model->render(core::parse_json(request, "request").as_object(), 0);
  }

  void expect_error(ErrorKind kind, const std::string& part, std::string_view request = kConversation,
                    std::string_view override_text = "") {
    try {
      ADD_FAILURE() << "no error but " << render(request, override_text);
    } catch (const core::Error& error) {
      EXPECT_EQ(error.kind(), kind) << error.what();
      EXPECT_THAT(error.what(), HasSubstr(part));
    }
  }

  const testing::TemporaryDirectory folder_;
};

TEST_F(ModelTemplates, TheExampleModel) {
  const auto model = text::load_model_template(fs::path(PEREGRINE_SOURCE_DIR) / "examples/shakespeare", "");
  ASSERT_TRUE(model);
  const auto request = core::parse_json(
      R"({"messages": [{"role": "user", "content": "Speak."}, {"role": "assistant", "content": "I do."},
                       {"role": "user", "name": "nurse", "content": "More."}]})",
      "request");
  EXPECT_EQ(model->render(request.as_object(), 0),
            "JULIET:\nSpeak.\n\nROMEO:\nI do.\n\nNURSE:\nMore.\n\nROMEO:\n");
  EXPECT_EQ(model->variables().at("bos_token").as_string(), "<|endoftext|>");
  EXPECT_FALSE(model->has_tool_template());
}

TEST_F(ModelTemplates, SourcesInTheirOrder) {
  EXPECT_EQ(render(), "(none)");
  write("tokenizer_config.json", R"({"chat_template": null})");
  EXPECT_EQ(render(), "(none)");
  write("tokenizer_config.json",
        R"({"chat_template": "config {{ bos_token }}{{ eos_token }}{{ pad_token is defined }}",
        "bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": false}, "pad_token": null})");
  EXPECT_EQ(render(), "config <s></s>False");
  write("special_tokens_map.json", R"({"bos_token": "other", "pad_token": {"content": "<pad>"}})");
  EXPECT_EQ(render(), "config <s></s>True");
  write("chat_template.jinja", "file {{ bos_token }}{{ pad_token }}");
  EXPECT_EQ(render(), "file <s><pad>");
  EXPECT_EQ(render(kConversation, "text {{ bos_token }}"), "text <s>");
  write("mine.txt", "mine");
  EXPECT_EQ(render(kConversation, "mine.txt"), "mine");
  write("a/{{x}}", "odd name");
  EXPECT_EQ(render(kConversation, "a/{{x}}"), "odd name");
}

TEST_F(ModelTemplates, ATemplateForTools) {
  const char* tools = R"({"messages": [], "tools": [{"type": "function"}]})";
  write("tokenizer_config.json", R"({"chat_template": [{"name": "default", "template": "plain"},
        {"name": "tool_use", "template": "tools {{ tools|length }}"}]})");
  EXPECT_EQ(render(), "plain");
  EXPECT_EQ(render(tools), "tools 1");
  EXPECT_EQ(render(R"({"messages": [], "tools": null})"), "plain");
  write("chat_template.jinja", "file");
  EXPECT_EQ(render(tools), "file");
  write("additional_chat_templates/tool_use.jinja", "file tools");
  EXPECT_EQ(render(tools), "file tools");
  EXPECT_EQ(render(), "file");
  fs::remove_all(folder_.path() / "additional_chat_templates");
  fs::remove(folder_.path() / "chat_template.jinja");
  write("tokenizer_config.json", R"({"chat_template": [{"name": "rag", "template": "x"}]})");
  expect_error(ErrorKind::kInvalidArgument, "only rag");
}

TEST_F(ModelTemplates, OverridesStayInside) {
  write("model/tokenizer_config.json", "{}");
  write("secret", "secret");
  const auto load = [&](const std::string& name) {
    return text::load_model_template(folder_.path() / "model", name);
  };
  for (const char* name : {"../secret", "x/../../secret", ".."}) {
    try {
      load(name);
      ADD_FAILURE() << name;
    } catch (const core::Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument);
      EXPECT_THAT(error.what(), AllOf(HasSubstr(name), HasSubstr("outside")));
    }
  }
  EXPECT_TRUE(load((folder_.path() / "secret").string()));
  EXPECT_THROW(load("nothing.jinja"), core::Error);
  EXPECT_THROW(load("/nowhere/nothing.jinja"), core::Error);
  EXPECT_THROW(load("{% if %}"), core::Error);
  expect_error(ErrorKind::kNotFound, "nothing.jinja", kConversation, "nothing.jinja");
}

TEST_F(ModelTemplates, DamagedFilesAreNamed) {
  write("tokenizer_config.json", "{");
  expect_error(ErrorKind::kInvalidArgument, "tokenizer_config.json");
  write("tokenizer_config.json", R"({"chat_template": 5})");
  expect_error(ErrorKind::kInvalidArgument, "'chat_template'");
  write("tokenizer_config.json", R"({"chat_template": [{"name": "default"}]})");
  expect_error(ErrorKind::kInvalidArgument, "'template'");
  write("tokenizer_config.json", R"({"chat_template": "a\n{% if %}"})");
  expect_error(ErrorKind::kInvalidArgument, "tokenizer_config.json: 'chat_template': line 2, column 7");
  write("tokenizer_config.json", R"({"chat_template": "a", "bos_token": 5})");
  expect_error(ErrorKind::kInvalidArgument, "'bos_token'");
  write("tokenizer_config.json", "{}");
  write("chat_template.jinja", "{{ x.y }}");
  expect_error(ErrorKind::kInvalidArgument, "chat_template.jinja: line 1: 'x' is undefined");
  write("chat_template.jinja", "{% include 'x' %}");
  expect_error(ErrorKind::kUnsupported, "chat_template.jinja: line 1, column 4");
}

TEST_F(ModelTemplates, RequestsAreVariables) {
  write("chat_template.jinja",
        "{{ tools is defined }}{{ tools }}{{ documents }}{{ add_generation_prompt }}{{ x }}{{ y }}"
        "{{ continue_final_message is defined }}{{ chat_template_kwargs is defined }}{{ bos_token }}");
  write("tokenizer_config.json", R"({"bos_token": "<s>"})");
  EXPECT_EQ(render(), "TrueNoneNoneTrueFalseFalse<s>");
  EXPECT_EQ(render(R"({"messages": [], "add_generation_prompt": false, "x": 1, "chat_template_kwargs":
                       {"x": 2, "y": "z", "bos_token": "B"}, "documents": [1]})"),
            "TrueNone[1]False2zFalseFalseB");
  EXPECT_EQ(render(R"({"messages": [], "add_generation_prompt": null, "chat_template_kwargs": null})"),
            "TrueNoneNoneTrueFalseFalse<s>");
  expect_error(ErrorKind::kInvalidArgument, "'messages'", "{}");
  expect_error(ErrorKind::kInvalidArgument, "messages", R"({"messages": "hi"})");
  expect_error(ErrorKind::kInvalidArgument, "add_generation_prompt",
               R"({"messages": [], "add_generation_prompt": 1})");
  expect_error(ErrorKind::kInvalidArgument, "chat_template_kwargs",
               R"({"messages": [], "chat_template_kwargs": []})");
  expect_error(ErrorKind::kInvalidArgument, "messages",
               R"({"messages": [], "chat_template_kwargs": {"messages": []}})");
}

TEST_F(ModelTemplates, ThePromptMayEndInTheLastMessage) {
  const auto request = [](const std::string& content) {
    return R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": )" + content +
           R"(}], "continue_final_message": true})";
  };
  const char* plain =
      "{% for m in messages %}<{{ m.content }}>{% endfor %}{% if add_generation_prompt %}<{% endif %}";
  write("chat_template.jinja", plain);
  EXPECT_EQ(render(request(R"("an old a")")), "<a><an old a");
  EXPECT_EQ(render(request(R"("  end \n")")), "<a><  end \n");
  EXPECT_EQ(render(request(R"("")")), "<a><");
  EXPECT_EQ(render(request(R"("a")")), "<a><a");
  write("chat_template.jinja", "{% for m in messages %}<{{ m.content|trim }}>{% endfor %}");
  EXPECT_EQ(render(request(R"("  end \n")")), "<a><end");
  EXPECT_EQ(render(request(R"("  ")")), "<a><");
  write("chat_template.jinja",
        "{% for m in messages %}<{{ m.content if m.content is string else m.content[0].text }}>{% endfor %}");
  EXPECT_EQ(render(request(R"([{"type": "text", "text": "part"}])")), "<a><part");
  write("chat_template.jinja", "nothing of it");
  expect_error(ErrorKind::kInvalidArgument, "continue_final_message", request(R"("x")"));
  write("chat_template.jinja", plain);
  expect_error(ErrorKind::kInvalidArgument, "no text content", request("null"));
  expect_error(ErrorKind::kInvalidArgument, "no text content",
               R"({"messages": [], "continue_final_message": true})");
  expect_error(ErrorKind::kInvalidArgument, "only one way",
               R"({"messages": [], "continue_final_message": true, "add_generation_prompt": true})");
}

TEST_F(ModelTemplates, TimeIsLocal) {
  // A zone without daylight saving, written as POSIX has it: no zone files are needed.
  const char* before = std::getenv("TZ");
  const std::string zone = before != nullptr ? before : "";
  setenv("TZ", "XYZ-05:30", 1);
  tzset();
  write("chat_template.jinja", "{{ strftime_now('%Y-%m-%d %H:%M:%S|%z|%Z|%f') }}");
  EXPECT_EQ(render(), "1970-01-01 05:30:00|||000000");
  before != nullptr ? setenv("TZ", zone.c_str(), 1) : unsetenv("TZ");
  tzset();
}

}  // namespace
}  // namespace peregrine
