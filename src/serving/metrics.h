// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace peregrine::serving {

/// What the server counts, in Prometheus' terms. Every function is thread-safe and quick.
class Metrics {
 public:
  Metrics();
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  /// The numbers of one model, made once and kept: valid as long as the Metrics.
  class ForModel {
   public:
    virtual ~ForModel() = default;
    virtual void queue_time(double seconds) = 0;  ///< From submission until it went to the host.
    virtual void time_to_first_token(double seconds) = 0;
    virtual void inter_token_latency(double seconds,
                                     int tokens) = 0;  ///< Mean over `tokens` that came at once.
    /// A finish reason ("length", ...), "encoded", or "cancelled", "overloaded", "refused", "failed".
    virtual void request_ended(std::string_view reason) = 0;
    virtual void prompt_tokens(std::int64_t count) = 0;
    virtual void generated_tokens(std::int64_t count) = 0;
    virtual void host_restarted() = 0;
    /// One step of the engine, with so many sequences in its batch.
    virtual void step(int batch_size) = 0;
    /// What the engine is doing now.
    virtual void engine(int running, int waiting, int kv_blocks_used, int kv_blocks) = 0;
    virtual void steps(std::uint64_t total) = 0;        ///< Of the host that runs now.
    virtual void preemptions(std::uint64_t total) = 0;  ///< Of the host that runs now.
    virtual void queued(int requests) = 0;
    virtual void ready(bool is_ready) = 0;
  };
  ForModel& model(const std::string& name);

  /// One HTTP request has been answered. `route` is a pattern ("/predictions/{model}"), never what a client
  /// wrote.
  void http_request(std::string_view route, int status, double seconds);
  /// Connections open now.
  void http_connections(int change);

  /// Everything, in Prometheus' text format 0.0.4.
  std::string text() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace peregrine::serving
