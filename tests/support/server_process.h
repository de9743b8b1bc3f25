// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "support/test_data.h"

namespace peregrine::testing {

/// `peregrine serve` as a process of its own, on a free port, stopped (and waited for) on destruction.
class ServerProcess {
 public:
  /// Starts it with these arguments behind "serve --port 0" and waits until it says that it serves. Throws
  /// with its log where it ends before. `--wait-model-loading false` among the arguments is not for this.
  explicit ServerProcess(const std::vector<std::string>& arguments);
  ~ServerProcess();
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;

  std::uint16_t port() const { return port_; }
  pid_t pid() const { return pid_; }
  bool running() const;
  /// Processes that it has started and not yet waited for: its engine hosts.
  std::vector<pid_t> children() const;
  /// Its only engine host; waits for one up to a minute.
  pid_t host() const;
  /// What it has written to standard error so far.
  std::string log() const;

  void signal(int number) const;
  /// Sends `number` (0: nothing) and waits for the end. The exit code, or 128 + the signal that ended it.
  int stop(int number);

  /// Open descriptors, and resident memory in kilobytes.
  std::size_t descriptors() const;
  long resident_kilobytes() const;

 private:
  TemporaryDirectory folder_;
  pid_t pid_ = 0;
  int exit_code_ = -1;
  std::uint16_t port_ = 0;
};

}  // namespace peregrine::testing
