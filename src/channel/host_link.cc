// SPDX-License-Identifier: Apache-2.0
#include "channel/host_link.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <span>
#include <string_view>

#include "core/error.h"

namespace peregrine::channel {
namespace {

using core::ErrorKind;
using core::fail;

constexpr std::size_t kReadBytes = 64u << 10;
/// A buffer that one large message has grown beyond this is given back after it.
constexpr std::size_t kKeptCapacity = 1u << 20;

bool peer_is_gone(int error) { return error == EPIPE || error == ECONNRESET || error == ENOTCONN; }

/// Writes all of `bytes`; false when the other end is gone.
bool write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    // Without MSG_NOSIGNAL a server that has gone would end this process by SIGPIPE.
    const ssize_t count = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (count >= 0) {
      bytes.remove_prefix(static_cast<std::size_t>(count));
    } else if (peer_is_gone(errno)) {
      return false;
    } else if (errno != EINTR) {
      fail(ErrorKind::kInternal, "writing to the channel (descriptor {}) failed: {}", fd,
           std::strerror(errno));
    }
  }
  return true;
}

}  // namespace

HostLink::HostLink(int fd) : fd_(fd) {
  // The calls here wait, and programs that the host starts must not hold the channel open.
  const int flags = ::fcntl(fd_, F_GETFL);
  if (flags >= 0 && (flags & O_NONBLOCK) != 0) ::fcntl(fd_, F_SETFL, flags & ~O_NONBLOCK);
  ::fcntl(fd_, F_SETFD, FD_CLOEXEC);
}

HostLink::~HostLink() {
  if (fd_ >= 0) ::close(fd_);
}

wire::Hello HostLink::greet(const std::string& version, const std::vector<std::string>& capabilities) {
  wire::ToHost first;
  if (!receive(first)) {
    fail(ErrorKind::kInternal, "the server closed the channel before its Hello");
  }
  wire::FromHost answer;
  wire::Hello& own = *answer.mutable_hello();
  own.set_protocol(kProtocolVersion);
  own.set_version(version);
  for (const std::string& capability : capabilities) own.add_capabilities(capability);
  own.set_epoch(first.hello().epoch());
  send(answer);

  if (!first.has_hello()) {
    fail(
        ErrorKind::kInvalidArgument,
        "the server's first message on the channel must be Hello, found kind {}; this host is version {} and "
        "speaks protocol {}",
        static_cast<int>(first.kind_case()), version, kProtocolVersion);
  }
  if (first.hello().protocol() != kProtocolVersion) {
    fail(ErrorKind::kInvalidArgument,
         "the server (version {}) speaks protocol {} and this host (version {}) speaks {}; both must be of "
         "one "
         "release",
         core::quoted(first.hello().version()), first.hello().protocol(), version, kProtocolVersion);
  }
  return first.hello();
}

bool HostLink::receive(wire::ToHost& message) {
  std::array<char, kReadBytes> chunk;
  while (!reader_.next(message)) {
    const ssize_t count = ::recv(fd_, chunk.data(), chunk.size(), 0);
    if (count == 0) return false;
    if (count > 0) {
      reader_.push(std::span(chunk).first(static_cast<std::size_t>(count)));
    } else if (peer_is_gone(errno)) {
      return false;
    } else if (errno != EINTR) {
      fail(ErrorKind::kInternal, "reading from the channel (descriptor {}) failed: {}", fd_,
           std::strerror(errno));
    }
  }
  return true;
}

bool HostLink::send(const wire::FromHost& message) {
  const std::lock_guard lock(send_mutex_);
  send_buffer_.clear();
  append_frame(message, send_buffer_);
  const bool sent = write_all(fd_, send_buffer_);
  if (send_buffer_.capacity() > kKeptCapacity) std::string().swap(send_buffer_);
  return sent;
}

}  // namespace peregrine::channel
