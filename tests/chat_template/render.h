// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace peregrine::testing {

/// Renders `source` with variables from JSON text.
std::string render(std::string_view source, std::string_view variables = "{}");

/// The error that rendering, or parsing, gives; fails the test where there is none.
core::Error render_error(std::string_view source, std::string_view variables = "{}");

/// A template, and what Jinja makes of it.
struct Example {
  std::string source;
  std::string expected;
};

/// Every example, with one set of variables.
void expect_all(const std::vector<Example>& examples, std::string_view variables = "{}");
/// Every template is an error whose message has `expected` in it.
void expect_errors(const std::vector<Example>& examples, std::string_view variables = "{}");

}  // namespace peregrine::testing
