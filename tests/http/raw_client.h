// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace peregrine::http {

/// An answer as a client has read it.
struct Answer {
  int status = 0;
  std::map<std::string, std::string> headers;  ///< Names in lower case.
  std::string body;                            ///< Chunks put together.
  bool complete = false;                       ///< It ended where its framing says.
};

/// A client of a test that says exactly which bytes go when: a blocking socket to 127.0.0.1. Reads give up
/// after 20 seconds.
class RawClient {
 public:
  /// `receive_buffer`: of the socket, 0 for the system's choice.
  explicit RawClient(std::uint16_t port, int receive_buffer = 0);
  ~RawClient();
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  bool connected() const { return descriptor_ >= 0; }
  /// False where the connection is gone.
  bool send(std::string_view bytes);
  /// The client's half ends.
  void shut_send();
  void close();
  /// Ends with a reset.
  void reset();

  /// The next answer. `body_expected` is false for HEAD.
  Answer read_answer(bool body_expected = true);
  /// Whether the server ends the connection (cleanly or by a reset) without sending anything else.
  bool read_end();
  /// What is there within `limit`, at most `size` bytes; empty at the end or where nothing comes.
  std::string read_some(std::size_t size, std::chrono::milliseconds limit);

 private:
  bool fill();
  bool read_line(std::string& line);
  bool read_bytes(std::size_t count, std::string& bytes);

  int descriptor_ = -1;
  std::string buffer_;
};

/// Waits up to 20 seconds for something to come true.
template <typename Condition>
bool wait_until(Condition condition);

void sleep_a_little();

template <typename Condition>
bool wait_until(Condition condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    sleep_a_little();
  }
  return true;
}

}  // namespace peregrine::http
