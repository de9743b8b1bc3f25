// SPDX-License-Identifier: Apache-2.0
// `peregrine render` as a user runs it.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "core/json.h"
#include "support/test_data.h"
#include "system/run_program.h"

namespace peregrine {
namespace {

using ::testing::HasSubstr;
using testing::ProgramResult;
using testing::run_peregrine;

const std::string kExample = std::string(PEREGRINE_SOURCE_DIR) + "/examples/shakespeare";
const std::string kRequest = R"({"messages": [{"role": "user", "content": "Speak."}]})";

class RenderCommand : public ::testing::Test {
 protected:
  std::string file(const std::string& name, const std::string& text) {
    std::ofstream(folder_.path() / name, std::ios::binary) << text;
    return folder_.path() / name;
  }

  const testing::TemporaryDirectory folder_;
};

void expect_prompt(const ProgramResult& result, const std::string& prompt) {
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, prompt);
}

void expect_refused(const ProgramResult& result, const std::string& named, int exit_code = 2) {
  EXPECT_EQ(result.exit_code, exit_code) << result.err;
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, HasSubstr(named));
}

TEST_F(RenderCommand, TheExampleModel) {
  expect_prompt(run_peregrine({"render", kExample}, kRequest), "JULIET:\nSpeak.\n\nROMEO:\n");
  expect_prompt(run_peregrine({"render", kExample}, R"({"messages": [], "add_generation_prompt": false})"),
                "");
  const auto json = run_peregrine({"render", kExample, "--json"}, kRequest);
  EXPECT_EQ(core::parse_json(json.out, "output").at("prompt").as_string(), "JULIET:\nSpeak.\n\nROMEO:\n");
  expect_prompt(
      run_peregrine({"render", kExample}, R"({"messages": [{"role": "assistant", "content": "O she "}],
                                                       "continue_final_message": true})"),
      "ROMEO:\nO she ");
}

TEST_F(RenderCommand, AFileWithVariables) {
  const std::string path =
      file("t.jinja", "{{ bos_token }}{{ messages[0].content }}{{ x }}{{ strftime_now('%Y') }}{{ tools }}");
  expect_prompt(run_peregrine({"render", path, "--now", "1000000000", "--var", "bos_token=\"<s>\"", "--var",
                               "x={\"a\": [1, null]}"},
                              kRequest),
                "<s>Speak.{'a': [1, None]}2001None");
  const std::string year = file("y.jinja", "{{ strftime_now('%Y')|int > 2020 }}");
  expect_prompt(run_peregrine({"render", year}, kRequest), "True");
}

TEST_F(RenderCommand, WhatIsWrongIsNamed) {
  expect_refused(run_peregrine({"render", "/nowhere"}, kRequest), "/nowhere");
  expect_refused(run_peregrine({"render", folder_.path()}, kRequest), "no chat template");
  expect_refused(run_peregrine({"render", kExample}, "{"), "standard input");
  expect_refused(run_peregrine({"render", kExample}, "[]"), "standard input");
  expect_refused(run_peregrine({"render", kExample}, "{}"), "'messages'");
  expect_refused(run_peregrine({"render", kExample, "--var", "x"}, kRequest), "name=JSON");
  expect_refused(run_peregrine({"render", kExample, "--var", "x={"}, kRequest), "--var x");
  expect_refused(run_peregrine({"render", file("bad.jinja", "a\n{% if %}")}, kRequest),
                 "bad.jinja: line 2, column 7");
  expect_refused(
      run_peregrine({"render", file("raise.jinja", "{{ raise_exception('Own words') }}")}, kRequest),
      "peregrine: Own words\n");
  expect_refused(run_peregrine({"render", file("no.jinja", "\n{{ messages.foo.bar }}")}, kRequest),
                 "no.jinja: line 2: 'list object' has no attribute 'foo'");
}

}  // namespace
}  // namespace peregrine
