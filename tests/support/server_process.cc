// SPDX-License-Identifier: Apache-2.0
#include "support/server_process.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <iterator>
#include <regex>
#include <sstream>
#include <stdexcept>
#include <thread>

extern char** environ;

namespace peregrine::testing {
namespace {

using namespace std::chrono_literals;

std::string contents(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

}  // namespace

ServerProcess::ServerProcess(const std::vector<std::string>& arguments) {
  const std::string log_file = (folder_.path() / "log").string();
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 2, log_file.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  std::vector<std::string> command = {PEREGRINE_BINARY, "serve", "--port", "0"};
  command.insert(command.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& argument : command) argv.push_back(argument.data());
  argv.push_back(nullptr);
  const int error = posix_spawn(&pid_, PEREGRINE_BINARY, &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) throw std::runtime_error("cannot start " PEREGRINE_BINARY);

  const std::regex address("Serving .* on http://[^ ]*:([0-9]+)\n");
  for (int i = 0; i < 6000; ++i) {
    std::smatch match;
    const std::string text = log();
    if (std::regex_search(text, match, address)) {
      port_ = static_cast<std::uint16_t>(std::stoi(match[1]));
      return;
    }
    if (!running()) throw std::runtime_error("the server ended: " + log());
    std::this_thread::sleep_for(20ms);
  }
  stop(SIGKILL);
  throw std::runtime_error("the server did not come up: " + log());
}

ServerProcess::~ServerProcess() {
  if (exit_code_ < 0) stop(SIGKILL);
}

bool ServerProcess::running() const {
  siginfo_t info = {};
  return exit_code_ < 0 &&
         ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
         info.si_pid == 0;
}

std::vector<pid_t> ServerProcess::children() const {
  std::vector<pid_t> out;
  std::error_code error;
  const std::filesystem::path tasks = "/proc/" + std::to_string(pid_) + "/task";
  for (const auto& task : std::filesystem::directory_iterator(tasks, error)) {
    std::istringstream list(contents(task.path() / "children"));
    for (pid_t child; list >> child;) out.push_back(child);
  }
  return out;
}

pid_t ServerProcess::host() const {
  for (int i = 0; i < 3000; ++i) {
    const auto hosts = children();
    if (hosts.size() == 1) return hosts.front();
    std::this_thread::sleep_for(20ms);
  }
  throw std::runtime_error("the server has no engine host: " + log());
}

std::string ServerProcess::log() const { return contents(folder_.path() / "log"); }

void ServerProcess::signal(int number) const { ::kill(pid_, number); }

int ServerProcess::stop(int number) {
  if (exit_code_ >= 0) return exit_code_;
  if (number != 0) signal(number);
  int status = 0;
  ::waitpid(pid_, &status, 0);
  exit_code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return exit_code_;
}

std::size_t ServerProcess::descriptors() const {
  const std::filesystem::directory_iterator all("/proc/" + std::to_string(pid_) + "/fd");
  return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

long ServerProcess::resident_kilobytes() const {
  std::istringstream status(contents("/proc/" + std::to_string(pid_) + "/status"));
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmRSS:")) return std::stol(line.substr(6));
  }
  return 0;
}

}  // namespace peregrine::testing
