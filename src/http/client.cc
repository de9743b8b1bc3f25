// SPDX-License-Identifier: Apache-2.0
#include "http/client.h"

#include <fmt/format.h>

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/buffer_body.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>
#include <charconv>

#include "core/error.h"

namespace peregrine::http {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
using asio::ip::tcp;
using boost::system::error_code;
using core::ErrorKind;

/// One exchange. Every step is asynchronous, because only those have Beast's time limit, and waited for.
class Exchange {
 public:
  Exchange(const ServerAddress& address, const ClientRequest& request)
      : address_(address), request_(request), stream_(context_) {}

  int run() {
    connect();
    send();
    return receive();
  }

 private:
  /// Waits for the one step that was begun.
  void wait(const char* what) {
    context_.restart();
    context_.run();
    if (!error_ || error_ == beast::http::error::need_buffer) return;
    const bool late = error_ == beast::error::timeout;
    core::fail(
        late ? ErrorKind::kDeadline : ErrorKind::kOverloaded, "{} http://{}:{}{}{}: {}", what, address_.host,
        address_.port, address_.path, request_.target,
        late ? fmt::format("not done after {} s", request_.timeout.count() / 1000.0) : error_.message());
  }

  void connect() {
    tcp::resolver resolver(context_);
    const auto found = resolver.resolve(address_.host, std::to_string(address_.port), error_);
    wait("cannot find");
    stream_.expires_after(request_.timeout);
    stream_.async_connect(found, [this](error_code error, const tcp::endpoint&) { error_ = error; });
    wait("cannot connect to");
    stream_.socket().set_option(tcp::no_delay(true), error_);
  }

  void send() {
    const auto verb = request_.body.empty() ? beast::http::verb::get : beast::http::verb::post;
    beast::http::request<beast::http::string_body> message{verb, address_.path + request_.target, 11};
    message.set(beast::http::field::host, fmt::format("{}:{}", address_.host, address_.port));
    message.set(beast::http::field::connection, "close");
    if (!request_.body.empty()) message.set(beast::http::field::content_type, "application/json");
    message.body() = request_.body;
    message.prepare_payload();
    beast::http::async_write(stream_, message, [this](error_code error, std::size_t) { error_ = error; });
    wait("cannot send to");
  }

  int receive() {
    beast::http::response_parser<beast::http::buffer_body> parser;
    parser.body_limit(boost::none);
    beast::flat_buffer buffer;
    beast::http::async_read_header(stream_, buffer, parser,
                                   [this](error_code error, std::size_t) { error_ = error; });
    wait("no answer from");
    std::array<char, 16384> piece;
    while (!parser.is_done()) {
      parser.get().body().data = piece.data();
      parser.get().body().size = piece.size();
      beast::http::async_read_some(stream_, buffer, parser,
                                   [this](error_code error, std::size_t) { error_ = error; });
      wait("the answer was cut off by");
      const std::size_t read = piece.size() - parser.get().body().size;
      if (read > 0 && request_.on_data) request_.on_data({piece.data(), read});
    }
    return static_cast<int>(parser.get().result_int());
  }

  const ServerAddress& address_;
  const ClientRequest& request_;
  asio::io_context context_{1};
  beast::tcp_stream stream_;
  error_code error_;
};

}  // namespace

ServerAddress parse_address(std::string_view url) {
  constexpr std::string_view kScheme = "http://";
  const auto refuse = [&](ErrorKind kind, std::string_view why) {
    core::fail(kind, "{} is not http://HOST[:PORT][/PATH]: {}", core::quoted(url), why);
  };
  if (url.starts_with("https://")) refuse(ErrorKind::kUnsupported, "https is not supported here");
  if (!url.starts_with(kScheme)) refuse(ErrorKind::kInvalidArgument, "it does not begin with http://");
  const std::string_view rest = url.substr(kScheme.size());
  const std::string_view authority = rest.substr(0, rest.find('/'));
  ServerAddress out;
  out.path = rest.substr(authority.size());
  while (out.path.ends_with('/')) out.path.pop_back();
  const std::size_t colon = authority.rfind(':');
  const bool has_port =
      colon != std::string_view::npos && authority.find(']', colon) == std::string_view::npos;
  std::string_view host = authority.substr(0, has_port ? colon : std::string_view::npos);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  out.host = host;
  if (out.host.empty()) refuse(ErrorKind::kInvalidArgument, "it names no host");
  if (has_port) {
    const std::string_view port = authority.substr(colon + 1);
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), out.port);
    if (error != std::errc() || end != port.data() + port.size() || out.port == 0)
      refuse(ErrorKind::kInvalidArgument, "the port must be from 1 to 65535");
  }
  return out;
}

int Client::exchange(const ClientRequest& request) const { return Exchange(address_, request).run(); }

}  // namespace peregrine::http
