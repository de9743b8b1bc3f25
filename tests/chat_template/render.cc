// SPDX-License-Identifier: Apache-2.0
#include "chat_template/render.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/json.h"
#include "text/chat_template.h"

namespace peregrine::testing {

std::string render(std::string_view source, std::string_view variables) {
  const auto json = core::parse_json(variables, "variables");
  return text::ChatTemplate::parse(source, "t")->render(json.as_object(), 1'700'000'000);
}

core::Error render_error(std::string_view source, std::string_view variables) {
  try {
    const std::string out = render(source, variables);
    ADD_FAILURE() << source << "\ngave no error but " << out.substr(0, 200);
  } catch (const core::Error& error) {
    return error;
  }
  return {core::ErrorKind::kInternal, ""};
}

void expect_all(const std::vector<Example>& examples, std::string_view variables) {
  for (const auto& [source, expected] : examples) {
    try {
      EXPECT_EQ(render(source, variables), expected) << source;
    } catch (const core::Error& error) {
      ADD_FAILURE() << source << "\nfailed: " << error.what();
    }
  }
}

void expect_errors(const std::vector<Example>& examples, std::string_view variables) {
  for (const auto& [source, expected] : examples) {
    EXPECT_THAT(render_error(source, variables).what(), ::testing::HasSubstr(expected)) << source;
  }
}

}  // namespace peregrine::testing
