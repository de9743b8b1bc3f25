// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "channel/event_loop.h"
#include "channel/link.h"
#include "serving/engine_process.h"

namespace peregrine::serving {

/// One run of an engine host: its process and the channel to it. Belongs to a thread as a Link does.
class EngineHost : private channel::Link::Handler {
 public:
  /// Called on the loop's thread. No call may destroy the EngineHost.
  class Handler {
   public:
    virtual ~Handler() = default;
    virtual void on_message(channel::wire::FromHost&& message) = 0;
    /// The channel is closed: from now on nothing comes, and nothing can be sent. The process is on its way
    /// out. May be called inside end().
    virtual void on_lost() = 0;
    /// The process is gone; `reason` says why the channel was closed and how the process ended. Never called
    /// inside another call. The last call.
    virtual void on_ended(const std::string& reason) = 0;
  };

  /// Starts the process. Throws what EngineProcess does, and Error(kInternal) where there are no descriptors
  /// left. `handler` must outlive it.
  EngineHost(channel::EventLoop& loop, const std::vector<std::string>& command, Handler& handler);
  /// Kills the process and waits for it, if it was not released. The handler is not called again.
  ~EngineHost() override;

  int pid() const { return pid_; }
  void send(const channel::wire::ToHost& message);
  /// Bytes of messages that the host has not read yet.
  std::size_t unsent_bytes() const { return link_ ? link_->unsent_bytes() : 0; }
  /// Closes the channel and kills the process where it has not ended by itself after `grace`. Does nothing
  /// the second time.
  void end(const std::string& reason, std::chrono::milliseconds grace);
  /// Closes the channel, upon which the process ends if it is well, and hands it over.
  std::unique_ptr<EngineProcess> release();

 private:
  void on_message(channel::wire::FromHost&& message) override;
  void on_closed(const std::string& reason) override;
  void reap(std::chrono::milliseconds next);

  Handler& handler_;
  std::unique_ptr<EngineProcess> process_;
  std::unique_ptr<channel::Link> link_;
  channel::EventLoop::Timer timer_;
  int pid_ = 0;
  std::string reason_;
  std::chrono::steady_clock::time_point kill_at_;
};

}  // namespace peregrine::serving
