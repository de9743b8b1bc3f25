// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/system/error_code.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "api/exchange.h"
#include "http/request_reader.h"
#include "http/response_writer.h"
#include "http/shared.h"

namespace peregrine::http {

class Connection;

/// Carries an exchange's wakes from any thread to its connection's strand, by way of the list of all that are
/// to be woken (WakeList). It outlives both; once detached, a wake does nothing and touches nothing of the
/// server.
class Waker : public std::enable_shared_from_this<Waker> {
 public:
  explicit Waker(Connection& connection) : connection_(&connection) {}

  /// From any thread. Those that come before the strand has seen the last are one with it.
  void wake();
  /// The list's turn: hands over to the strand.
  void deliver(std::shared_ptr<Connection> connection);
  void detach();
  bool attached();

 private:
  /// The strand has seen it.
  void accept();

  std::mutex mutex_;  // held for moments, and while a handler is posted
  Connection* connection_;
  bool pending_ = false;
};

/// One client, from accept to close: reads requests one after the other, has each answered, writes the
/// answers in order. Lives on a strand: but for the constructor, start() and drain(), everything happens
/// there, so there are no locks.
///
/// While a request is being answered it goes on reading into a bounded buffer, only to notice at once when
/// the client is gone. As in Go's net/http, the end of the client's stream counts as that: an answer that
/// still has to be waited for is cancelled. An answer that is complete when it is first asked for is given
/// nevertheless, so that a client which closes its half after the request gets what needs no waiting.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  /// `shared` must outlive it.
  Connection(boost::asio::ip::tcp::socket socket, Shared& shared);
  ~Connection();

  /// Begins. From any thread, once.
  void start();
  /// Begins and ends with an answer of status 503: there are too many connections.
  void start_refused();
  /// Ends it where it owes no answer. From any thread.
  void drain();
  /// Ends it at once. On the strand, or when no thread runs it any more.
  void close();

 private:
  friend class Waker;
  using Clock = std::chrono::steady_clock;

  enum class Phase : std::uint8_t {
    kReading,    ///< Waits for a request or has a part of one.
    kHandling,   ///< The request is with a worker.
    kAnswering,  ///< Its exchange, or an error, is being written.
    kDropping,   ///< Reads past the body of a request that was refused for its size.
    kLingering,  ///< Nothing more will be written; the client may still be sending.
    kClosed,
  };

  // Reading: connection.cc.
  bool idle() const;
  void begin_reading();
  void arm_read();
  void watch_for_reset();
  void on_readable();
  void on_input_end();
  void read_requests();
  bool read_one_request();
  void count_body();
  void drop_body();
  void linger();
  std::string_view pending() const { return std::string_view(input_).substr(input_taken_); }
  void take_pending(std::size_t bytes);
  void add_input(std::string_view bytes);

  // Time.
  void set_deadline(Clock::time_point deadline);
  void clear_deadline() { deadline_ = Clock::time_point::max(); }
  void arm_timer();
  void on_timer();
  void on_deadline();

  // Answering: connection_answer.cc.
  void answer(api::HttpRequest request, AnswerForm form);
  std::unique_ptr<api::Exchange> handle(api::HttpRequest request, const std::shared_ptr<Waker>& waker);
  void on_handled(std::unique_ptr<api::Exchange> exchange);
  void on_wake();
  void pump();
  void finish_answer();
  void end_exchange();
  void refuse(const Refusal& refusal, AnswerForm form);
  void flush();
  void on_written(const boost::system::error_code& error, std::size_t bytes);

  Shared& shared_;
  boost::asio::ip::tcp::socket socket_;
  const boost::asio::any_io_executor strand_;
  Phase phase_ = Phase::kReading;
  bool counted_ = false;      // among the shared connections
  bool finished_ = false;     // owes no answer any more
  bool input_ended_ = false;  // the client has closed its half

  std::string input_;  // read; the first input_taken_ bytes have been used
  std::size_t input_taken_ = 0;
  bool read_armed_ = false;
  bool reset_watched_ = false;
  RequestReader reader_;
  Clock::time_point body_deadline_{};
  std::size_t body_memory_ = 0;
  std::uint64_t drop_left_ = 0;
  std::uint64_t lingered_ = 0;

  boost::asio::steady_timer timer_;
  Clock::time_point deadline_ = Clock::time_point::max();
  bool timer_armed_ = false;

  std::shared_ptr<Waker> waker_;
  std::unique_ptr<api::Exchange> exchange_;
  ResponseWriter writer_;
  bool answer_complete_ = false;  // its last byte is in output_ or queued_
  std::string queued_;            // written next
  std::string output_;            // being written; the first output_sent_ bytes have been
  std::size_t output_sent_ = 0;
  bool writing_ = false;
  api::Head head_;
  std::string part_;
};

}  // namespace peregrine::http
