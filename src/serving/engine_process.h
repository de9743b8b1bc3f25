// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace peregrine::serving {

/// A child process with a channel. Never left behind: it is killed and waited for on destruction at the
/// latest. Used by one thread at a time.
class EngineProcess {
 public:
  /// Runs `command` (the program is looked up in PATH where it has no slash) with "--channel-fd 3" appended
  /// and `channel` as its descriptor 3; the caller still closes its own copy. Standard input is empty,
  /// standard output goes where standard error goes, no other descriptor and no signal setting is inherited;
  /// the process group is. Throws Error(kNotFound) naming the program where it cannot be run.
  EngineProcess(const std::vector<std::string>& command, int channel);
  ~EngineProcess();
  EngineProcess(const EngineProcess&) = delete;
  EngineProcess& operator=(const EngineProcess&) = delete;

  int pid() const { return pid_; }
  /// SIGKILL, unless it has ended.
  void kill();
  /// Whether it has ended (and nothing is left of it). Does not wait.
  bool ended();
  /// "exit code 1", "signal SIGSEGV"; once it has ended.
  const std::string& outcome() const { return outcome_; }

 private:
  void reap(int options);

  int pid_ = 0;
  bool ended_ = false;
  std::string outcome_;
};

}  // namespace peregrine::serving
