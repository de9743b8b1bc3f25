// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <engine.pb.h>
#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "channel/frame.h"

namespace peregrine::testing {

/// A host program at the other end of a socket pair, driven by hand. Killed with the object.
class HostProgram {
 public:
  /// Starts `command` with "--channel-fd N" behind it.
  explicit HostProgram(std::vector<std::string> command);
  ~HostProgram();
  HostProgram(const HostProgram&) = delete;
  HostProgram& operator=(const HostProgram&) = delete;

  pid_t pid() const { return pid_; }

  void send(const channel::wire::ToHost& message);
  /// The next message; nothing when the host has closed its end. Fails the test, and gives nothing, when
  /// none comes for a minute.
  std::optional<channel::wire::FromHost> receive();
  /// Whether a message or the end of the channel comes within `time`.
  bool says_something(std::chrono::milliseconds time);

  /// Sends Hello, and gives the host's.
  std::optional<channel::wire::Hello> greet(std::uint64_t epoch,
                                            std::uint32_t protocol = channel::kProtocolVersion);

  /// Closes the channel.
  void close();
  /// Waits for the end of the process: its exit code, or 128 + signal.
  int wait();

 private:
  pid_t pid_ = -1;
  int fd_ = -1;
  channel::FrameReader reader_;
  std::optional<channel::wire::FromHost> next_;  ///< Read and not yet taken.
  bool ended_ = false;                           ///< The host's end is closed.
};

}  // namespace peregrine::testing
