// SPDX-License-Identifier: Apache-2.0
#include "api/errors.h"

#include <fmt/format.h>

#include "api/json_output.h"
#include "core/json.h"
#include "text/unicode.h"

namespace peregrine::api {
namespace {

using core::ErrorKind;

/// The name that DJL Serving's clients know an error by.
std::string server_type(const core::Error& error) {
  if (const auto* status = dynamic_cast<const StatusError*>(&error); status && !status->type().empty()) {
    return status->type();
  }
  switch (error.kind()) {
    case ErrorKind::kInvalidArgument:
    case ErrorKind::kUnsupported:
      return "BadRequestException";
    case ErrorKind::kNotFound:
      return "ResourceNotFoundException";
    case ErrorKind::kOverloaded:
      return "ServiceUnavailableException";
    case ErrorKind::kDeadline:
      return "TimeoutException";
    case ErrorKind::kDataLoss:
    case ErrorKind::kInternal:
      return "InternalServerException";
  }
  return "InternalServerException";
}

std::string open_ai_type(int status) {
  if (status == 404) return "not_found_error";
  if (status == 503) return "service_unavailable_error";
  return status >= 500 ? "server_error" : "invalid_request_error";
}

/// A member with text of any origin: messages quote what clients wrote.
void append_member(std::string& out, std::string_view name, std::string_view text) {
  append_json_string(out, name);
  out += ':';
  append_json_string(out, text::to_valid_utf8(text));
}

/// {"error": {"message", "type", "param", "code"}}
std::string open_ai_json(const core::Error& error, int status) {
  std::string out = "{\"error\":{";
  append_member(out, "message", error.what());
  out += ',';
  append_member(out, "type", open_ai_type(status));
  out += ',';
  if (const auto* field = dynamic_cast<const FieldError*>(&error)) {
    append_member(out, "param", field->field());
  } else {
    out += "\"param\":null";
  }
  out += ',';
  if (const auto* typed = dynamic_cast<const StatusError*>(&error); typed && !typed->type().empty()) {
    append_member(out, "code", typed->type());
  } else {
    out += "\"code\":null";
  }
  return out + "}}";
}

}  // namespace

void fail_field(std::string field, std::string_view allowed, const boost::json::value& found) {
  try {
    core::JsonView(found, field).fail_expected(allowed);
  } catch (const core::Error& error) {
    throw FieldError(ErrorKind::kInvalidArgument, std::move(field), error.what());
  }
}

int http_status(const core::Error& error) {
  if (const auto* status = dynamic_cast<const StatusError*>(&error)) return status->status();
  switch (error.kind()) {
    case ErrorKind::kInvalidArgument:
    case ErrorKind::kUnsupported:
      return 400;
    case ErrorKind::kNotFound:
      return 404;
    case ErrorKind::kOverloaded:
      return 503;
    case ErrorKind::kDeadline:
      return 504;
    case ErrorKind::kDataLoss:
    case ErrorKind::kInternal:
      return 500;
  }
  return 500;
}

std::string error_json(const core::Error& error, ErrorStyle style) {
  const int status = http_status(error);
  if (style == ErrorStyle::kOpenAi) return open_ai_json(error, status);
  std::string out = "{";
  if (style == ErrorStyle::kInference) {
    append_member(out, "error", error.what());
    return out + fmt::format(",\"code\":{}}}", status);
  }
  out += fmt::format("\"code\":{},", status);
  append_member(out, "type", server_type(error));
  out += ',';
  append_member(out, "message", error.what());
  return out + "}";
}

void write_error(const core::Error& error, ErrorStyle style, Head& head, std::string& body) {
  head = Head();
  head.status = http_status(error);
  head.content_type = "application/json";
  // The queue moves within seconds, and a host is back within tens of them.
  if (head.status == 503) head.headers.emplace_back("Retry-After", "1");
  body += error_json(error, style);
  body += '\n';
}

}  // namespace peregrine::api
