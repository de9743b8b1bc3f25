// SPDX-License-Identifier: Apache-2.0
#include "http/connection.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/post.hpp>
#include <utility>

namespace peregrine::http {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

/// What one read takes at most.
constexpr std::size_t kReadSize = 64u << 10;
/// What is read ahead while a request is being answered.
constexpr std::size_t kReadAhead = 64u << 10;
/// An idle connection keeps no larger input buffer than this.
constexpr std::size_t kIdleBuffer = 4u << 10;
/// This much of each body does not count towards the memory that all share, so that those who send large
/// bodies cannot shut out those who send small ones.
constexpr std::size_t kFreeBody = 64u << 10;
/// A client that is still sending has this long, and this many bytes, to read the answer before the
/// connection is cut: a cut while bytes arrive could take the answer with it.
constexpr std::chrono::seconds kLingerTime{5};
constexpr std::uint64_t kLingerBytes = 64u << 20;

}  // namespace

Connection::Connection(asio::ip::tcp::socket socket, Shared& shared)
    : shared_(shared),
      socket_(std::move(socket)),
      strand_(socket_.get_executor()),
      reader_({shared.options.max_header_size, shared.options.max_request_size}),
      timer_(strand_) {}

Connection::~Connection() { close(); }

void Connection::start() {
  shared_.add(shared_from_this());
  counted_ = true;
  asio::post(strand_, [self = shared_from_this()] {
    if (self->phase_ == Phase::kClosed) return;  // the server ended first
    error_code ignored;
    self->socket_.non_blocking(true, ignored);
    self->socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
    self->begin_reading();
  });
}

void Connection::start_refused() {
  shared_.add(shared_from_this());
  counted_ = true;
  asio::post(strand_, [self = shared_from_this()] {
    if (self->phase_ == Phase::kClosed) return;  // the server ended first
    error_code ignored;
    self->socket_.non_blocking(true, ignored);
    self->refuse({503,
                  fmt::format("The server has reached its limit of {} connections",
                              self->shared_.options.max_connections),
                  0},
                 {.keep_alive = false});
  });
}

void Connection::drain() {
  asio::post(strand_, [self = shared_from_this()] {
    if (self->idle()) self->close();
  });
}

/// Whether there is no trace of a request, not even unread.
bool Connection::idle() const {
  if (phase_ != Phase::kReading || reader_.begun() || !pending().empty()) return false;
  error_code error;
  return socket_.available(error) == 0;
}

void Connection::close() {
  if (phase_ == Phase::kClosed) return;
  phase_ = Phase::kClosed;
  end_exchange();
  error_code ignored;
  socket_.close(ignored);
  timer_.cancel();
  shared_.give_body_memory(std::exchange(body_memory_, 0));
  if (!counted_) return;
  if (!std::exchange(finished_, true)) shared_.count_finished();
  shared_.remove(this);
}

// ---- input

void Connection::take_pending(std::size_t bytes) {
  input_taken_ += bytes;
  if (input_taken_ < input_.size()) return;
  input_.clear();
  input_taken_ = 0;
}

void Connection::add_input(std::string_view bytes) {
  if (input_taken_ > 0) {
    input_.erase(0, input_taken_);
    input_taken_ = 0;
  }
  input_.append(bytes);
}

void Connection::arm_read() {
  if (read_armed_ || input_ended_ || phase_ == Phase::kClosed) return;
  const bool reading_ahead = phase_ == Phase::kHandling || phase_ == Phase::kAnswering;
  if (reading_ahead && pending().size() >= kReadAhead) return watch_for_reset();
  read_armed_ = true;
  // Waiting without a buffer: an idle connection costs none.
  socket_.async_wait(asio::ip::tcp::socket::wait_read, [self = shared_from_this()](const error_code& error) {
    self->read_armed_ = false;
    if (self->phase_ == Phase::kClosed) return;
    if (error) return self->close();
    self->on_readable();
  });
}

/// Where the read-ahead buffer is full, a client that has gone shows only by its reset.
void Connection::watch_for_reset() {
  if (std::exchange(reset_watched_, true)) return;
  socket_.async_wait(asio::ip::tcp::socket::wait_error,
                     [self = shared_from_this()](const error_code&) { self->close(); });
}

void Connection::on_readable() {
  std::array<char, kReadSize> bytes;
  error_code error;
  const std::size_t count = socket_.read_some(asio::buffer(bytes), error);
  if (error == asio::error::would_block || error == asio::error::try_again ||
      error == asio::error::interrupted) {
    return arm_read();
  }
  if (error == asio::error::eof) return on_input_end();
  if (error) return close();

  if (phase_ == Phase::kLingering) {
    lingered_ += count;
    return lingered_ > kLingerBytes ? close() : arm_read();
  }
  add_input({bytes.data(), count});
  if (phase_ == Phase::kReading) return read_requests();
  if (phase_ == Phase::kDropping) return drop_body();
  arm_read();
}

void Connection::on_input_end() {
  input_ended_ = true;
  // With a worker, the answer may turn out to be complete at once; pump() decides.
  if (phase_ == Phase::kHandling) return;
  if (phase_ == Phase::kAnswering && answer_complete_) return;
  close();
}

// ---- requests

void Connection::begin_reading() {
  phase_ = Phase::kReading;
  if (shared_.draining && idle()) return close();
  set_deadline(Clock::now() + shared_.options.idle_timeout);
  read_requests();
}

void Connection::read_requests() {
  while (phase_ == Phase::kReading && !pending().empty()) {
    if (!read_one_request()) break;
  }
  if (phase_ == Phase::kClosed) return;
  if (phase_ == Phase::kReading) {
    if (input_ended_) return close();  // in the midst of a request, or after the last
    if (pending().empty() && input_.capacity() > kIdleBuffer && !reader_.begun()) input_ = {};
  }
  arm_read();
}

/// Feeds the reader; false where it needs more input.
bool Connection::read_one_request() {
  const bool had_begun = reader_.begun();
  std::string_view input = pending();
  const std::size_t size = input.size();
  const RequestReader::Progress progress = reader_.read(input);
  take_pending(size - input.size());
  const Clock::time_point now = Clock::now();
  if (!had_begun && reader_.begun()) set_deadline(now + shared_.options.header_timeout);

  switch (progress) {
    case RequestReader::Progress::kHead:
      body_deadline_ = now + shared_.options.body_total_timeout;
      set_deadline(std::min(now + shared_.options.body_timeout, body_deadline_));
      if (reader_.expects_continue() && pending().empty()) {
        queued_.append("HTTP/1.1 100 Continue\r\n\r\n");
        flush();
      }
      return true;
    case RequestReader::Progress::kNeedMore:
      if (reader_.has_head()) {
        set_deadline(std::min(now + shared_.options.body_timeout, body_deadline_));
        count_body();
      }
      return false;
    case RequestReader::Progress::kRefused:
      refuse(reader_.refusal(), reader_.form());
      return true;
    case RequestReader::Progress::kWhole: {
      const AnswerForm form = reader_.form();
      api::HttpRequest request = reader_.take();
      reader_.reset();
      clear_deadline();
      answer(std::move(request), form);
      return true;
    }
  }
  return false;
}

/// Takes what the body has grown by from the memory that all bodies share.
void Connection::count_body() {
  const std::size_t size = std::max(reader_.body_size(), kFreeBody) - kFreeBody;
  if (size <= body_memory_) return;
  if (shared_.take_body_memory(size - body_memory_)) {
    body_memory_ = size;
    return;
  }
  refuse({503, "Too many large requests are being received: try again later", 0}, reader_.form());
}

void Connection::drop_body() {
  const std::uint64_t dropped = std::min<std::uint64_t>(drop_left_, pending().size());
  drop_left_ -= dropped;
  take_pending(static_cast<std::size_t>(dropped));
  if (drop_left_ == 0) return begin_reading();
  if (input_ended_) return close();
  set_deadline(std::min(Clock::now() + shared_.options.body_timeout, body_deadline_));
  arm_read();
}

void Connection::linger() {
  phase_ = Phase::kLingering;
  input_ = {};
  input_taken_ = 0;
  if (!std::exchange(finished_, true)) shared_.count_finished();
  error_code error;
  socket_.shutdown(asio::ip::tcp::socket::shutdown_send, error);
  if (error || input_ended_) return close();
  set_deadline(Clock::now() + kLingerTime);
  arm_read();
}

// ---- time

void Connection::set_deadline(Clock::time_point deadline) {
  deadline_ = deadline;
  // A timer that fires too early is set again then; that is cheaper than setting it at every byte.
  if (!timer_armed_ || deadline < timer_.expiry()) arm_timer();
}

void Connection::arm_timer() {
  timer_armed_ = true;
  timer_.expires_at(deadline_);
  timer_.async_wait([self = shared_from_this()](const error_code& error) {
    if (error || self->phase_ == Phase::kClosed) return;
    self->on_timer();
  });
}

void Connection::on_timer() {
  timer_armed_ = false;
  if (deadline_ == Clock::time_point::max()) return;
  if (Clock::now() < deadline_) return arm_timer();
  clear_deadline();
  on_deadline();
}

void Connection::on_deadline() {
  const ServerOptions& options = shared_.options;
  if (phase_ == Phase::kReading && reader_.has_head()) {
    const bool stalled = Clock::now() < body_deadline_;
    return refuse(
        {408,
         stalled ? fmt::format("No byte of the body came for {} s", options.body_timeout.count())
                 : fmt::format("The body took longer than {} s", options.body_total_timeout.count()),
         0},
        reader_.form());
  }
  if (phase_ == Phase::kReading && reader_.begun()) {
    return refuse({408, fmt::format("The headers took longer than {} s", options.header_timeout.count()), 0},
                  reader_.form());
  }
  // A client that takes nothing must not keep what the system still holds for it either.
  error_code ignored;
  if (phase_ == Phase::kAnswering) socket_.set_option(asio::socket_base::linger(true, 0), ignored);
  close();
}

}  // namespace peregrine::http
