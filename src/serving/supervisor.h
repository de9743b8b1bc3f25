// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "channel/event_loop.h"
#include "configuration/model_options.h"
#include "core/error.h"
#include "serving/engine_host.h"

namespace peregrine::serving {

/// Keeps an engine host running for one model: starts it, greets it, has it load, and starts another when it
/// dies. Belongs to the loop's thread.
class Supervisor : private EngineHost::Handler {
 public:
  /// Called on the loop's thread.
  class Client {
   public:
    virtual ~Client() = default;
    /// A process was started, for the `epoch`-th time (from 1).
    virtual void on_started(int pid, std::uint64_t epoch) = 0;
    virtual void on_progress(std::uint64_t done_bytes, std::uint64_t total_bytes) = 0;
    /// The host is ready for requests. It has none.
    virtual void on_loaded(const channel::wire::Loaded& loaded) = 0;
    /// Events, Refused and others of a loaded host.
    virtual void on_message(const channel::wire::FromHost& message) = 0;
    /// The host that was started is lost, and with it whatever it had; there will be another, or on_failed().
    virtual void on_lost() = 0;
    /// There is no host and will be none. The last call.
    virtual void on_failed(const core::Error& error) = 0;
  };

  struct Options {
    std::vector<std::string> command;
    std::string model;
    std::filesystem::path directory;  ///< Absolute.
    std::vector<configuration::Setting> settings;
    std::chrono::seconds loading_timeout{0};  ///< 0: none.
  };

  /// `client` must outlive it.
  Supervisor(channel::EventLoop& loop, Options options, Client& client);

  /// Starts the first host. Once.
  void start();
  /// To a loaded host; dropped where there is none. Throws Error(kInvalidArgument) for a message that is too
  /// large for the channel.
  void send(const channel::wire::ToHost& message);
  /// The host has computed something: its death would be the first one again.
  void completed_step() { deaths_ = 0; }
  /// The host said what cannot be: it is killed, and another started. Calls on_lost() before it returns.
  void broken(const std::string& reason);
  /// Closes the channel for good; the process that is left, if any. No call comes after it.
  std::unique_ptr<EngineProcess> release();

  /// What a loaded host has not read yet.
  std::size_t unsent_bytes() const { return phase_ == Phase::kLoaded ? host_->unsent_bytes() : 0; }

  std::uint64_t epoch() const { return epoch_; }

 private:
  enum class Phase : std::uint8_t { kIdle, kGreeting, kLoading, kLoaded, kEnding, kFailed };
  using Clock = std::chrono::steady_clock;

  void start_host();
  void on_message(channel::wire::FromHost&& message) override;
  void on_lost() override;
  void on_ended(const std::string& reason) override;

  void on_hello(const channel::wire::Hello& hello);
  void on_progress(const channel::wire::LoadProgress& progress);
  void on_loaded(const channel::wire::Loaded& loaded);
  void on_load_failed(const core::Error& error);
  void on_loading_timeout();
  void fail(const core::Error& error);
  void plan_restart(const std::string& reason);
  std::chrono::milliseconds pause_before_restart() const;
  /// "model=NAME pid=N epoch=N", for logs.
  std::string who() const;

  channel::EventLoop& loop_;
  const Options options_;
  Client& client_;
  std::unique_ptr<EngineHost> host_;  ///< Kept until the next one starts.
  channel::EventLoop::Timer restart_timer_;
  channel::EventLoop::Timer load_timer_;
  Phase phase_ = Phase::kIdle;
  std::uint64_t epoch_ = 0;
  std::string host_version_;
  bool was_loaded_ = false;       ///< By any host.
  int deaths_ = 0;                ///< Since the last completed step.
  Clock::time_point started_{};   ///< This host.
  Clock::time_point loaded_{};    ///< This host.
  Clock::time_point reported_{};  ///< Last line about progress.
};

}  // namespace peregrine::serving
