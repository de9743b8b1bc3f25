// SPDX-License-Identifier: Apache-2.0
#include "http/shared.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <exception>
#include <utility>

#include "http/connection.h"

namespace peregrine::http {
namespace {

/// Bodies of the largest size that may be on their way at once; and at least this much memory, so that a
/// small limit for one body does not starve many small ones.
constexpr std::uint64_t kLargestBodies = 16;
constexpr std::uint64_t kLeastBodyMemory = 64u << 20;

}  // namespace

void WakeList::add(Entry entry) {
  {
    const std::lock_guard lock(mutex_);
    entries_.push_back(std::move(entry));
    if (std::exchange(posted_, true)) return;
  }
  try {
    boost::asio::post(io_, [this] { deliver_all(); });
  } catch (...) {
    const std::lock_guard lock(mutex_);
    posted_ = false;
    throw;
  }
}

void WakeList::deliver_all() {
  std::vector<Entry> now;
  {
    // Those that come from here on have a task of their own, so that other tasks get their turn.
    const std::lock_guard lock(mutex_);
    now.swap(entries_);
    posted_ = false;
  }
  for (Entry& entry : now) {
    try {
      entry.waker->deliver(std::move(entry.connection));
    } catch (const std::exception& error) {
      // Lack of memory, most likely. The others go on.
      spdlog::error("A connection failed: {}", error.what());
    }
  }
}

void Shared::add(const std::shared_ptr<Connection>& connection) {
  {
    const std::lock_guard lock(mutex_);
    connections_.emplace(connection.get(), connection);
    ++unfinished_;
  }
  service.count_connections(1);
}

void Shared::count_finished() {
  const std::lock_guard lock(mutex_);
  if (--unfinished_ == 0) finished_.notify_all();
}

void Shared::remove(const Connection* connection) {
  {
    const std::lock_guard lock(mutex_);
    connections_.erase(connection);
  }
  service.count_connections(-1);
}

std::size_t Shared::count() const {
  const std::lock_guard lock(mutex_);
  return connections_.size();
}

std::vector<std::shared_ptr<Connection>> Shared::connections() const {
  std::vector<std::shared_ptr<Connection>> result;
  const std::lock_guard lock(mutex_);
  result.reserve(connections_.size());
  for (const auto& [pointer, weak] : connections_) {
    if (auto connection = weak.lock()) result.push_back(std::move(connection));
  }
  return result;
}

bool Shared::wait_finished(std::chrono::milliseconds limit) {
  std::unique_lock lock(mutex_);
  return finished_.wait_for(lock, limit, [&] { return unfinished_ == 0; });
}

bool Shared::take_body_memory(std::size_t bytes) {
  const std::uint64_t limit = std::max(kLargestBodies * options.max_request_size, kLeastBodyMemory);
  if (body_memory_.fetch_add(bytes) + bytes <= limit) return true;
  body_memory_.fetch_sub(bytes);
  return false;
}

void Shared::give_body_memory(std::size_t bytes) { body_memory_.fetch_sub(bytes); }

}  // namespace peregrine::http
