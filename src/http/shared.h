// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/thread_pool.hpp>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "api/exchange.h"
#include "http/server.h"

namespace peregrine::http {

class Connection;

/// What the connections of a server share. Thread-safe, and outlives them all.
class Shared {
 public:
  Shared(const ServerOptions& server_options, api::Service& answering)
      : options(server_options), service(answering) {}

  const ServerOptions options;
  api::Service& service;
  boost::asio::io_context io;
  /// Where long bodies are handled, so that their parsing does not hold up the streams of other connections.
  boost::asio::thread_pool workers{2};
  /// No request begins any more, and every answer is the last of its connection.
  std::atomic<bool> draining{false};

  void add(const std::shared_ptr<Connection>& connection);
  /// The connection owes no answer any more. Once for each, before or with remove().
  void count_finished();
  /// The connection is closed.
  void remove(const Connection* connection);

  /// Those that are not closed.
  std::size_t count() const;
  std::vector<std::shared_ptr<Connection>> connections() const;
  /// Waits until all are finished; false where `limit` passed before.
  bool wait_finished(std::chrono::milliseconds limit);

  /// Memory for bodies that are being read, over all connections: true where `bytes` more are within it.
  bool take_body_memory(std::size_t bytes);
  void give_body_memory(std::size_t bytes);

 private:
  mutable std::mutex mutex_;
  std::condition_variable finished_;
  std::unordered_map<const Connection*, std::weak_ptr<Connection>> connections_;
  std::size_t unfinished_ = 0;
  std::atomic<std::uint64_t> body_memory_{0};
};

}  // namespace peregrine::http
