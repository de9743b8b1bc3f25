// SPDX-License-Identifier: Apache-2.0
#include "serving/supervisor.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "channel/convert.h"
#include "channel/frame.h"
#include "core/log.h"

namespace peregrine::serving {
namespace {

namespace wire = channel::wire;
using core::Error;
using core::ErrorKind;
using std::chrono::milliseconds;
using std::chrono::seconds;

/// A program that is an engine host says so before it does anything that takes time.
constexpr seconds kGreetingTimeout{60};
/// Restarts of a host that died before its model was ever loaded.
constexpr int kFirstLoadRetries = 2;
constexpr milliseconds kFirstPause{100};
constexpr milliseconds kLongestPause{10'000};
/// A host that was well for so long is not in a loop of crashes, even if nobody asked it anything.
constexpr seconds kWell{60};
constexpr milliseconds kNoGrace{0};
/// For a host that says why it fails, and then ends by itself.
constexpr milliseconds kFailedGrace{200};

double seconds_since(std::chrono::steady_clock::time_point then) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - then).count();
}

double mebibytes(std::uint64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

}  // namespace

Supervisor::Supervisor(channel::EventLoop& loop, Options options, Client& client)
    : loop_(loop), options_(std::move(options)), client_(client), restart_timer_(loop), load_timer_(loop) {}

std::string Supervisor::who() const {
  return fmt::format("model={} pid={} epoch={}", options_.model, host_ ? host_->pid() : 0, epoch_);
}

void Supervisor::start() { start_host(); }

void Supervisor::start_host() {
  host_.reset();
  ++epoch_;
  started_ = Clock::now();
  reported_ = started_;
  EngineHost::Handler& self = *this;
  try {
    host_ = std::make_unique<EngineHost>(loop_, options_.command, self);
  } catch (const Error& error) {
    client_.on_started(0, epoch_);
    client_.on_lost();
    plan_restart(error.what());
    return;
  }
  phase_ = Phase::kGreeting;
  spdlog::info("engine host started {} directory={}", who(), core::quoted(options_.directory.string(), 4096));
  client_.on_started(host_->pid(), epoch_);
  wire::ToHost message;
  message.mutable_hello()->set_protocol(channel::kProtocolVersion);
  message.mutable_hello()->set_version(PEREGRINE_VERSION);
  message.mutable_hello()->set_epoch(epoch_);
  host_->send(message);
  load_timer_.start(kGreetingTimeout, [this] {
    broken(fmt::format("it did not greet within {} s", kGreetingTimeout.count()));
  });
}

void Supervisor::send(const wire::ToHost& message) {
  if (phase_ == Phase::kLoaded) host_->send(message);
}

void Supervisor::broken(const std::string& reason) { host_->end(reason, kNoGrace); }

std::unique_ptr<EngineProcess> Supervisor::release() {
  restart_timer_.cancel();
  load_timer_.cancel();
  phase_ = Phase::kFailed;
  return host_ ? host_->release() : nullptr;
}

void Supervisor::on_message(wire::FromHost&& message) {
  if (message.has_failed()) {
    host_->end(fmt::format("it failed: {}", message.failed().error().message()), kFailedGrace);
  } else if (phase_ == Phase::kGreeting) {
    if (message.has_hello()) {
      on_hello(message.hello());
    } else {
      broken("its first message is no Hello");
    }
  } else if (phase_ == Phase::kLoaded) {
    client_.on_message(message);
  } else if (message.has_load_progress()) {
    on_progress(message.load_progress());
  } else if (message.has_loaded()) {
    on_loaded(message.loaded());
  } else if (message.has_load_failed()) {
    on_load_failed(channel::from_message(message.load_failed().error()));
  } else if (message.has_refused()) {
    on_load_failed(channel::from_message(message.refused().error()));
  }  // A plan, or what a later version says while it loads.
}

void Supervisor::on_hello(const wire::Hello& hello) {
  if (hello.protocol() != channel::kProtocolVersion) {
    fail(
        Error(ErrorKind::kUnsupported,
              fmt::format("the engine host speaks version {} of the channel's protocol (program version {}), "
                          "this server version {} (program version {}): install the same Peregrine for both",
                          hello.protocol(), core::quoted(hello.version()), channel::kProtocolVersion,
                          PEREGRINE_VERSION)));
    return;
  }
  if (hello.epoch() != epoch_) {
    broken(fmt::format("it answered with epoch {}, not {}", hello.epoch(), epoch_));
    return;
  }
  host_version_ = hello.version();
  phase_ = Phase::kLoading;
  wire::ToHost message;
  wire::LoadModel& load = *message.mutable_load_model();
  load.set_model(options_.model);
  load.set_directory(options_.directory.string());
  for (const configuration::Setting& setting : options_.settings) {
    wire::Setting& out = *load.add_settings();
    out.set_key(setting.key);
    out.set_value(setting.value);
    out.set_origin(setting.origin);
  }
  host_->send(message);
  load_timer_.cancel();
  if (options_.loading_timeout.count() > 0) {
    load_timer_.start(options_.loading_timeout, [this] { on_loading_timeout(); });
  }
}

void Supervisor::on_progress(const wire::LoadProgress& progress) {
  client_.on_progress(progress.done_bytes(), progress.total_bytes());
  if (Clock::now() - reported_ < seconds(1)) return;
  reported_ = Clock::now();
  const double rate = mebibytes(progress.done_bytes()) / std::max(seconds_since(started_), 1e-3);
  const double left = mebibytes(progress.total_bytes()) - mebibytes(progress.done_bytes());
  spdlog::info("model loading {} done_mib={:.0f} total_mib={:.0f} mib_per_second={:.0f} seconds_left={:.0f}",
               who(), mebibytes(progress.done_bytes()), mebibytes(progress.total_bytes()), rate,
               rate > 0 ? std::max(left, 0.0) / rate : 0.0);
}

void Supervisor::on_loaded(const wire::Loaded& loaded) {
  if (loaded.model() != options_.model || loaded.vocab_size() < 1 || loaded.max_model_length() < 1 ||
      loaded.max_sequences() < 1) {
    broken(fmt::format("it loaded {} with a vocabulary of {}, {} tokens in length and {} sequences",
                       core::quoted(loaded.model()), loaded.vocab_size(), loaded.max_model_length(),
                       loaded.max_sequences()));
    return;
  }
  load_timer_.cancel();
  phase_ = Phase::kLoaded;
  was_loaded_ = true;
  loaded_ = Clock::now();
  const wire::Plan& plan = loaded.plan();
  spdlog::info(
      "model ready {} seconds={:.2f} device={} weights_mib={:.0f} kv_cache_mib={:.0f} buffers_mib={:.0f} "
      "kv_blocks={} max_model_length={} max_sequences={} host_version={}",
      who(), seconds_since(started_), core::quoted(loaded.device(), 200), mebibytes(plan.weight_bytes()),
      mebibytes(plan.kv_cache_bytes()), mebibytes(plan.buffer_bytes()), plan.kv_blocks(),
      loaded.max_model_length(), loaded.max_sequences(), core::quoted(host_version_));
  client_.on_loaded(loaded);
}

void Supervisor::on_load_failed(const Error& error) {
  if (was_loaded_) {
    host_->end(fmt::format("loading failed: {}", error.what()), kFailedGrace);
  } else {
    fail(error);
  }
}

void Supervisor::on_loading_timeout() {
  const std::string reason = fmt::format("model {} was not loaded within model_loading_timeout={} s",
                                         options_.model, options_.loading_timeout.count());
  if (was_loaded_) {
    broken(reason);
  } else {
    fail(Error(ErrorKind::kDeadline, reason));
  }
}

void Supervisor::fail(const Error& error) {
  phase_ = Phase::kFailed;
  restart_timer_.cancel();
  load_timer_.cancel();
  spdlog::error("model failed {} kind={} error={}", who(), core::to_string(error.kind()),
                core::quoted(error.what(), 2000));
  // Before on_failed(), or on_lost() would come last.
  if (host_) host_->end("the model has failed", kFailedGrace);
  client_.on_failed(error);
}

void Supervisor::on_lost() {
  load_timer_.cancel();
  if (phase_ == Phase::kLoaded && Clock::now() - loaded_ > kWell) deaths_ = 0;
  if (phase_ == Phase::kFailed) return;
  phase_ = Phase::kEnding;
  client_.on_lost();
}

void Supervisor::on_ended(const std::string& reason) {
  if (phase_ == Phase::kFailed) {
    spdlog::info("engine host ended {}", who());
  } else {
    plan_restart(reason);
  }
}

void Supervisor::plan_restart(const std::string& reason) {
  ++deaths_;
  if (!was_loaded_ && deaths_ > kFirstLoadRetries) {
    fail(Error(
        ErrorKind::kInternal,
        fmt::format("the engine host of model {} ended {} times before the model was loaded; at last: {}",
                    options_.model, deaths_, reason)));
    return;
  }
  const milliseconds pause = pause_before_restart();
  spdlog::warn("engine host died {} restart_in_ms={} deaths_without_a_step={} reason={}", who(),
               pause.count(), deaths_, core::quoted(reason, 2000));
  phase_ = Phase::kIdle;
  restart_timer_.start(pause, [this] { start_host(); });
}

milliseconds Supervisor::pause_before_restart() const {
  // A host that worked is replaced at once, for clients wait; one that never did is not in a hurry.
  const int doublings = was_loaded_ ? deaths_ - 2 : deaths_ - 1;
  if (doublings < 0) return milliseconds(0);
  return std::min(kFirstPause * (1 << std::min(doublings, 16)), kLongestPause);
}

}  // namespace peregrine::serving
