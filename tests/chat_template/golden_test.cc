// SPDX-License-Identifier: Apache-2.0
// Templates of real models, each with conversations, against what Jinja2 and transformers make of them.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ctime>
#include <filesystem>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "support/test_data.h"
#include "text/chat_template.h"
#include "text/model_template.h"

namespace peregrine {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;
using ::testing::HasSubstr;

constexpr std::size_t kTemplates = 16;
constexpr std::size_t kCases = 288;

std::vector<fs::path> golden_files() {
  std::vector<fs::path> files;
  std::error_code none;
  for (const auto& file : fs::directory_iterator(testing::test_data() / "chat-templates", none)) {
    if (file.path().extension() == ".json") files.push_back(file.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

/// "2025-03-14T15:09:26" as local time.
std::int64_t local_time(std::string_view text) {
  std::tm time{};
  EXPECT_NE(strptime(std::string(text).c_str(), "%Y-%m-%dT%H:%M:%S", &time), nullptr) << text;
  time.tm_isdst = -1;
  return std::mktime(&time);
}

text::ModelTemplate model_template(const json::object& golden) {
  json::object variables;
  for (const char* token : {"bos_token", "eos_token"}) {
    if (!golden.at(token).get_string().empty()) variables[token] = golden.at(token);
  }
  const std::string_view source = golden.at("template").get_string();
  return {{{"default", text::ChatTemplate::parse(source, "golden")}}, std::move(variables)};
}

json::object request_of(const json::object& item) {
  json::object request;
  for (const char* name : {"messages", "tools", "add_generation_prompt"}) request[name] = item.at(name);
  request["chat_template_kwargs"] = item.at("kwargs");
  return request;
}

/// What happened: the prompt, or the error's message behind "error: ".
std::string outcome(const text::ModelTemplate& model, const json::object& request, std::int64_t now) {
  try {
    return model.render(request, now);
  } catch (const core::Error& error) {
    EXPECT_EQ(error.kind(), core::ErrorKind::kInvalidArgument) << error.what();
    return std::string("error: ") + error.what();
  }
}

void check_case(const text::ModelTemplate& model, const json::object& item, std::int64_t now) {
  const json::object request = request_of(item);
  const std::string found = outcome(model, request, now);
  if (const auto* error = item.if_contains("error")) {
    const std::string_view message = error->at("message").as_string();
    if (error->at("kind").as_string() == "raise_exception") {
      EXPECT_EQ(found, "error: " + std::string(message));
    } else {
      EXPECT_THAT(found, ::testing::StartsWith("error: golden: line "));
      EXPECT_THAT(found, HasSubstr(message));
    }
    return;
  }
  EXPECT_EQ(found, std::string_view(item.at("expected").as_string()));
  if (const auto* expected = item.if_contains("expected_continue_final_message")) {
    json::object open_end = request;
    open_end["continue_final_message"] = true;
    EXPECT_EQ(outcome(model, open_end, now), std::string_view(expected->as_string()));
  }
}

TEST(ChatTemplateGolden, EveryCaseOfEveryTemplate) {
  PEREGRINE_REQUIRE_TEST_DATA("chat-templates/README.md");
  std::size_t cases = 0;
  const auto files = golden_files();
  EXPECT_EQ(files.size(), kTemplates);
  for (const fs::path& file : files) {
    const auto document = core::parse_json(core::read_file(file, 1 << 24), file.string());
    const json::object& golden = document.as_object();
    const auto model = model_template(golden);
    const std::int64_t now = local_time(golden.at("now").as_string());
    for (const auto& item : golden.at("cases").as_array()) {
      SCOPED_TRACE(file.stem().string() + ": " + std::string(item.at("id").as_string()));
      check_case(model, item.as_object(), now);
      ++cases;
    }
  }
  EXPECT_EQ(cases, kCases);
}

}  // namespace
}  // namespace peregrine
