// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <engine.pb.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "channel/event_loop.h"
#include "channel/host_link.h"
#include "core/error.h"
#include "hosts/echo/echo_encoder.h"
#include "hosts/echo/echo_model.h"
#include "hosts/echo/options.h"

namespace peregrine::echo {

/// The host's own thread: everything it has and says lives on one loop, so that what it says is in the order
/// of what it was told. Another thread reads the channel and posts each message here.
class EchoHost {
 public:
  /// `link` and `loop` must outlive the host; `epoch` as the server said it in its Hello. `on_drained` is
  /// called once, after the answer to Drain.
  EchoHost(Options options, channel::HostLink& link, channel::EventLoop& loop, std::uint64_t epoch,
           std::function<void()> on_drained);

  /// On the loop's thread.
  void handle(const wire::ToHost& message);

 private:
  struct OpenInvoke {
    wire::Invoke invoke;
    std::size_t sent = 0;  ///< Bytes of its body.
  };

  void load(const wire::LoadModel& message);
  void finish_load(const std::string& model);
  void unload(const std::string& model);
  void submit(const wire::Submit& message);
  void invoke(const wire::Invoke& message);
  void continue_invoke(std::uint64_t request);
  void cancel(const wire::Cancel& message);
  void send_stats(const std::string& model);
  void refuse(const std::string& model, std::uint64_t request, const core::Error& error);

  EchoModel& find(const std::string& model);  ///< Throws Error(kNotFound).
  bool has_work() const;
  void schedule_step();
  void step();
  void crash_or_hang_when_due();
  void end_when_drained();

  Options options_;
  channel::HostLink& link_;
  channel::EventLoop& loop_;
  std::uint64_t epoch_;
  std::function<void()> on_drained_;
  channel::EventLoop::Timer step_timer_;
  std::map<std::string, channel::EventLoop::Timer> loading_;
  std::map<std::string, EchoModel> models_;
  std::map<std::string, EchoEncoder> encoders_;  ///< For the same models, where they are encoders.
  std::map<std::uint64_t, OpenInvoke> invokes_;  ///< By request.
  std::uint64_t steps_ = 0;                      ///< Of all models.
  bool step_scheduled_ = false;
  bool draining_ = false;
};

/// Greets the server and serves until the channel or a drain ends the process: exit code 0, or
/// core::exit_code of what was wrong with the channel.
[[noreturn]] void run_echo_host(const Options& options);

}  // namespace peregrine::echo
