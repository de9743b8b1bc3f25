// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "channel/event_loop.h"
#include "serving/metrics.h"
#include "serving/models.h"
#include "serving/request_queue.h"
#include "serving/supervisor.h"

namespace peregrine::serving {

/// How a Generation reaches its model, which may be gone before it. Thread-safe.
class CancelDoor {
 public:
  explicit CancelDoor(std::function<void(std::uint64_t)> cancel) : cancel_(std::move(cancel)) {}
  void cancel(std::uint64_t id);
  void close();

 private:
  std::mutex mutex_;
  std::function<void(std::uint64_t)> cancel_;  ///< Empty once closed.
};

/// A model and its engine host: an actor on the loop. Functions of Model may be called from any thread.
class ServedModel final : public Model, private Supervisor::Client {
 public:
  /// What all models of a server have in common.
  struct Surroundings {
    channel::EventLoop& loop;
    std::atomic<std::uint64_t>& next_id;  ///< Of requests.
    std::function<void()> changed;  ///< Called without locks, on any thread, after idle() or phase changed.
  };

  /// Opens the directory; throws Error naming what is wrong in it.
  ServedModel(const Surroundings& surroundings, ModelSource source, const HostCommand& host,
              Metrics::ForModel& metrics);
  ~ServedModel() override;

  // Any thread.

  const std::string& name() const override { return name_; }
  const configuration::ModelOptions& options() const override { return options_; }
  const model_info::ModelDirectory& directory() const override { return directory_; }
  ModelStatus status() const override;
  Limits limits() const override;
  std::unique_ptr<Generation> generate(GenerationRequest request, std::function<void()> wake) override;
  std::unique_ptr<Encoding> encode(EncodeRequest request, std::function<void()> wake) override;
  void set_vocabulary(std::shared_ptr<const std::vector<std::string>> bytes) override;

  void begin_drain();
  /// Whether there is no request.
  bool idle() const;
  bool loaded_once() const;
  bool failed() const;

  // The loop's thread, or any while it does not run.

  void start() { supervisor_.start(); }
  /// Closes the channel, and ends all requests with kOverloaded. The process that is left, if any.
  std::unique_ptr<EngineProcess> shut_down();

 private:
  using Item = RequestQueue::Item;
  using Clock = Request::Clock;

  /// What other threads see.
  struct Shared {
    ModelState phase = ModelState::kLoading;  ///< Without kDraining.
    bool draining = false;
    std::string error;
    std::uint64_t restarts = 0;
    std::uint64_t loaded_bytes = 0;
    std::uint64_t total_bytes = 0;
    std::int32_t host_pid = 0;
    std::int32_t in_host = 0;     ///< Requests.
    std::optional<Limits> first;  ///< What the first host said.
    Limits now;                   ///< What the last one said.
    RequestQueue queue;
    std::shared_ptr<const std::vector<std::string>> vocabulary;  ///< Null: none is known.

    /// The limits for a new request. Throws where none is taken now.
    const Limits& accepting(const std::string& name) const;
  };

  /// What came for a sequence, on its way to a mailbox.
  struct Delivery {
    std::shared_ptr<Mailbox> to;
    SequenceUpdate update;
    bool wake = false;  ///< Whether its holder is to be woken.
  };

  // Supervisor::Client
  void on_started(int pid, std::uint64_t epoch) override;
  void on_progress(std::uint64_t done_bytes, std::uint64_t total_bytes) override;
  void on_loaded(const channel::wire::Loaded& loaded) override;
  void on_message(const channel::wire::FromHost& message) override;
  void on_lost() override;
  void on_failed(const core::Error& error) override;

  Limits accepting() const;
  /// Queues it under a new id; throws as accepting(), and where there is no room.
  void enqueue(const Item& item);
  void pump();
  void replay();
  void submit(Request& request);
  static void write_generate(const Request& request, channel::wire::Submit& submit);
  static void write_encode(Request& request, channel::wire::Submit& submit);
  void send_vocabulary();
  void cancel(std::uint64_t id);
  void cancel_in_host(std::uint64_t id);
  void ask_stats();
  void on_events(const channel::wire::Events& events);
  void on_event(const channel::wire::SequenceEvent& event, Clock::time_point now,
                std::vector<Delivery>& deliveries);
  /// The tokens of the prompt in it that were not delivered before.
  std::vector<generation::SampledToken> receive_prompt(const channel::wire::SequenceEvent& event,
                                                       Request& request) const;
  generation::SampledToken receive_token(const channel::wire::SampledToken& token,
                                         const Request& request) const;
  std::vector<generation::SampledToken> receive_tokens(const channel::wire::SequenceEvent& event,
                                                       const Request& request) const;
  void count_tokens(Request& request, Request::Sequence& sequence, int count, Clock::time_point now);
  void on_result(const channel::wire::Result& result);
  void on_refused(const channel::wire::Refused& refused);
  void on_stats(const channel::wire::Stats& stats);
  /// Notes that a sequence has ended, whose place in the host is free again.
  void end_sequence(Request& request, Request::Sequence& sequence, generation::FinishReason reason);
  /// Forgets a request that is in the host, whose places are free again.
  void forget(std::map<std::uint64_t, Item>::iterator place, const char* outcome);
  void fail_request(std::uint64_t id, const core::Error& error, const char* outcome);
  void fail_all(const core::Error& error);
  /// Publishes how many requests there are, after in_host_ has changed.
  void publish_counts();

  const Surroundings surroundings_;
  const std::string name_;
  const configuration::ModelOptions options_;
  const model_info::ModelDirectory directory_;
  Metrics::ForModel& metrics_;

  mutable std::mutex mutex_;
  Shared shared_;  ///< Guarded by mutex_.

  // The loop's thread.
  std::map<std::uint64_t, Item> in_host_;  ///< That the host has or, while there is none, will get again.
  std::int32_t released_ = 0;              ///< Places in the host given back, not yet told to the queue.
  std::int64_t vocab_size_ = 0;            ///< Of the host that runs now.
  int encoded_in_step_ = 0;                ///< Texts whose vectors came since the last step's Events.
  bool asked_stats_ = false;
  channel::EventLoop::Timer pump_timer_;
  Supervisor supervisor_;

  std::shared_ptr<CancelDoor> door_;
};

}  // namespace peregrine::serving
