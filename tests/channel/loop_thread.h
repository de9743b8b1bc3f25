// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/socket.h>

#include <functional>
#include <thread>

#include "channel/event_loop.h"

namespace peregrine::testing {

/// An EventLoop on a thread of its own.
class LoopThread {
 public:
  LoopThread();
  ~LoopThread();

  channel::EventLoop& loop() { return loop_; }
  /// Runs `task` on the loop's thread and waits for it.
  void call(const std::function<void()>& task);

 private:
  channel::EventLoop loop_;
  std::thread thread_;
};

/// The two ends of a connected Unix stream socket.
struct SocketPair {
  explicit SocketPair(int type = SOCK_STREAM);
  int server = -1;
  int host = -1;
};

}  // namespace peregrine::testing
