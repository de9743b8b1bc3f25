// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "api/exchange.h"

namespace peregrine::http {

/// Limits of a listener. What goes beyond gets an answer that names the limit, where one can still be sent.
struct ServerOptions {
  std::string host = "0.0.0.0";  ///< Address to bind: IPv4 or IPv6, or a name.
  std::uint16_t port = 8080;     ///< 0: any free one.
  /// That connections share. They only move bytes and turn tokens into JSON: one serves some 100,000 tokens a
  /// second, and a second one costs more than it gives, since each hands work to the other.
  int threads = 1;
  std::uint64_t max_request_size = 64ull << 20;  ///< Bytes of body; 413 above.
  std::uint32_t max_header_size = 64u << 10;     ///< Bytes of request line and headers; 431 (or 414) above.
  std::uint32_t max_connections = 10000;         ///< 503 above.
  std::chrono::seconds header_timeout{30};  ///< From the first byte of a request to the end of its headers.
  std::chrono::seconds body_timeout{60};    ///< Without a byte of the body; 408 after.
  std::chrono::seconds body_total_timeout{600};  ///< For the whole body.
  std::chrono::seconds idle_timeout{75};         ///< Between requests on one connection.
  std::chrono::seconds write_timeout{120};  ///< Without a byte of the answer taken by the client's system.
};

/// HTTP/1.1 (and 1.0) over TCP: connections, limits, keep-alive, pipelining, chunked answers. Knows no
/// models: requests go to a Service whole, answers come from it in parts. A client that vanishes has its
/// exchange destroyed at once, also while it only waits; one that reads slowly is waited for without holding
/// anything else up.
class Server {
 public:
  /// Binds the address; connections are refused until start(). Throws Error (kInvalidArgument: address,
  /// kOverloaded: in use). `service` must outlive the server.
  Server(const ServerOptions& options, api::Service& service);
  ~Server();  ///< Ends all connections.
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  /// Listens and accepts. Throws as the constructor does, where another program has begun to listen
  /// meanwhile.
  void start();
  /// The port that is listened on.
  std::uint16_t port() const;
  /// Accepts no more connections, lets answers under way finish (each is the last of its connection), returns
  /// true when all have, or false when `limit` passed before.
  bool drain(std::chrono::milliseconds limit);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace peregrine::http
