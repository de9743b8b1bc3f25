// SPDX-License-Identifier: Apache-2.0
#include "http/fake_service.h"

#include <fmt/format.h>

#include <utility>

namespace peregrine::http {
namespace {

using State = api::Exchange::State;
using Next = std::function<State(api::Head&, std::string&)>;

class FakeExchange : public api::Exchange {
 public:
  FakeExchange(std::atomic<int>& count, std::atomic<std::thread::id>& thread, Next next)
      : count_(count), thread_(thread), next_(std::move(next)) {
    ++count_;
  }
  ~FakeExchange() override { --count_; }
  State next(api::Head& head, std::string& body) override {
    thread_ = std::this_thread::get_id();
    return next_(head, body);
  }

 private:
  std::atomic<int>& count_;
  std::atomic<std::thread::id>& thread_;
  Next next_;
};

Next whole(api::Head answer, std::string text) {
  return [answer = std::move(answer), text = std::move(text)](api::Head& head, std::string& body) {
    head = answer;
    body += text;
    return State::kDone;
  };
}

Next parts(int count, const std::string& part, std::atomic<int>& asked) {
  return [=, &asked, given = 0](api::Head& head, std::string& body) mutable {
    head.content_type = "text/plain";
    ++asked;
    body += part;
    return ++given < count ? State::kMore : State::kDone;
  };
}

Next empty_parts() {
  return [given = 0](api::Head&, std::string& body) mutable {
    if (++given != 2) body += fmt::format("part {}\n", given);
    return given < 3 ? State::kMore : State::kDone;
  };
}

int number(const std::string& text) { return text.empty() ? 0 : std::stoi(text); }

}  // namespace

FakeService::FakeService() : thread_([this] { run_later(); }) {}

FakeService::~FakeService() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void FakeService::run_later() {
  std::unique_lock lock(mutex_);
  while (!ending_) {
    changed_.wait(lock, [&] { return ending_ || !later_.empty(); });
    std::vector<std::function<void()>> functions = std::exchange(later_, {});
    lock.unlock();
    for (const auto& function : functions) function();
    functions.clear();
    lock.lock();
  }
}

void FakeService::later(std::function<void()> function) {
  {
    const std::lock_guard lock(mutex_);
    later_.push_back(std::move(function));
  }
  changed_.notify_all();
}

void FakeService::release() {
  std::vector<std::function<void()>> wakes;
  {
    const std::lock_guard lock(mutex_);
    released_ = true;
    wakes = std::exchange(waiting_, {});
  }
  changed_.notify_all();
  for (const auto& wake : wakes) wake();
}

std::unique_ptr<api::Exchange> FakeService::handle(api::HttpRequest request, std::function<void()> wake) {
  ++handled;
  handled_on_ = std::this_thread::get_id();
  if (slow_handle && request.body.size() > (16u << 10)) {
    ++in_slow_handle;
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return released_.load(); });
  }
  const auto make = [&](Next next) {
    return std::make_unique<FakeExchange>(exchanges, asked_on_, std::move(next));
  };
  if (request.path == "/wait") {
    {
      const std::lock_guard lock(mutex_);
      waiting_.push_back(wake);
    }
    wake();  // one that comes early
    return make([this](api::Head&, std::string& body) {
      if (!released_) return State::kWaiting;
      body += "released";
      return State::kDone;
    });
  }
  if (request.path == "/ticks") {
    auto ready = std::make_shared<std::atomic<int>>(0);
    const auto tick = [ready, wake] {
      ++*ready;
      wake();
    };
    later(tick);
    return make(
        [this, tick, ready, count = number(request.query), given = 0](api::Head&, std::string& body) mutable {
          if (given == *ready) return State::kWaiting;
          body += fmt::format("tick {}\n", given++);
          if (given == count) return State::kDone;
          later(tick);
          return State::kMore;
        });
  }
  if (request.path == "/stream")
    return make(parts(number(request.query), std::string(64u << 10, 'x'), stream_parts));
  if (request.path == "/empty") return make(empty_parts());
  if (request.path == "/status") {
    api::Head head{.status = number(request.query), .content_type = "text/plain\r\nEvil: 1", .headers = {}};
    head.headers = {{"X-Value", "a\r\nEvil: 2"}, {"Bad Name", "b"}, {"content-length", "1"}};
    return make(whole(std::move(head), "body"));
  }
  if (request.path == "/fail") {
    return make([given = 0](api::Head& head, std::string& body) mutable {
      head.status = 503;
      body += "sorry";
      return ++given < 2 ? State::kMore : State::kDone;
    });
  }
  std::string text = fmt::format("{} {}?{}\n{}", request.method, request.path, request.query, request.body);
  return make(whole({.status = 200, .content_type = "text/plain", .headers = {}}, std::move(text)));
}

void FakeService::refuse(int status, std::string_view message, api::Head& head, std::string& body) {
  head.status = status;
  head.content_type = "application/json";
  body += fmt::format("{}\n", message);
}

}  // namespace peregrine::http
