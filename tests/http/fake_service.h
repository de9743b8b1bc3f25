// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "api/exchange.h"

namespace peregrine::http {

/// Answers by path:
/// - /echo       at once: "METHOD PATH?QUERY" and a line with the body.
/// - /wait       when release() is called: "released".
/// - /ticks?N    in N parts "tick I\n", each after a wake from another thread.
/// - /stream?N   in N parts of 64 KiB, as fast as they are asked for.
/// - /empty      in three parts, the second of them empty.
/// - /status?N   at once, with this status and two hostile headers.
/// - /fail       begins as a stream, with status 503.
class FakeService : public api::Service {
 public:
  FakeService();
  ~FakeService() override;

  std::unique_ptr<api::Exchange> handle(api::HttpRequest request, std::function<void()> wake) override;
  void refuse(int status, std::string_view message, api::Head& head, std::string& body) override;
  void count_connections(int change) override { connections += change; }

  void release();
  bool released() const { return released_; }
  /// The threads of the last handle() and the last Exchange::next().
  std::thread::id handled_on() const { return handled_on_; }
  std::thread::id asked_on() const { return asked_on_; }
  /// Has `function` called by another thread, soon.
  void later(std::function<void()> function);

  std::atomic<int> connections{0};
  std::atomic<int> exchanges{0};         ///< That exist.
  std::atomic<int> handled{0};           ///< Requests so far.
  std::atomic<int> stream_parts{0};      ///< Parts of /stream that were asked for.
  std::atomic<bool> slow_handle{false};  ///< handle() of a body above 16 KiB waits for release().
  std::atomic<int> in_slow_handle{0};

 private:
  void run_later();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::function<void()>> later_;
  std::vector<std::function<void()>> waiting_;  // wakes of /wait
  std::atomic<bool> released_{false};
  std::atomic<std::thread::id> handled_on_{};
  std::atomic<std::thread::id> asked_on_{};
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace peregrine::http
