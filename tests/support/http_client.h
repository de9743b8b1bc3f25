// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace peregrine::testing {

/// A blocking TCP connection to a port of this machine, for tests that look at the bytes. Every wait ends
/// with an exception after two minutes.
class RawConnection {
 public:
  explicit RawConnection(std::uint16_t port);
  ~RawConnection();
  RawConnection(RawConnection&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  RawConnection& operator=(RawConnection&&) = delete;

  /// False where the other end has gone.
  bool send(std::string_view bytes);
  /// Up to `limit` bytes; empty at the end of the stream (or a reset).
  std::string receive(std::size_t limit = 65536);
  /// No more will be sent.
  void finish_sending();
  int fd() const { return fd_; }

 private:
  int fd_;
};

struct HttpResponse {
  int status = 0;
  std::map<std::string, std::string> headers;  ///< Names in lower case.
  std::string body;                            ///< Chunks joined.
  bool complete = false;                       ///< Whether it came to its proper end.
};

/// Called with each piece of the body as it comes; false closes the connection.
using OnData = std::function<bool(std::string_view piece)>;

/// One request on a connection of its own. `body` goes as application/json unless `headers` name a type.
HttpResponse http_request(std::uint16_t port, const std::string& method, const std::string& path,
                          const std::string& body = "",
                          const std::vector<std::pair<std::string, std::string>>& headers = {},
                          const OnData& on_data = {});

/// Reads one answer from a connection. `head_only` for answers to HEAD.
HttpResponse read_response(RawConnection& connection, const OnData& on_data = {}, bool head_only = false);

}  // namespace peregrine::testing
