// SPDX-License-Identifier: Apache-2.0
#include "http/listener.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>

#include <boost/asio/error.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/strand.hpp>
#include <chrono>
#include <exception>
#include <utility>

#include "http/connection.h"

namespace peregrine::http {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

constexpr std::chrono::milliseconds kPause{100};
/// Connections beyond the limit that may be told so at once; more are closed without a word.
constexpr std::size_t kRefusedAtOnce = 256;
/// The system may allow fewer.
constexpr int kBacklog = 4096;

/// Keeps a socket from programs that this one starts: a client would not see the end of its connection while
/// one of them still held it.
void close_on_exec(int descriptor) { ::fcntl(descriptor, F_SETFD, FD_CLOEXEC); }

}  // namespace

Listener::Listener(const tcp::endpoint& endpoint, Shared& shared)
    : shared_(shared), acceptor_(asio::make_strand(shared.io)), timer_(acceptor_.get_executor()) {
  acceptor_.open(endpoint.protocol());
  close_on_exec(acceptor_.native_handle());
  acceptor_.set_option(tcp::acceptor::reuse_address(true));
  if (endpoint.protocol() == tcp::v6()) {
    // "::" means every address, those of IPv4 too.
    error_code ignored;
    acceptor_.set_option(asio::ip::v6_only(!endpoint.address().is_unspecified()), ignored);
  }
  acceptor_.bind(endpoint);
}

void Listener::start() {
  acceptor_.listen(kBacklog);
  asio::post(acceptor_.get_executor(), [self = shared_from_this()] { self->accept(); });
}

void Listener::close() {
  error_code ignored;
  acceptor_.close(ignored);
  timer_.cancel();
}

void Listener::post_close() {
  asio::post(acceptor_.get_executor(), [self = shared_from_this()] { self->close(); });
}

void Listener::accept() {
  if (!acceptor_.is_open()) return;
  acceptor_.async_accept(asio::make_strand(shared_.io),
                         [self = shared_from_this()](const error_code& error, tcp::socket socket) {
                           self->on_accept(error, std::move(socket));
                         });
}

void Listener::on_accept(const error_code& error, tcp::socket socket) {
  if (!acceptor_.is_open()) return;
  if (!error) {
    if (std::exchange(paused_, false)) spdlog::info("Connections are accepted again");
    try {
      admit(std::move(socket));
    } catch (const std::exception& failure) {  // lack of memory must not end the listening
      spdlog::error("A connection could not be served: {}", failure.what());
      return pause();
    }
  } else if (error != asio::error::connection_aborted && error != asio::error::interrupted) {
    if (!std::exchange(paused_, true)) {
      spdlog::warn("No connection can be accepted now ({}); will try again every {} ms", error.message(),
                   kPause.count());
    }
    return pause();
  }
  accept();
}

void Listener::admit(tcp::socket socket) {
  close_on_exec(socket.native_handle());
  const std::size_t open = shared_.count();
  const std::size_t limit = shared_.options.max_connections;
  if (open >= limit + kRefusedAtOnce) return;
  const auto connection = std::make_shared<Connection>(std::move(socket), shared_);
  if (open < limit) {
    connection->start();
  } else {
    connection->start_refused();
  }
}

void Listener::pause() {
  timer_.expires_after(kPause);
  timer_.async_wait([self = shared_from_this()](const error_code& error) {
    if (!error) self->accept();
  });
}

}  // namespace peregrine::http
