// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/json/value.hpp>
#include <string>
#include <string_view>
#include <utility>

#include "api/exchange.h"
#include "core/error.h"

namespace peregrine::api {

/// An error of a request's field, by the name that the client wrote: "parameters.top_p".
class FieldError : public core::Error {
 public:
  FieldError(core::ErrorKind kind, std::string field, const std::string& message)
      : core::Error(kind, message), field_(std::move(field)) {}
  const std::string& field() const { return field_; }

 private:
  std::string field_;
};

/// Throws FieldError with "FIELD must be ALLOWED, found VALUE".
[[noreturn]] void fail_field(std::string field, std::string_view allowed, const boost::json::value& found);

/// An error with a status of its own, where a dialect prescribes one (LMI's 424 for what it cannot parse).
class StatusError : public core::Error {
 public:
  StatusError(int status, core::ErrorKind kind, std::string type, const std::string& message)
      : core::Error(kind, message), status_(status), type_(std::move(type)) {}
  int status() const { return status_; }
  const std::string& type() const { return type_; }

 private:
  int status_;
  std::string type_;
};

/// How a dialect writes errors.
enum class ErrorStyle {
  kServer,     ///< {"code", "type", "message"}: routing, models, queues (specification 1.2, 1.3).
  kInference,  ///< {"error", "code"}: what is wrong with an LMI request (2.4, 2.6).
  kOpenAi,     ///< {"error": {"message", "type", "param", "code"}}.
};

/// The status of an error: invalid_argument and unsupported 400, not_found 404, overloaded 503 (with
/// Retry-After), deadline 504, others 500; a StatusError's own.
int http_status(const core::Error& error);

/// Head and body of an error answer, body with a newline at its end.
void write_error(const core::Error& error, ErrorStyle style, Head& head, std::string& body);

/// The body alone on one line, for the end of a stream that has begun.
std::string error_json(const core::Error& error, ErrorStyle style);

}  // namespace peregrine::api
