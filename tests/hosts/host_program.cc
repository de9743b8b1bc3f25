// SPDX-License-Identifier: Apache-2.0
#include "hosts/host_program.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <span>
#include <system_error>
#include <utility>

namespace peregrine::testing {

using channel::wire::FromHost;
using channel::wire::Hello;
using channel::wire::ToHost;

HostProgram::HostProgram(std::vector<std::string> command) {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    throw std::system_error(errno, std::generic_category(), "socketpair");
  }
  const int inherited = ::dup(ends[1]);
  ::close(ends[1]);
  fd_ = ends[0];
  command.emplace_back("--channel-fd");
  command.push_back(std::to_string(inherited));
  std::vector<char*> arguments;
  for (std::string& word : command) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  pid_ = ::fork();
  if (pid_ == 0) {
    ::execv(arguments[0], arguments.data());
    ::_exit(127);
  }
  ::close(inherited);
}

HostProgram::~HostProgram() {
  close();
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    wait();
  }
}

void HostProgram::send(const ToHost& message) {
  std::string bytes;
  channel::append_frame(message, bytes);
  for (std::size_t sent = 0; sent < bytes.size();) {
    const ssize_t count = ::send(fd_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return;  // Gone: receive() tells.
    sent += static_cast<std::size_t>(count);
  }
}

bool HostProgram::says_something(std::chrono::milliseconds time) {
  std::array<char, 65536> chunk;
  while (!next_ && !ended_) {
    if (FromHost message; reader_.next(message)) {
      next_ = std::move(message);
      break;
    }
    pollfd ready{fd_, POLLIN, 0};
    if (::poll(&ready, 1, static_cast<int>(time.count())) <= 0) return false;
    const ssize_t count = ::recv(fd_, chunk.data(), chunk.size(), 0);
    if (count > 0) reader_.push(std::span(chunk).first(static_cast<std::size_t>(count)));
    ended_ = count <= 0;
  }
  return true;
}

std::optional<FromHost> HostProgram::receive() {
  if (!says_something(std::chrono::minutes(1))) ADD_FAILURE() << "the host says nothing";
  return std::exchange(next_, std::nullopt);
}

std::optional<Hello> HostProgram::greet(std::uint64_t epoch, std::uint32_t protocol) {
  ToHost message;
  message.mutable_hello()->set_protocol(protocol);
  message.mutable_hello()->set_version("test");
  message.mutable_hello()->set_epoch(epoch);
  send(message);
  const std::optional<FromHost> answer = receive();
  if (!answer || !answer->has_hello()) return std::nullopt;
  return answer->hello();
}

void HostProgram::close() {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

int HostProgram::wait() {
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace peregrine::testing
