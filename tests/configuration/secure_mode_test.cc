// SPDX-License-Identifier: Apache-2.0
#include "configuration/secure_mode.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "configuration/model_options.h"
#include "core/error.h"
#include "support/test_data.h"

namespace peregrine::configuration {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

/// A model directory, and an environment that is as before at the end.
class SecureModeTest : public ::testing::Test {
 protected:
  SecureModeTest() { turn_off(); }
  ~SecureModeTest() override { turn_off(); }

  static void turn_off() {
    ::unsetenv("SAGEMAKER_SECURE_MODE");
    ::unsetenv("SAGEMAKER_SECURITY_CONTROLS");
  }
  static void turn_on(const char* controls) {
    ::setenv("SAGEMAKER_SECURE_MODE", "true", 1);
    ::setenv("SAGEMAKER_SECURITY_CONTROLS", controls, 1);
  }

  void write(const char* name, const std::string& text) const {
    std::ofstream(folder_.path() / name) << text;
  }
  ModelOptions read(const std::vector<std::string>& overrides = {}) const {
    return read_model_options(folder_.path(), overrides);
  }
  std::string refusal(const std::vector<std::string>& overrides = {}) const {
    try {
      read(overrides);
    } catch (const core::Error& error) {
      EXPECT_EQ(error.kind(), core::ErrorKind::kInvalidArgument) << error.what();
      return error.what();
    }
    return "";
  }

  const testing::TemporaryDirectory folder_;
};

TEST_F(SecureModeTest, PicklesAreAllowedUnlessForbidden) {
  EXPECT_TRUE(read().allow_pickle);
  EXPECT_FALSE(read({"allow_pickle=False"}).allow_pickle);
  ::setenv("SAGEMAKER_SECURITY_CONTROLS", "DISALLOW_PICKLE_FILES", 1);
  EXPECT_TRUE(read().allow_pickle) << "the list alone turns nothing on";
  ::setenv("SAGEMAKER_SECURE_MODE", "false", 1);
  EXPECT_TRUE(read().allow_pickle);
  turn_on("");
  EXPECT_TRUE(read().allow_pickle) << "nothing is forbidden";
}

TEST_F(SecureModeTest, PicklesAreForbiddenByAControl) {
  turn_on("DISALLOW_TRUST_REMOTE_CODE , DISALLOW_PICKLE_FILES");
  const ModelOptions options = read();
  EXPECT_FALSE(options.allow_pickle);
  EXPECT_FALSE(apply_settings(options.settings).allow_pickle) << "the engine host must get it too";
  EXPECT_THAT(refusal({"allow_pickle=true"}),
              AllOf(HasSubstr("option.allow_pickle"), HasSubstr("DISALLOW_PICKLE_FILES")));
  write("serving.properties", "option.allow_pickle=True\n");
  EXPECT_THAT(refusal(), AllOf(HasSubstr("serving.properties"), HasSubstr("DISALLOW_PICKLE_FILES")));
}

TEST_F(SecureModeTest, WrongVariablesAreRefused) {
  ::setenv("SAGEMAKER_SECURE_MODE", "yes", 1);
  EXPECT_THAT(refusal(), AllOf(HasSubstr("SAGEMAKER_SECURE_MODE"), HasSubstr("yes")));
  ::setenv("SAGEMAKER_SECURE_MODE", "True", 1);
  EXPECT_THAT(refusal(), HasSubstr("SAGEMAKER_SECURITY_CONTROLS, a list"));
  turn_on("DISALLOW_PICKLES");
  EXPECT_THAT(refusal(), AllOf(HasSubstr("DISALLOW_PICKLES"), HasSubstr("DISALLOW_PICKLE_FILES")));
}

TEST_F(SecureModeTest, OtherControlsRefuseWhatTheyName) {
  turn_on("DISALLOW_TRUST_REMOTE_CODE");
  EXPECT_EQ(refusal({"trust_remote_code=false", "entryPoint=djl_python.huggingface", "chat_template=x"}), "");
  EXPECT_THAT(refusal({"trust_remote_code=True"}), HasSubstr("DISALLOW_TRUST_REMOTE_CODE"));
  turn_on("DISALLOW_CUSTOM_INFERENCE_SCRIPTS");
  EXPECT_EQ(refusal({"entryPoint=djl_python.huggingface"}), "");
  EXPECT_THAT(refusal({"entryPoint=mine"}), HasSubstr("DISALLOW_CUSTOM_INFERENCE_SCRIPTS"));
  turn_on("DISALLOW_CHAT_TEMPLATE");
  EXPECT_EQ(refusal({"trust_remote_code=true"}), "");
  EXPECT_THAT(refusal({"chat_template={{ x }}"}), HasSubstr("DISALLOW_CHAT_TEMPLATE"));
}

TEST_F(SecureModeTest, ControlsRefuseFilesOfTheModel) {
  struct Case {
    const char* control;
    const char* file;
    const char* text;
  };
  for (const Case& forbidden :
       {Case{"DISALLOW_REQUIREMENTS_TXT", "requirements.txt", "x"},
        Case{"DISALLOW_CUSTOM_INFERENCE_SCRIPTS", "model.py", "x"},
        Case{"DISALLOW_CHAT_TEMPLATE", "chat_template.jinja", "x"},
        Case{"DISALLOW_CHAT_TEMPLATE", "tokenizer_config.json", R"({"chat_template": "x"})"}}) {
    turn_on(forbidden.control);
    EXPECT_EQ(refusal(), "") << forbidden.file << " is not there yet";
    write(forbidden.file, forbidden.text);
    EXPECT_THAT(refusal(), AllOf(HasSubstr(forbidden.file), HasSubstr(forbidden.control)));
    // The same where the model's files lie elsewhere.
    const testing::TemporaryDirectory elsewhere;
    EXPECT_THROW(read_model_options(elsewhere.path(), {"model_id=" + folder_.path().string()}), core::Error);
    turn_on("DISALLOW_PICKLE_FILES");
    EXPECT_EQ(refusal(), "") << "another control";
    std::filesystem::remove(folder_.path() / forbidden.file);
  }
  turn_on("DISALLOW_CHAT_TEMPLATE");
  write("tokenizer_config.json", R"({"chat_template": null})");
  EXPECT_EQ(refusal(), "");
}

}  // namespace
}  // namespace peregrine::configuration
