// SPDX-License-Identifier: Apache-2.0
// The answering half of Connection: exchanges, wakes and output.
#include <spdlog/spdlog.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/post.hpp>
#include <exception>
#include <utility>

#include "http/connection.h"

namespace peregrine::http {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

/// Longer bodies may take long to read, and have workers of their own.
constexpr std::size_t kShortBody = 16u << 10;
/// A body refused for its size is read to its end, and the connection kept, up to this many times the limit.
constexpr std::uint64_t kDropFactor = 4;
/// Output buffers that have grown beyond this are not kept.
constexpr std::size_t kKeptBuffer = 64u << 10;

}  // namespace

void Waker::wake() {
  const std::lock_guard lock(mutex_);
  if (connection_ == nullptr || pending_) return;
  // The connection detaches before it goes; this fails only where that is happening now.
  auto connection = connection_->weak_from_this().lock();
  if (!connection) return;
  pending_ = true;
  WakeList& list = connection->shared_.woken;
  list.add({std::move(connection), shared_from_this()});
}

void Waker::deliver(std::shared_ptr<Connection> connection) {
  const auto strand = connection->strand_;
  asio::dispatch(strand, [connection = std::move(connection), self = shared_from_this()] {
    self->accept();
    if (connection->waker_ == self) connection->on_wake();
  });
}

void Waker::accept() {
  const std::lock_guard lock(mutex_);
  pending_ = false;
}

void Waker::detach() {
  const std::lock_guard lock(mutex_);
  connection_ = nullptr;
}

bool Waker::attached() {
  const std::lock_guard lock(mutex_);
  return connection_ != nullptr;
}

void Connection::answer(api::HttpRequest request, AnswerForm form) {
  writer_ = ResponseWriter(form);
  head_ = {};
  answer_complete_ = false;
  waker_ = std::make_shared<Waker>(*this);
  if (request.body.empty()) {
    phase_ = Phase::kAnswering;
    on_handled(handle(std::move(request), waker_));
    return;
  }
  // JSON, chat templates and tokenizers take time, which the streams of other connections do not wait for.
  phase_ = Phase::kHandling;
  asio::thread_pool& workers =
      request.body.size() <= kShortBody ? shared_.short_workers : shared_.long_workers;
  asio::post(workers, [self = shared_from_this(), waker = waker_, request = std::move(request)]() mutable {
    if (!waker->attached()) return;  // the client has gone meanwhile
    auto exchange = self->handle(std::move(request), waker);
    asio::post(self->strand_,
               [self, exchange = std::move(exchange)]() mutable { self->on_handled(std::move(exchange)); });
  });
}

std::unique_ptr<api::Exchange> Connection::handle(api::HttpRequest request,
                                                  const std::shared_ptr<Waker>& waker) {
  try {
    return shared_.service.handle(std::move(request), [waker] { waker->wake(); });
  } catch (const std::exception& error) {
    spdlog::error("A request could not be handled: {}", error.what());
    return nullptr;
  }
}

void Connection::on_handled(std::unique_ptr<api::Exchange> exchange) {
  if (phase_ == Phase::kClosed) return;
  shared_.give_body_memory(std::exchange(body_memory_, 0));
  if (!exchange) return close();
  phase_ = Phase::kAnswering;
  exchange_ = std::move(exchange);
  // A 100 Continue that the client does not take must not last for ever either.
  if (writing_) set_deadline(Clock::now() + shared_.options.write_timeout);
  pump();
}

void Connection::on_wake() {
  if (phase_ == Phase::kAnswering && exchange_ && !answer_complete_) pump();
}

/// Asks the exchange for what it has and writes it. Nothing is asked while something is being written, so
/// that what a slow client does not take stays where it is, and comes in one piece later.
void Connection::pump() {
  if (writing_) return;
  part_.clear();
  const api::Exchange::State state = exchange_->next(head_, part_);
  if (state == api::Exchange::State::kWaiting) {
    if (input_ended_) close();
    return;
  }
  if (shared_.draining && !writer_.begun()) writer_.make_last();
  if (state == api::Exchange::State::kDone) {
    answer_complete_ = true;
    if (writer_.begun()) {
      writer_.write_part(part_, queued_);
      writer_.end(queued_);
    } else {
      writer_.write_whole(head_, part_, queued_);
    }
  } else {
    if (!writer_.begun()) writer_.begin(head_, queued_);
    writer_.write_part(part_, queued_);
    // A body that the client is not sent is not worth waiting for.
    if (!writer_.has_body()) answer_complete_ = true;
    if (input_ended_ && !answer_complete_) return close();
  }
  if (part_.capacity() > kKeptBuffer) part_ = {};
  flush();
}

void Connection::flush() {
  if (phase_ == Phase::kAnswering) set_deadline(Clock::now() + shared_.options.write_timeout);
  if (writing_) return;
  if (output_sent_ == output_.size()) {
    output_.clear();
    output_sent_ = 0;
    if (output_.capacity() > kKeptBuffer) output_ = {};
    output_.swap(queued_);
  }
  writing_ = true;
  // An empty write (the service had more, but nothing to show) still comes back by way of the strand.
  socket_.async_write_some(asio::buffer(output_) + output_sent_,
                           [self = shared_from_this()](const error_code& error, std::size_t bytes) {
                             self->on_written(error, bytes);
                           });
}

void Connection::on_written(const error_code& error, std::size_t bytes) {
  writing_ = false;
  if (phase_ == Phase::kClosed) return;
  if (error) return close();
  output_sent_ += bytes;
  if (output_sent_ < output_.size() || !queued_.empty()) return flush();
  if (phase_ != Phase::kAnswering) return;  // that was 100 Continue
  clear_deadline();
  if (answer_complete_) return finish_answer();
  if (exchange_) pump();
}

void Connection::end_exchange() {
  if (waker_) waker_->detach();
  waker_.reset();
  exchange_.reset();
}

void Connection::finish_answer() {
  end_exchange();
  answer_complete_ = false;
  if (!writer_.keeps_alive() || shared_.draining) return linger();
  if (drop_left_ > 0) {
    phase_ = Phase::kDropping;
    return drop_body();
  }
  begin_reading();
}

void Connection::refuse(const Refusal& refusal, AnswerForm form) {
  const std::uint64_t length = refusal.declared_length;
  api::Head head;
  std::string body;
  shared_.service.refuse(refusal.status, refusal.message, head, body);
  head.status = refusal.status;
  writer_ = ResponseWriter(form);
  if (refusal.status == 413) {  // LMI answers this one without a body
    head.content_type.clear();
    body.clear();
    if (length > 0 && length / kDropFactor <= shared_.options.max_request_size && !shared_.draining) {
      writer_.survive_error();
      if (form.keep_alive) drop_left_ = length;
      body_deadline_ = Clock::now() + shared_.options.body_total_timeout;
    }
  }
  reader_.reset();
  shared_.give_body_memory(std::exchange(body_memory_, 0));
  phase_ = Phase::kAnswering;
  answer_complete_ = true;
  writer_.write_whole(head, body, queued_);
  flush();
}

}  // namespace peregrine::http
