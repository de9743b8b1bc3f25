// SPDX-License-Identifier: Apache-2.0
#include "api/request_body.h"

#include <fmt/format.h>

#include <boost/json/value.hpp>
#include <string>
#include <utility>

#include "api/errors.h"
#include "core/json.h"

namespace peregrine::api {
namespace {

using core::ErrorKind;

/// At least as many as the text has values: separators outside of strings.
std::size_t count_values(std::string_view text) {
  std::size_t count = 1;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') {
        ++i;
      } else if (c == '"') {
        in_string = false;
      }
    } else if (c == '"') {
      in_string = true;
    } else if (c == ',' || c == '[' || c == '{') {
      ++count;
    }
  }
  return count;
}

/// "application/json; charset=utf-8" -> "application/json"
std::string media_type(const HttpRequest& request) {
  std::string_view type = request.header("content-type").value_or("");
  type = type.substr(0, type.find(';'));
  while (!type.empty() && type.back() == ' ') type.remove_suffix(1);
  std::string lower(type);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  }
  return lower;
}

bool says_json(std::string_view type) {
  return type.empty() || type == "application/json" || type.ends_with("+json") || type == "text/json" ||
         type == "application/jsonlines" || type == "*/*";
}

[[noreturn]] void fail_body(int status, const std::string& message) {
  // 424 is LMI's, whose messages all begin like this.
  const std::string_view prefix =
      status == 424 ? "Input Parsing failed. Ensure that the request payload is valid. " : "";
  throw StatusError(status, ErrorKind::kInvalidArgument, "", std::string(prefix) + message);
}

}  // namespace

boost::json::value parse_value(const HttpRequest& request, int parse_status) {
  const std::size_t values = count_values(request.body);
  if (values > kMaxJsonValues) {
    fail_body(parse_status,
              fmt::format("The request has {} JSON values; at most {} are taken", values, kMaxJsonValues));
  }
  try {
    return core::parse_json(request.body, "the request");
  } catch (const core::Error& error) {
    const std::string type = media_type(request);
    if (says_json(type)) fail_body(parse_status, error.what());
    fail_body(415,
              fmt::format("The content type {} is not supported: send a JSON object as application/json ({})",
                          core::quoted(type), error.what()));
  }
}

boost::json::object parse_body(const HttpRequest& request, int parse_status) {
  boost::json::value parsed = parse_value(request, parse_status);
  if (!parsed.is_object()) fail_not_object(request, parse_status);
  return std::move(parsed.get_object());
}

void fail_not_object(const HttpRequest& request, int parse_status) {
  fail_body(parse_status, fmt::format("Invalid request payload. Request payload should be a json object "
                                      "specifying the 'inputs' field (or prompt, or messages). Received "
                                      "payload {}",
                                      core::quoted(request.body)));
}

}  // namespace peregrine::api
