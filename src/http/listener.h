// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/system/error_code.hpp>
#include <memory>

#include "http/shared.h"

namespace peregrine::http {

/// One listening socket: accepts clients and makes connections of them. Where the system has no descriptors
/// or memory left, it waits a little and goes on: clients wait in the backlog meanwhile. Lives on a strand,
/// but for the constructor and start().
class Listener : public std::enable_shared_from_this<Listener> {
 public:
  /// Binds. Throws boost::system::system_error. `shared` must outlive it.
  Listener(const boost::asio::ip::tcp::endpoint& endpoint, Shared& shared);

  boost::asio::ip::tcp::endpoint endpoint() const { return acceptor_.local_endpoint(); }
  /// Listens and accepts. Throws boost::system::system_error.
  void start();
  /// On the strand, or when no thread runs it.
  void close();
  /// From any thread.
  void post_close();

 private:
  void accept();
  void on_accept(const boost::system::error_code& error, boost::asio::ip::tcp::socket socket);
  void admit(boost::asio::ip::tcp::socket socket);
  void pause();

  Shared& shared_;
  boost::asio::ip::tcp::acceptor acceptor_;
  boost::asio::steady_timer timer_;
  bool paused_ = false;  // the last accept failed
};

}  // namespace peregrine::http
