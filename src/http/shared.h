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
class Waker;

/// Connections that have something to write, from any thread to those that write. However many there are, the
/// input and output threads are woken once: a step of a model gives a token to each of its streams.
class WakeList {
 public:
  struct Entry {
    std::shared_ptr<Connection> connection;
    std::shared_ptr<Waker> waker;
  };

  explicit WakeList(boost::asio::io_context& io) : io_(io) {}

  /// Thread-safe. The entry is delivered on a thread of the context.
  void add(Entry entry);

 private:
  void deliver_all();

  boost::asio::io_context& io_;
  std::mutex mutex_;
  std::vector<Entry> entries_;  // guarded by mutex_
  bool posted_ = false;         // likewise: a task is under way that will deliver them
};

/// What the connections of a server share. Thread-safe, and outlives them all.
class Shared {
 public:
  Shared(const ServerOptions& server_options, api::Service& answering)
      : options(server_options),
        service(answering),
        io(server_options.threads < 1 ? 1 : server_options.threads) {}

  const ServerOptions options;
  api::Service& service;
  boost::asio::io_context io;
  WakeList woken{io};
  /// Where requests that have a body are handled: their JSON, templates and tokenizers must not hold up the
  /// streams of other connections, nor long bodies the short ones.
  boost::asio::thread_pool short_workers{1};
  boost::asio::thread_pool long_workers{2};
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
