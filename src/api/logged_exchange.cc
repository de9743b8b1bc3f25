// SPDX-License-Identifier: Apache-2.0
#include "api/logged_exchange.h"

#include <chrono>
#include <exception>
#include <utility>

#include "core/error.h"
#include "core/log.h"

namespace peregrine::api {
namespace {

using Clock = std::chrono::steady_clock;

class Reply : public Exchange {
 public:
  Reply(Head head, std::string body) : head_(std::move(head)), body_(std::move(body)) {}

  State next(Head& head, std::string& body) override {
    head = std::move(head_);
    body += body_;
    body_.clear();
    return State::kDone;
  }

 private:
  Head head_;
  std::string body_;
};

class LoggedExchange : public Exchange {
 public:
  LoggedExchange(std::unique_ptr<Exchange> inner, ExchangeInfo info, std::shared_ptr<const RequestLog> log,
                 serving::Metrics& metrics)
      : inner_(std::move(inner)), info_(std::move(info)), log_(std::move(log)), metrics_(metrics) {}

  ~LoggedExchange() override {
    inner_.reset();
    try {
      report();
    } catch (const std::exception&) {
      // A log line is not worth a crash.
    }
  }

  State next(Head& head, std::string& body) override {
    const std::size_t before = body.size();
    const State state = inner_->next(head, body);
    bytes_ += body.size() - before;
    if (state != State::kWaiting && status_ == 0) {
      status_ = head.status;
      add_common_headers(head, log_->request_id);
    }
    if (state == State::kDone) done_ = true;
    return state;
  }

 private:
  void report() const {
    constexpr int kClientGone = 499;  // nginx's number for it
    const int status = done_ ? status_ : kClientGone;
    const double seconds = std::chrono::duration<double>(Clock::now() - info_.begin).count();
    metrics_.http_request(info_.route, status, seconds);
    const auto level = info_.quiet && status < 500 ? spdlog::level::debug : spdlog::level::info;
    if (log_->model.empty()) {
      spdlog::log(level, "request request_id={} method={} route={} status={} total_seconds={:.3f} bytes={}",
                  log_->request_id, core::quoted(info_.method, 16), info_.route, status, seconds, bytes_);
      return;
    }
    spdlog::log(
        level,
        "request request_id={} method={} route={} status={} model={} prompt_tokens={} generated_tokens={} "
        "queued_seconds={:.3f} first_token_seconds={:.3f} total_seconds={:.3f} bytes={}",
        log_->request_id, core::quoted(info_.method, 16), info_.route, status, log_->model,
        log_->prompt_tokens, log_->generated_tokens, log_->queued_seconds, log_->first_token_seconds, seconds,
        bytes_);
  }

  std::unique_ptr<Exchange> inner_;
  ExchangeInfo info_;
  std::shared_ptr<const RequestLog> log_;
  serving::Metrics& metrics_;
  std::size_t bytes_ = 0;
  int status_ = 0;  ///< 0 until the head was given.
  bool done_ = false;
};

}  // namespace

void add_common_headers(Head& head, const std::string& request_id) {
  head.headers.emplace_back("x-request-id", request_id);
  head.headers.emplace_back("Pragma", "no-cache");
  head.headers.emplace_back("Cache-Control", "no-cache; no-store, must-revalidate, private");
  head.headers.emplace_back("Expires", "Thu, 01 Jan 1970 00:00:00 UTC");
}

std::unique_ptr<Exchange> make_reply(Head head, std::string body) {
  return std::make_unique<Reply>(std::move(head), std::move(body));
}

std::unique_ptr<Exchange> log_exchange(std::unique_ptr<Exchange> exchange, ExchangeInfo info,
                                       std::shared_ptr<const RequestLog> log, serving::Metrics& metrics) {
  return std::make_unique<LoggedExchange>(std::move(exchange), std::move(info), std::move(log), metrics);
}

}  // namespace peregrine::api
