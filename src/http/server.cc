// SPDX-License-Identifier: Apache-2.0
#include "http/server.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <exception>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "http/connection.h"
#include "http/listener.h"
#include "http/shared.h"

namespace peregrine::http {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

/// The addresses that a name stands for, or the one address that is given; brackets around IPv6 are allowed.
std::vector<tcp::endpoint> resolve(asio::io_context& io, const ServerOptions& options) {
  std::string host = options.host;
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  if (host.empty()) core::fail(core::ErrorKind::kInvalidArgument, "The address to listen on is empty");
  error_code error;
  tcp::resolver resolver(io);
  const auto results =
      resolver.resolve(host, std::to_string(options.port),
                       asio::ip::resolver_base::passive | asio::ip::resolver_base::numeric_service, error);
  if (error) {
    core::fail(core::ErrorKind::kInvalidArgument, "The address to listen on, {}, is unknown: {}",
               core::quoted(options.host), error.message());
  }
  std::vector<tcp::endpoint> endpoints;
  for (const auto& entry : results) {
    const auto same = std::find(endpoints.begin(), endpoints.end(), entry.endpoint());
    if (same == endpoints.end()) endpoints.push_back(entry.endpoint());
  }
  return endpoints;
}

[[noreturn]] void fail_to_listen(const tcp::endpoint& endpoint, const error_code& error) {
  const bool taken = error == asio::error::address_in_use;
  core::fail(taken ? core::ErrorKind::kOverloaded : core::ErrorKind::kInvalidArgument,
             "Cannot listen on {} port {}: {}", endpoint.address().to_string(), endpoint.port(),
             taken ? "another program does already" : error.message());
}

}  // namespace

struct Server::Impl {
  Impl(const ServerOptions& options, api::Service& service) : shared(options, service) { listen(); }
  ~Impl();

  void listen();
  void start();
  void run_io();
  void stop_listening();

  Shared shared;
  std::vector<std::shared_ptr<Listener>> listeners;
  std::uint16_t port = 0;
  std::vector<std::thread> threads;
};

/// Listens on every address of the name that this machine has ("localhost" often has one of each family), all
/// with the same port.
void Server::Impl::listen() {
  std::vector<tcp::endpoint> endpoints = resolve(shared.io, shared.options);
  for (tcp::endpoint& endpoint : endpoints) {
    if (port != 0) endpoint.port(port);
    try {
      listeners.push_back(std::make_shared<Listener>(endpoint, shared));
    } catch (const boost::system::system_error& failure) {
      const bool lacking = failure.code() == asio::error::address_family_not_supported ||
                           failure.code() == boost::system::errc::address_not_available;
      const bool last = &endpoint == &endpoints.back();
      if (!lacking || (last && listeners.empty())) fail_to_listen(endpoint, failure.code());
      continue;
    }
    port = listeners.back()->endpoint().port();
  }
}

void Server::Impl::run_io() {
  for (;;) {
    try {
      shared.io.run();
      return;
    } catch (const std::exception& error) {
      // Lack of memory, most likely. The connection that it befell is gone; the others go on.
      spdlog::error("A connection failed: {}", error.what());
    }
  }
}

void Server::Impl::start() {
  if (!threads.empty()) return;
  for (const auto& listener : listeners) {
    try {
      listener->start();
    } catch (const boost::system::system_error& failure) {
      fail_to_listen(listener->endpoint(), failure.code());
    }
  }
  const int count = std::max(shared.options.threads, 1);
  for (int i = 0; i < count; ++i) threads.emplace_back([this] { run_io(); });
}

void Server::Impl::stop_listening() {
  for (const auto& listener : listeners) {
    if (threads.empty()) {
      listener->close();
    } else {
      listener->post_close();
    }
  }
}

Server::Impl::~Impl() {
  shared.io.stop();
  for (std::thread& thread : threads) thread.join();
  shared.short_workers.stop();
  shared.long_workers.stop();
  shared.short_workers.join();
  shared.long_workers.join();
  // From here on this is the only thread, and stands for every strand.
  for (const auto& listener : listeners) listener->close();
  for (const auto& connection : shared.connections()) connection->close();
  // What was under way ends as cancelled, and lets go of its connection.
  shared.io.restart();
  run_io();
}

Server::Server(const ServerOptions& options, api::Service& service)
    : impl_(std::make_unique<Impl>(options, service)) {}
Server::~Server() = default;

void Server::start() { impl_->start(); }
std::uint16_t Server::port() const { return impl_->port; }

bool Server::drain(std::chrono::milliseconds limit) {
  impl_->shared.draining = true;
  impl_->stop_listening();
  for (const auto& connection : impl_->shared.connections()) connection->drain();
  return impl_->shared.wait_finished(limit);
}

}  // namespace peregrine::http
