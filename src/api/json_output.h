// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

// Answers are written as text at once: a document tree for each token of a stream would cost more than the
// token's text.

namespace peregrine::api {

/// Appends `text`, which is UTF-8, as a JSON string with its quotes.
void append_json_string(std::string& out, std::string_view text);

/// Appends the shortest number that reads back as this float; null for what JSON has no number for.
void append_json_number(std::string& out, float number);

}  // namespace peregrine::api
