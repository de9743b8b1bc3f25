// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <engine.pb.h>

#include <mutex>
#include <string>
#include <vector>

#include "channel/frame.h"

namespace peregrine::channel {

/// The host's end of a channel, with plain blocking calls: one thread receives, any thread sends.
class HostLink {
 public:
  /// Takes over `fd`, a connected stream socket.
  explicit HostLink(int fd);
  ~HostLink();
  HostLink(const HostLink&) = delete;
  HostLink& operator=(const HostLink&) = delete;

  /// Waits for the server's Hello, checks its protocol and answers with this host's `version`,
  /// `capabilities`, and the server's epoch. Returns that Hello. Throws Error(kInvalidArgument) where the
  /// versions differ or something else came first, with both versions; the server gets this host's Hello
  /// before, so that it can say the same. Throws Error(kInternal) where the server closed before its Hello.
  wire::Hello greet(const std::string& version, const std::vector<std::string>& capabilities);

  /// Waits for the next message; false when the server has closed its end. Throws Error(kDataLoss) for what
  /// is no message, Error(kInternal) where the system fails.
  bool receive(wire::ToHost& message);

  /// Writes a whole message, waiting as long as it takes. False when the server is gone. Thread-safe.
  /// Throws Error(kInvalidArgument) where the message is larger than kLargestMessage.
  bool send(const wire::FromHost& message);

 private:
  int fd_;
  FrameReader reader_;
  std::mutex send_mutex_;
  std::string send_buffer_;  ///< Guarded by send_mutex_; kept to avoid allocation.
};

}  // namespace peregrine::channel
