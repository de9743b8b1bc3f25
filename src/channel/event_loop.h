// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <functional>
#include <memory>

namespace peregrine::channel {

/// One thread's work queue, with timers and the sockets of Links: an actor's thread. Tasks run one after
/// another on the thread that calls run(). A task must not throw.
class EventLoop {
 public:
  EventLoop();
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  /// Runs tasks until stop(). Once.
  void run();
  /// Ends run() after the current task; what is queued is destroyed with the loop. Thread-safe.
  void stop();
  /// Queues a task. Thread-safe; also before run().
  void post(std::function<void()> task);
  /// Whether the caller is the thread inside run().
  bool on_thread() const;

  /// Calls a task once after a time; used and destroyed on the loop's thread (or while it does not run).
  class Timer {
   public:
    explicit Timer(EventLoop& loop);
    ~Timer();  ///< Cancels.
    Timer(Timer&&) noexcept;
    Timer& operator=(Timer&&) noexcept;
    /// Replaces what was started before.
    void start(std::chrono::milliseconds delay, std::function<void()> task);
    /// After this the task does not run.
    void cancel();

   private:
    struct Impl;
    std::shared_ptr<Impl> impl_;
  };

 private:
  friend class Link;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace peregrine::channel
