// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace peregrine::http {

/// Where a server is, taken from "http://HOST[:PORT][/PATH]".
struct ServerAddress {
  std::string host;
  std::uint16_t port = 80;
  std::string path;  ///< What stands before every target; without a slash at its end.
};

/// Throws Error(kInvalidArgument) that names the text and what is wrong with it; kUnsupported for https.
ServerAddress parse_address(std::string_view url);

/// A request of a Client.
struct ClientRequest {
  std::string target;  ///< Such as "/v1/completions", behind the address's path.
  std::string body;    ///< Sent by POST as application/json; a GET where it is empty.
  /// Called with each piece of the answer's body as it comes, chunks already joined.
  std::function<void(std::string_view piece)> on_data;
  std::chrono::milliseconds timeout{600'000};  ///< For the whole exchange.
};

/// A blocking HTTP/1.1 client for measurements, one connection a request. May be used by several threads at
/// once.
class Client {
 public:
  explicit Client(ServerAddress address) : address_(std::move(address)) {}

  /// Sends the request and reads the answer to its end; its status. Throws Error: kOverloaded where no
  /// connection comes about or it ends too early, kDeadline, or whatever `on_data` throws.
  int exchange(const ClientRequest& request) const;

 private:
  ServerAddress address_;
};

}  // namespace peregrine::http
