// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <thread>

#include "channel/event_loop.h"

// Private to this room: the loop as Asio sees it.

namespace peregrine::channel {

struct EventLoop::Impl {
  boost::asio::io_context context{1};  ///< 1: one thread runs it; others may still post.
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work{context.get_executor()};
  std::atomic<std::thread::id> thread{};
};

}  // namespace peregrine::channel
