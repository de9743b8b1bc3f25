// SPDX-License-Identifier: Apache-2.0
#include "support/http_client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <stdexcept>

namespace peregrine::testing {
namespace {

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

/// Bytes of a connection, by line or by number.
class Reader {
 public:
  explicit Reader(RawConnection& connection) : connection_(connection) {}

  /// A line without its CRLF; false at the end of the stream.
  bool line(std::string& out) {
    std::size_t end;
    while ((end = buffer_.find("\r\n")) == std::string::npos) {
      if (!more()) return false;
    }
    out = buffer_.substr(0, end);
    buffer_.erase(0, end + 2);
    return true;
  }

  /// Up to `limit` bytes, at least one; empty at the end of the stream.
  std::string some(std::size_t limit) {
    if (buffer_.empty() && !more()) return "";
    std::string out = buffer_.substr(0, limit);
    buffer_.erase(0, out.size());
    return out;
  }

 private:
  bool more() {
    const std::string bytes = connection_.receive();
    buffer_ += bytes;
    return !bytes.empty();
  }

  RawConnection& connection_;
  std::string buffer_;
};

/// Takes `size` bytes of body; false where the stream ends before, or `on_data` wants no more.
bool read_body(Reader& reader, std::size_t size, HttpResponse& response, const OnData& on_data) {
  while (size > 0) {
    const std::string piece = reader.some(size);
    if (piece.empty()) return false;
    size -= piece.size();
    response.body += piece;
    if (on_data && !on_data(piece)) return false;
  }
  return true;
}

bool read_chunks(Reader& reader, HttpResponse& response, const OnData& on_data) {
  std::string line;
  while (reader.line(line)) {
    const std::size_t size = std::stoul(line, nullptr, 16);
    if (size > 0 && !read_body(reader, size, response, on_data)) return false;
    if (!reader.line(line)) return false;
    if (size == 0) return true;
  }
  return false;
}

}  // namespace

RawConnection::RawConnection(std::uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const timeval limit = {120, 0};
  ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  ::setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
  if (::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    ::close(fd_);
    throw std::runtime_error("cannot connect to port " + std::to_string(port));
  }
}

RawConnection::~RawConnection() {
  if (fd_ >= 0) ::close(fd_);
}

bool RawConnection::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

std::string RawConnection::receive(std::size_t limit) {
  std::string out(limit, '\0');
  while (true) {
    const ssize_t got = ::recv(fd_, out.data(), out.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
      throw std::runtime_error("no answer in two minutes");
    out.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return out;
  }
}

void RawConnection::finish_sending() { ::shutdown(fd_, SHUT_WR); }

HttpResponse read_response(RawConnection& connection, const OnData& on_data, bool head_only) {
  HttpResponse response;
  Reader reader(connection);
  std::string line;
  if (!reader.line(line)) return response;
  response.status = std::stoi(line.substr(line.find(' ') + 1));
  while (reader.line(line) && !line.empty()) {
    const std::size_t colon = line.find(':');
    response.headers[lower(line.substr(0, colon))] = line.substr(line.find_first_not_of(' ', colon + 1));
  }
  if (head_only) {
    response.complete = true;
  } else if (response.headers.contains("content-length")) {
    response.complete = read_body(reader, std::stoul(response.headers["content-length"]), response, on_data);
  } else if (lower(response.headers["transfer-encoding"]) == "chunked") {
    response.complete = read_chunks(reader, response, on_data);
  } else {
    read_body(reader, std::string::npos, response, on_data);
    response.complete = true;
  }
  return response;
}

HttpResponse http_request(std::uint16_t port, const std::string& method, const std::string& path,
                          const std::string& body,
                          const std::vector<std::pair<std::string, std::string>>& headers,
                          const OnData& on_data) {
  std::string request = method + " " + path + " HTTP/1.1\r\nHost: localhost\r\n";
  bool typed = false;
  for (const auto& [name, value] : headers) {
    request += name + ": " + value + "\r\n";
    typed = typed || lower(name) == "content-type";
  }
  if (!body.empty() && !typed) request += "Content-Type: application/json\r\n";
  request += "Content-Length: " + std::to_string(body.size()) + "\r\nConnection: close\r\n\r\n" + body;
  RawConnection connection(port);
  connection.send(request);
  return read_response(connection, on_data, method == "HEAD");
}

}  // namespace peregrine::testing
