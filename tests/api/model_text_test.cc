// SPDX-License-Identifier: Apache-2.0
#include "api/model_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "api/service.h"
#include "fake_model.h"
#include "support/test_data.h"

namespace peregrine::api {
namespace {

using ::testing::HasSubstr;

/// The example's directory without its chat template, to be changed.
class ModelTextTest : public ::testing::Test {
 protected:
  ModelTextTest() {
    for (const std::string name : {"config.json", "generation_config.json", "tokenizer.json"}) {
      std::filesystem::copy_file(testing::example_directory() / name, directory_.path() / name);
    }
  }

  void write(const std::string& name, const std::string& text) {
    std::ofstream(directory_.path() / name) << text;
  }

  testing::TemporaryDirectory directory_;
};

TEST_F(ModelTextTest, WithoutATemplateThereIsNoChatAndTheRestWorks) {
  testing::FakeModel model("m", directory_.path());
  const ServedModel served = load_text(model);
  EXPECT_EQ(served.chat_template, nullptr);
  EXPECT_THAT(served.chat_template_error, HasSubstr("model m has no chat template"));
  serving::Metrics metrics;
  const auto service = create_service({&model}, metrics);
  const std::string chat = R"({"messages":[{"role":"user","content":"Hi"}]})";
  for (const std::string path : {"/invocations", "/v1/chat/completions"}) {
    const testing::Answer answer = testing::post(*service, path, chat);
    EXPECT_EQ(answer.status(), 400);
    EXPECT_THAT(answer.body, HasSubstr("no chat template"));
  }
  EXPECT_EQ(testing::post(*service, "/invocations", R"({"inputs":"Hi"})").status(), 200);
}

TEST_F(ModelTextTest, TheOperatorsTemplateGoesFirst) {
  write("chat_template.jinja", "{{ messages[0]['content'] }}");
  testing::FakeModel model("m", directory_.path());
  const std::string chat = R"({"messages":[{"role":"user","content":"Hi"}]})";
  const auto prompt = [&] {
    serving::Metrics metrics;
    const auto service = create_service({&model}, metrics);
    EXPECT_EQ(testing::post(*service, "/invocations", chat).status(), 200);
    return model.requests.back().prompt_ids;
  };
  EXPECT_EQ(prompt(), testing::tokens_of("Hi"));
  model.model_options.chat_template = "Say: {{ messages[0]['content'] }}";
  EXPECT_EQ(prompt(), testing::tokens_of("Say: Hi"));
}

TEST_F(ModelTextTest, WhatIsWrongFailsTheStart) {
  testing::FakeModel model("m", directory_.path());
  model.model_options.chat_template = "{% if %}";
  EXPECT_THROW(load_text(model), core::Error);
  model.model_options.chat_template.clear();
  write("tokenizer.json", "{}");
  EXPECT_THROW(load_text(model), core::Error);
  std::filesystem::remove(directory_.path() / "tokenizer.json");
  try {
    load_text(model);
    FAIL() << "there is no tokenizer";
  } catch (const core::Error& error) {
    EXPECT_EQ(error.kind(), core::ErrorKind::kNotFound);
  }
}

TEST_F(ModelTextTest, NoTokenStandsForMoreBytesThanTheLongest) {
  testing::FakeModel model("m", directory_.path());
  const ServedModel served = load_text(model);
  for (std::int32_t id = 0; id < served.tokenizer->vocab_size(); ++id) {
    const std::vector<std::int32_t> one = {id};
    EXPECT_LE(served.tokenizer->decode(one, false).size(), served.longest_token);
  }
}

TEST(SeenNames, AreFewAndShort) {
  SeenNames names;
  EXPECT_TRUE(names.is_new("a"));
  EXPECT_FALSE(names.is_new("a"));
  EXPECT_TRUE(names.is_new(std::string(5000, 'x')));
  EXPECT_FALSE(names.is_new(std::string(6000, 'x')));
  int kept = 0;
  for (int i = 0; i < 5000; ++i) kept += names.is_new("name" + std::to_string(i)) ? 1 : 0;
  EXPECT_EQ(kept, 998);
}

}  // namespace
}  // namespace peregrine::api
