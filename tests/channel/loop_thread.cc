// SPDX-License-Identifier: Apache-2.0
#include "channel/loop_thread.h"

#include <array>
#include <cerrno>
#include <future>
#include <system_error>

namespace peregrine::testing {

LoopThread::LoopThread() : thread_([this] { loop_.run(); }) {}

LoopThread::~LoopThread() {
  loop_.stop();
  thread_.join();
}

void LoopThread::call(const std::function<void()>& task) {
  std::promise<void> done;
  loop_.post([&] {
    task();
    done.set_value();
  });
  done.get_future().wait();
}

SocketPair::SocketPair(int type) {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    throw std::system_error(errno, std::generic_category(), "socketpair");
  }
  server = ends[0];
  host = ends[1];
}

}  // namespace peregrine::testing
