// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace peregrine::core {

/// What went wrong, in the terms that decide an exit code or an HTTP status.
enum class ErrorKind {
  kInvalidArgument,  ///< The caller's input (request, option, file contents) is wrong.
  kNotFound,         ///< A named file, model or tensor does not exist.
  kUnsupported,      ///< Well-formed, but this build or version cannot do it.
  kOverloaded,       ///< No room now; the same call may succeed later.
  kDeadline,         ///< Took longer than allowed.
  kDataLoss,         ///< Stored data is damaged or truncated.
  kInternal,         ///< A defect of Peregrine itself, or of the machine.
};

/// The one exception type. The message is for the person who must fix it: what was wrong, what the limit is,
/// what was given, what to do.
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}

  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

/// "invalid_argument", "not_found", ...
const char* to_string(ErrorKind kind);

/// Process exit code for an error: 2 where the input was wrong, 1 otherwise. (0 is success.)
int exit_code(ErrorKind kind);

/// Throws Error(kind) with a fmt-formatted message.
template <typename... Args>
[[noreturn]] void fail(ErrorKind kind, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(kind, fmt::format(format, std::forward<Args>(args)...));
}

/// `text` cut to at most `limit` bytes at a character border, control characters escaped, for quoting
/// untrusted input in messages.
std::string quoted(std::string_view text, std::size_t limit = 80);

}  // namespace peregrine::core
