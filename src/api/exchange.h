// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// What passes between the room that speaks bytes (http) and this one: a request whole, an answer in parts.

namespace peregrine::api {

/// A request as HTTP has it.
struct HttpRequest {
  std::string method;  ///< "GET"
  std::string path;    ///< Percent-decoded, without the query: "/predictions/falcon"
  std::string query;   ///< As sent, without '?'.
  std::vector<std::pair<std::string, std::string>> headers;  ///< Names in lower case, in the order sent.
  std::string body;

  /// The first header of this lower-case name; nothing where there is none.
  std::optional<std::string_view> header(std::string_view name) const;
};

/// The beginning of an answer.
struct Head {
  int status = 200;
  std::string content_type;  ///< Empty: no such header.
  std::vector<std::pair<std::string, std::string>> headers;
};

/// One request being answered. Everything but `wake` happens on one thread at a time. Destroying it before
/// its end means that the client is gone, and cancels what it stands for.
class Exchange {
 public:
  virtual ~Exchange() = default;

  enum class State : std::uint8_t {
    kWaiting,  ///< Nothing to send now; wake is called when there is.
    kMore,     ///< Something to send; more will come.
    kDone,     ///< Something to send (or nothing), and that was all.
  };

  /// Gives what is ready: appends to `body`, and in the first call that is not kWaiting fills `head` too,
  /// which counts from then on. The caller asks again when it has sent that, so a slow client is asked for
  /// less often and gets more at once. An answer that is kDone at its first part has a length; otherwise it
  /// is sent in chunks as they come. Must not throw.
  virtual State next(Head& head, std::string& body) = 0;
};

/// Answers requests. Thread-safe.
class Service {
 public:
  virtual ~Service() = default;

  /// Begins to answer. `wake` may be called from any thread, also before this returns and after the exchange
  /// was destroyed; it never blocks. Takes time in proportion to the body (parsing, tokenizing). Must not
  /// throw: what is wrong becomes an answer.
  virtual std::unique_ptr<Exchange> handle(HttpRequest request, std::function<void()> wake) = 0;

  /// The body and headers of an answer to what is not a request that can be handled: 400, 408, 413, 414, 431,
  /// 501, 503, 505. `message` says what is wrong and what is allowed.
  virtual void refuse(int status, std::string_view message, Head& head, std::string& body) = 0;

  /// For metrics: a connection was accepted (+1) or closed (-1).
  virtual void count_connections(int change) = 0;
};

}  // namespace peregrine::api
