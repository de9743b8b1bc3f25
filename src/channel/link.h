// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <engine.pb.h>

#include <cstddef>
#include <memory>
#include <string>

#include "channel/event_loop.h"

namespace peregrine::channel {

/// The server's end of a channel: messages to and from one engine host over a connected stream socket. Lives
/// on an EventLoop: made, used and destroyed on its thread (or while it does not run). Always reads what
/// comes; what is sent is queued and written in order, as few writes as possible.
class Link {
 public:
  /// Called on the loop's thread. Either call may destroy the Link.
  class Handler {
   public:
    virtual ~Handler() = default;
    /// A core::Error that it throws closes the channel, as a message that cannot be read does.
    virtual void on_message(wire::FromHost&& message) = 0;
    /// The other end is gone, or sent what is no message; `reason` is for logs. Nothing is called after it.
    virtual void on_closed(const std::string& reason) = 0;
  };

  /// Takes over `fd`, whatever happens. `handler` must outlive the Link.
  Link(EventLoop& loop, int fd, Handler& handler);
  ~Link();  ///< Closes; the handler is not called again.
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  /// Queues a message. After the other end has gone it is dropped. Throws Error(kInvalidArgument) where it is
  /// larger than kLargestMessage.
  void send(const wire::ToHost& message);

  /// Bytes queued and not yet taken by the system.
  std::size_t unsent_bytes() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace peregrine::channel
