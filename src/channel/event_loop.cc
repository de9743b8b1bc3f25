// SPDX-License-Identifier: Apache-2.0
#include "channel/event_loop.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <utility>

#include "channel/event_loop_impl.h"

namespace peregrine::channel {

EventLoop::EventLoop() : impl_(std::make_unique<Impl>()) {}
EventLoop::~EventLoop() = default;

void EventLoop::run() {
  impl_->thread = std::this_thread::get_id();
  impl_->context.run();
  impl_->thread = std::thread::id();
}

void EventLoop::stop() { impl_->context.stop(); }

void EventLoop::post(std::function<void()> task) { boost::asio::post(impl_->context, std::move(task)); }

bool EventLoop::on_thread() const { return impl_->thread == std::this_thread::get_id(); }

struct EventLoop::Timer::Impl : std::enable_shared_from_this<Impl> {
  explicit Impl(boost::asio::io_context& context) : timer(context) {}

  void start(std::chrono::milliseconds delay, std::function<void()> what) {
    cancel();
    task = std::move(what);
    timer.expires_after(delay);
    timer.async_wait([self = shared_from_this(), number = number](const boost::system::error_code&) {
      // An expiry that was already queued comes even after cancel(): only the number tells.
      if (number != self->number) return;
      ++self->number;
      const std::function<void()> now = std::move(self->task);
      self->task = nullptr;
      now();
    });
  }

  void cancel() {
    ++number;
    task = nullptr;
    timer.cancel();
  }

  boost::asio::steady_timer timer;
  std::function<void()> task;
  std::uint64_t number = 0;  ///< Of the start that counts.
};

EventLoop::Timer::Timer(EventLoop& loop) : impl_(std::make_shared<Impl>(loop.impl_->context)) {}

EventLoop::Timer::~Timer() {
  if (impl_) impl_->cancel();
}

EventLoop::Timer::Timer(Timer&&) noexcept = default;

EventLoop::Timer& EventLoop::Timer::operator=(Timer&& other) noexcept {
  if (this == &other) return *this;
  if (impl_) impl_->cancel();
  impl_ = std::move(other.impl_);
  return *this;
}

void EventLoop::Timer::start(std::chrono::milliseconds delay, std::function<void()> task) {
  // Longer delays could not be told from one that has passed when the clock's count overflows.
  constexpr std::chrono::milliseconds kLongest = std::chrono::hours(24 * 365);
  impl_->start(std::clamp(delay, std::chrono::milliseconds(0), kLongest), std::move(task));
}

void EventLoop::Timer::cancel() { impl_->cancel(); }

}  // namespace peregrine::channel
