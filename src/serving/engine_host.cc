// SPDX-License-Identifier: Apache-2.0
#include "serving/engine_host.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>
#include <utility>

#include "core/error.h"

namespace peregrine::serving {
namespace {

using std::chrono::milliseconds;

/// A process whose channel closed is mostly dying already; so long it may take, so that its own exit code or
/// signal is seen, and not that of our kill.
constexpr milliseconds kGrace{50};
constexpr milliseconds kLongestPause{50};

}  // namespace

EngineHost::EngineHost(channel::EventLoop& loop, const std::vector<std::string>& command, Handler& handler)
    : handler_(handler), timer_(loop) {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    core::fail(core::ErrorKind::kInternal, "cannot make the channel of an engine host: {}",
               std::generic_category().message(errno));
  }
  try {
    process_ = std::make_unique<EngineProcess>(command, ends[1]);
  } catch (...) {
    ::close(ends[0]);
    ::close(ends[1]);
    throw;
  }
  ::close(ends[1]);
  pid_ = process_->pid();
  channel::Link::Handler& self = *this;
  link_ = std::make_unique<channel::Link>(loop, ends[0], self);
}

EngineHost::~EngineHost() = default;

void EngineHost::send(const channel::wire::ToHost& message) {
  if (link_) link_->send(message);
}

void EngineHost::end(const std::string& reason, milliseconds grace) {
  if (!link_) return;
  link_.reset();
  reason_ = reason;
  kill_at_ = std::chrono::steady_clock::now() + grace;
  if (grace.count() == 0) process_->kill();
  timer_.start(milliseconds(0), [this] { reap(milliseconds(1)); });
  handler_.on_lost();
}

void EngineHost::reap(milliseconds next) {
  // A big process takes a while to give its memory back; the loop does not wait for it.
  if (process_->ended()) {
    handler_.on_ended(fmt::format("{} ({})", reason_, process_->outcome()));
    return;
  }
  if (std::chrono::steady_clock::now() >= kill_at_) process_->kill();
  timer_.start(next, [this, next] { reap(std::min(2 * next, kLongestPause)); });
}

std::unique_ptr<EngineProcess> EngineHost::release() {
  timer_.cancel();
  link_.reset();
  return std::move(process_);
}

void EngineHost::on_message(channel::wire::FromHost&& message) { handler_.on_message(std::move(message)); }

void EngineHost::on_closed(const std::string& reason) { end(reason, kGrace); }

}  // namespace peregrine::serving
