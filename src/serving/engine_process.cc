// SPDX-License-Identifier: Apache-2.0
#include "serving/engine_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>

#include "core/error.h"

namespace peregrine::serving {
namespace {

constexpr int kChannel = 3;

/// What the child does before it runs the program.
class Preparation {
 public:
  explicit Preparation(int channel) {
    check(posix_spawn_file_actions_init(&actions_));
    check(posix_spawnattr_init(&attributes_));
    // The channel first: its descriptor may be one of those that are replaced below.
    check(posix_spawn_file_actions_adddup2(&actions_, channel, kChannel));
    check(posix_spawn_file_actions_addopen(&actions_, STDIN_FILENO, "/dev/null", O_RDONLY, 0));
    check(posix_spawn_file_actions_adddup2(&actions_, STDERR_FILENO, STDOUT_FILENO));
    check(posix_spawn_file_actions_addclosefrom_np(&actions_, kChannel + 1));
    sigset_t signals;
    sigemptyset(&signals);
    check(posix_spawnattr_setsigmask(&attributes_, &signals));
    sigfillset(&signals);
    check(posix_spawnattr_setsigdefault(&attributes_, &signals));
    check(posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF));
  }
  ~Preparation() {
    posix_spawnattr_destroy(&attributes_);
    posix_spawn_file_actions_destroy(&actions_);
  }
  Preparation(const Preparation&) = delete;
  Preparation& operator=(const Preparation&) = delete;

  const posix_spawn_file_actions_t* actions() const { return &actions_; }
  const posix_spawnattr_t* attributes() const { return &attributes_; }

 private:
  static void check(int error) {
    if (error != 0) {
      core::fail(core::ErrorKind::kInternal, "cannot prepare an engine host: {}",
                 std::generic_category().message(error));
    }
  }

  posix_spawn_file_actions_t actions_{};
  posix_spawnattr_t attributes_{};
};

std::string describe(int status) {
  if (WIFEXITED(status)) return fmt::format("exit code {}", WEXITSTATUS(status));
  const int signal = WTERMSIG(status);
  const char* name = sigabbrev_np(signal);
  return name == nullptr ? fmt::format("signal {}", signal) : fmt::format("signal SIG{}", name);
}

}  // namespace

EngineProcess::EngineProcess(const std::vector<std::string>& command, int channel) {
  if (command.empty())
    core::fail(core::ErrorKind::kInvalidArgument, "the command of the engine host is empty");
  std::vector<std::string> words = command;
  words.push_back("--channel-fd");
  words.push_back(std::to_string(kChannel));
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);

  const Preparation preparation(channel);
  const int error = posix_spawnp(&pid_, arguments[0], preparation.actions(), preparation.attributes(),
                                 arguments.data(), environ);
  if (error != 0) {
    core::fail(core::ErrorKind::kNotFound, "cannot run the engine host {}: {}", core::quoted(command[0], 200),
               std::generic_category().message(error));
  }
}

EngineProcess::~EngineProcess() {
  kill();
  if (!ended_) reap(0);
}

void EngineProcess::kill() {
  // Until it is waited for, its id is not given to another process.
  if (!ended_) ::kill(pid_, SIGKILL);
}

bool EngineProcess::ended() {
  if (!ended_) reap(WNOHANG);
  return ended_;
}

void EngineProcess::reap(int options) {
  int status = 0;
  pid_t answer = 0;
  do {
    answer = ::waitpid(pid_, &status, options);
  } while (answer < 0 && errno == EINTR);
  if (answer == 0) return;
  ended_ = true;
  // Where the program ignores SIGCHLD, the system keeps no outcome.
  outcome_ = answer == pid_ ? describe(status) : "outcome unknown";
}

}  // namespace peregrine::serving
