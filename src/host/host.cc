// SPDX-License-Identifier: Apache-2.0
#include "host/host.h"

#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <deque>
#include <fstream>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "channel/convert.h"
#include "channel/host_link.h"
#include "configuration/model_options.h"
#include "core/error.h"
#include "core/log.h"
#include "host/event_writer.h"
#include "host/served.h"
#include "host/session.h"

namespace peregrine::host {
namespace {

using channel::wire::FromHost;
using channel::wire::ToHost;
using core::Error;
using core::ErrorKind;
using core::fail;
using Clock = std::chrono::steady_clock;

/// Messages from the receiving thread to the working one.
class Mailbox {
 public:
  void push(ToHost&& message) {
    {
      const std::lock_guard lock(mutex_);
      messages_.push_back(std::move(message));
    }
    arrived_.notify_one();
  }

  /// All that came; waits for something where `wait`.
  std::deque<ToHost> take(bool wait) {
    std::unique_lock lock(mutex_);
    if (wait) arrived_.wait(lock, [this] { return !messages_.empty(); });
    return std::exchange(messages_, {});
  }

 private:
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<ToHost> messages_;  ///< Guarded by mutex_.
};

/// Receives until the server is gone, and ends the process then: the working thread may be in the middle of a
/// load that nobody waits for any more.
[[noreturn]] void receive(channel::HostLink& link, Mailbox& mailbox) {
  try {
    ToHost message;
    while (link.receive(message)) mailbox.push(std::move(message));
  } catch (const std::exception& error) {
    spdlog::error("engine host: {}", error.what());
    spdlog::shutdown();
    _exit(1);
  }
  _exit(0);
}

class Host {
 public:
  Host(channel::HostLink& link, Mailbox& mailbox) : link_(link), mailbox_(mailbox) {}

  /// Works until told to drain. Returns the exit code.
  int run() {
    while (true) {
      const bool busy = served_ && !served_->idle();
      if (!busy && draining_) break;
      for (ToHost& message : mailbox_.take(!busy)) handle(message);
      if (!served_) continue;
      if (!step()) return 1;
    }
    FromHost drained;
    drained.mutable_drained();
    link_.send(drained);
    return 0;
  }

 private:
  /// False where the engine failed and cannot go on.
  bool step() {
    Error error(ErrorKind::kInternal, "");
    try {
      served_->step();
      return true;
    } catch (const Error& caught) {
      error = caught;
    } catch (const std::exception& caught) {
      error = Error(ErrorKind::kInternal, caught.what());
    }
    spdlog::error("engine host: model={} {}", model_, error.what());
    FromHost failed;
    failed.mutable_failed()->set_model(model_);
    channel::to_message(error, *failed.mutable_failed()->mutable_error());
    link_.send(failed);
    return false;
  }

  void handle(const ToHost& message) {
    switch (message.kind_case()) {
      case ToHost::kLoadModel:
        return load(message.load_model());
      case ToHost::kUnload:
        return unload(message.unload());
      case ToHost::kSubmit:
        return submit(message.submit());
      case ToHost::kCancel:
        if (serves(message.cancel().model())) served_->cancel(message.cancel().request());
        return;
      case ToHost::kVocabulary:
        if (serves(message.vocabulary().model())) served_->add_vocabulary(message.vocabulary());
        return;
      case ToHost::kGetStats:
        return send_stats(message.get_stats().model());
      case ToHost::kPing: {
        FromHost pong;
        pong.mutable_pong()->set_number(message.ping().number());
        link_.send(pong);
        return;
      }
      case ToHost::kDrain:
        draining_ = true;
        return;
      case ToHost::kInvoke:
        return refuse(message.invoke().model(), message.invoke().request(),
                      Error(ErrorKind::kUnsupported, "this engine host does no text of its own"));
      case ToHost::kPlanModel:
      case ToHost::kLoadAdapter:
      case ToHost::kHello:
      case ToHost::KIND_NOT_SET:
        break;
    }
    refuse("", 0,
           Error(ErrorKind::kUnsupported, fmt::format("engine host: message kind {} is not supported",
                                                      static_cast<int>(message.kind_case()))));
  }

  bool serves(const std::string& model) const { return served_ && model_ == model; }

  void load(const channel::wire::LoadModel& message) {
    FromHost answer;
    try {
      if (served_) {
        fail(ErrorKind::kUnsupported, "an engine host serves one model; this one serves {}", model_);
      }
      load_model(message);
      describe(*answer.mutable_loaded());
    } catch (const Error& error) {
      channel::to_message(error, *answer.mutable_load_failed()->mutable_error());
    } catch (const std::bad_alloc&) {
      channel::to_message(Error(ErrorKind::kOverloaded, "out of memory while loading"),
                          *answer.mutable_load_failed()->mutable_error());
    } catch (const std::exception& error) {
      channel::to_message(Error(ErrorKind::kInternal, error.what()),
                          *answer.mutable_load_failed()->mutable_error());
    }
    if (answer.has_load_failed()) {
      served_.reset();
      answer.mutable_load_failed()->set_model(message.model());
    }
    link_.send(answer);
  }

  void load_model(const channel::wire::LoadModel& message) {
    std::vector<configuration::Setting> settings;
    for (const auto& setting : message.settings()) {
      settings.push_back({setting.key(), setting.value(), setting.origin()});
    }
    const auto options = configuration::apply_settings(settings);
    const auto progress = [this, &message, next = Clock::now()](std::uint64_t done,
                                                                std::uint64_t total) mutable {
      if (Clock::now() < next) return;
      next = Clock::now() + std::chrono::milliseconds(250);
      FromHost report;
      report.mutable_load_progress()->set_model(message.model());
      report.mutable_load_progress()->set_done_bytes(done);
      report.mutable_load_progress()->set_total_bytes(total);
      link_.send(report);
    };
    Session session = load_session(message.directory(), options, progress);
    model_ = message.model();
    served_ = serve(model_, std::move(session), options, link_);
    max_sequences_ = options.max_rolling_batch_size;
  }

  void describe(channel::wire::Loaded& loaded) const {
    const engine::MemoryPlan& plan = served_->memory_plan();
    loaded.set_model(model_);
    served_->describe(loaded);
    loaded.set_max_model_length(plan.max_model_length);
    loaded.set_max_sequences(max_sequences_);
    loaded.set_device(served_->device().description());
    channel::wire::Plan& out = *loaded.mutable_plan();
    out.set_model(model_);
    out.set_weight_bytes(plan.weight_bytes);
    out.set_kv_cache_bytes(plan.kv_cache_bytes);
    out.set_buffer_bytes(plan.buffer_bytes);
    out.set_kv_blocks(static_cast<std::uint32_t>(plan.kv_blocks));
    out.set_kv_block_bytes(plan.kv_block_bytes);
  }

  void unload(const channel::wire::Unload& message) {
    if (!serves(message.model())) return refuse(message.model(), 0, not_served(message.model()));
    served_.reset();
    FromHost answer;
    answer.mutable_unloaded()->set_model(message.model());
    link_.send(answer);
  }

  void submit(const channel::wire::Submit& message) {
    try {
      if (!serves(message.model())) throw not_served(message.model());
      served_->submit(message);
    } catch (const Error& error) {
      refuse(message.model(), message.request(), error);
    }
  }

  void send_stats(const std::string& model) {
    if (!serves(model)) return refuse(model, 0, not_served(model));
    FromHost answer;
    answer.mutable_stats()->set_model(model);
    to_message(served_->stats(), *answer.mutable_stats());
    link_.send(answer);
  }

  void refuse(const std::string& model, std::uint64_t request, const Error& error) {
    FromHost answer;
    answer.mutable_refused()->set_model(model);
    answer.mutable_refused()->set_request(request);
    channel::to_message(error, *answer.mutable_refused()->mutable_error());
    link_.send(answer);
  }

  static Error not_served(const std::string& model) {
    return Error(ErrorKind::kNotFound,
                 fmt::format("engine host: model {} is not loaded", core::quoted(model)));
  }

  channel::HostLink& link_;
  Mailbox& mailbox_;
  std::string model_;  ///< Its name.
  std::unique_ptr<Served> served_;
  std::int32_t max_sequences_ = 0;
  bool draining_ = false;
};

/// Where memory runs out it should be this process that the system ends: the server starts another one.
void prefer_to_be_killed() { std::ofstream("/proc/self/oom_score_adj") << "500"; }

}  // namespace

int run(int channel_fd, const char* version) {
  prefer_to_be_killed();
  channel::HostLink link(channel_fd);
  link.greet(version, {"generate", "embed", "classify"});
  Mailbox mailbox;
  std::thread([&link, &mailbox] { receive(link, mailbox); }).detach();
  const int code = Host(link, mailbox).run();
  // The receiving thread uses the link as long as the process lives.
  spdlog::shutdown();
  std::fflush(nullptr);
  _exit(code);
}

}  // namespace peregrine::host
