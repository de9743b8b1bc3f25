// SPDX-License-Identifier: Apache-2.0
#include "http/raw_client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <thread>

namespace peregrine::http {
namespace {

constexpr std::chrono::milliseconds kPatience{20'000};

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

}  // namespace

void sleep_a_little() { std::this_thread::sleep_for(std::chrono::milliseconds(5)); }

RawClient::RawClient(std::uint16_t port, int receive_buffer) {
  descriptor_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (receive_buffer > 0) {
    ::setsockopt(descriptor_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
  }
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(descriptor_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) close();
}

RawClient::~RawClient() { close(); }

void RawClient::close() {
  if (descriptor_ >= 0) ::close(descriptor_);
  descriptor_ = -1;
}

void RawClient::reset() {
  const linger now{1, 0};
  ::setsockopt(descriptor_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  close();
}

void RawClient::shut_send() { ::shutdown(descriptor_, SHUT_WR); }

bool RawClient::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(descriptor_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

std::string RawClient::read_some(std::size_t size, std::chrono::milliseconds limit) {
  std::string bytes(size, '\0');
  pollfd poll{descriptor_, POLLIN, 0};
  if (::poll(&poll, 1, static_cast<int>(limit.count())) <= 0) return {};
  const ssize_t count = ::recv(descriptor_, bytes.data(), size, 0);
  bytes.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
  return bytes;
}

bool RawClient::fill() {
  const std::string bytes = read_some(64u << 10, kPatience);
  buffer_ += bytes;
  return !bytes.empty();
}

bool RawClient::read_line(std::string& line) {
  std::size_t end = 0;
  while ((end = buffer_.find("\r\n")) == std::string::npos) {
    if (!fill()) return false;
  }
  line = buffer_.substr(0, end);
  buffer_.erase(0, end + 2);
  return true;
}

bool RawClient::read_bytes(std::size_t count, std::string& bytes) {
  while (buffer_.size() < count) {
    if (!fill()) {
      bytes += buffer_;
      buffer_.clear();
      return false;
    }
  }
  bytes.append(buffer_, 0, count);
  buffer_.erase(0, count);
  return true;
}

Answer RawClient::read_answer(bool body_expected) {
  Answer answer;
  std::string line;
  if (!read_line(line) || !line.starts_with("HTTP/1.1 ")) return answer;
  answer.status = std::stoi(line.substr(9));
  while (read_line(line) && !line.empty()) {
    const std::size_t colon = line.find(": ");
    if (colon == std::string::npos) return answer;
    answer.headers[lower(line.substr(0, colon))] = line.substr(colon + 2);
  }
  if (!body_expected || answer.status < 200 || answer.status == 204) {
    answer.complete = true;
  } else if (answer.headers.contains("content-length")) {
    answer.complete = read_bytes(std::stoul(answer.headers["content-length"]), answer.body);
  } else if (answer.headers.contains("transfer-encoding")) {
    std::size_t size = 1;
    while (size > 0 && read_line(line)) {
      size = std::stoul(line, nullptr, 16);
      if (!read_bytes(size, answer.body) || !read_line(line) || !line.empty()) return answer;
    }
    answer.complete = size == 0;
  } else {
    while (fill()) {
    }
    answer.body.swap(buffer_);
    answer.complete = true;
  }
  return answer;
}

bool RawClient::read_end() {
  if (!buffer_.empty()) return false;
  pollfd poll{descriptor_, POLLIN, 0};
  if (::poll(&poll, 1, static_cast<int>(kPatience.count())) <= 0) return false;
  char byte = 0;
  return ::recv(descriptor_, &byte, 1, 0) <= 0;
}

}  // namespace peregrine::http
