// SPDX-License-Identifier: Apache-2.0
#include "serving/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <chrono>
#include <map>
#include <mutex>
#include <utility>

namespace peregrine::serving {
namespace {

using prometheus::Counter;
using prometheus::Gauge;
using prometheus::Histogram;
template <typename T>
using Family = prometheus::Family<T>;
using Buckets = Histogram::BucketBoundaries;

// Upper bounds, in seconds but for the last.
const Buckets& queue_buckets() {
  static const Buckets buckets = {.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120};
  return buckets;
}
const Buckets& first_token_buckets() {
  static const Buckets buckets = {.005, .01, .02, .04, .06, .08, .1, .15, .25,
                                  .5,   .75, 1,   2.5, 5,   10,  30, 60};
  return buckets;
}
const Buckets& inter_token_buckets() {
  static const Buckets buckets = {.0005, .001, .0025, .005, .01, .015, .02, .03, .04, .05,
                                  .075,  .1,   .15,   .2,   .3,  .4,   .5,  .75, 1,   2.5};
  return buckets;
}
const Buckets& http_buckets() {
  static const Buckets buckets = {.001, .005, .01, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300};
  return buckets;
}
const Buckets& batch_buckets() {
  static const Buckets buckets = {0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024};
  return buckets;
}

Family<Counter>& counter(prometheus::Registry& registry, const char* name, const char* help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry);
}
Family<Gauge>& gauge(prometheus::Registry& registry, const char* name, const char* help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry);
}
Family<Histogram>& histogram(prometheus::Registry& registry, const char* name, const char* help) {
  return prometheus::BuildHistogram().Name(name).Help(help).Register(registry);
}

/// The families that have one member for each model.
struct ModelFamilies {
  explicit ModelFamilies(prometheus::Registry& registry)
      : queue(histogram(registry, "peregrine_request_queue_seconds",
                        "Time from a request's submission until it went to the engine host")),
        first_token(histogram(registry, "peregrine_time_to_first_token_seconds",
                              "Time from a request's submission until its first token")),
        inter_token(histogram(registry, "peregrine_inter_token_latency_seconds",
                              "Time between consecutive tokens of a sequence")),
        batch(histogram(registry, "peregrine_engine_batch_size", "Sequences in the batch of a step")),
        requests(counter(registry, "peregrine_requests_total", "Requests that have ended, by how")),
        prompt_tokens(counter(registry, "peregrine_prompt_tokens_total", "Prompt tokens sent to the engine")),
        generated_tokens(counter(registry, "peregrine_generated_tokens_total", "Tokens generated")),
        preemptions(counter(registry, "peregrine_preemptions_total",
                            "Requests stopped for want of KV blocks and recomputed later")),
        restarts(counter(registry, "peregrine_host_restarts_total", "Engine hosts started after the first")),
        steps(counter(registry, "peregrine_engine_steps_total", "Steps of the engine")),
        running(gauge(registry, "peregrine_engine_running_sequences", "Sequences in the engine's batch")),
        waiting(gauge(registry, "peregrine_engine_waiting_requests", "Requests waiting inside the engine")),
        kv_used(gauge(registry, "peregrine_kv_blocks_used", "Blocks of the KV cache in use")),
        kv_blocks(gauge(registry, "peregrine_kv_blocks", "Blocks of the KV cache")),
        queued(gauge(registry, "peregrine_queued_requests", "Requests waiting in the server")),
        ready(gauge(registry, "peregrine_model_ready", "1 where the model's engine host is loaded")) {}

  Family<Histogram>&queue, &first_token, &inter_token, &batch;
  Family<Counter>&requests, &prompt_tokens, &generated_tokens, &preemptions, &restarts, &steps;
  Family<Gauge>&running, &waiting, &kv_used, &kv_blocks, &queued, &ready;
};

/// A counter fed with the totals of hosts that begin again at 0.
class Total {
 public:
  explicit Total(Counter& counter) : counter_(counter) {}
  void set(std::uint64_t total) {
    const std::lock_guard lock(mutex_);
    if (total > last_) counter_.Increment(static_cast<double>(total - last_));
    last_ = total;
  }
  void restart() {
    const std::lock_guard lock(mutex_);
    last_ = 0;
  }

 private:
  std::mutex mutex_;
  Counter& counter_;
  std::uint64_t last_ = 0;
};

class OneModel final : public Metrics::ForModel {
 public:
  OneModel(ModelFamilies& families, const std::string& name)
      : labels_{{"model", name}},
        requests_(families.requests),
        queue_(families.queue.Add(labels_, queue_buckets())),
        first_token_(families.first_token.Add(labels_, first_token_buckets())),
        inter_token_(families.inter_token.Add(labels_, inter_token_buckets())),
        batch_(families.batch.Add(labels_, batch_buckets())),
        prompt_tokens_(families.prompt_tokens.Add(labels_)),
        generated_tokens_(families.generated_tokens.Add(labels_)),
        restarts_(families.restarts.Add(labels_)),
        preemptions_(families.preemptions.Add(labels_)),
        steps_(families.steps.Add(labels_)),
        running_(families.running.Add(labels_)),
        waiting_(families.waiting.Add(labels_)),
        kv_used_(families.kv_used.Add(labels_)),
        kv_blocks_(families.kv_blocks.Add(labels_)),
        queued_(families.queued.Add(labels_)),
        ready_(families.ready.Add(labels_)) {}

  void queue_time(double seconds) override { queue_.Observe(seconds); }
  void time_to_first_token(double seconds) override { first_token_.Observe(seconds); }
  void inter_token_latency(double seconds, int tokens) override {
    for (int i = 0; i < tokens; ++i) inter_token_.Observe(seconds / tokens);
  }
  void request_ended(std::string_view reason) override {
    requests_.Add({{"model", labels_.at("model")}, {"outcome", std::string(reason)}}).Increment();
  }
  void prompt_tokens(std::int64_t count) override { prompt_tokens_.Increment(static_cast<double>(count)); }
  void generated_tokens(std::int64_t count) override {
    generated_tokens_.Increment(static_cast<double>(count));
  }
  void host_restarted() override {
    restarts_.Increment();
    preemptions_.restart();
    steps_.restart();
  }
  void step(int batch_size) override { batch_.Observe(batch_size); }
  void engine(int running, int waiting, int kv_blocks_used, int kv_blocks) override {
    running_.Set(running);
    waiting_.Set(waiting);
    kv_used_.Set(kv_blocks_used);
    kv_blocks_.Set(kv_blocks);
  }
  void steps(std::uint64_t total) override { steps_.set(total); }
  void preemptions(std::uint64_t total) override { preemptions_.set(total); }
  void queued(int requests) override { queued_.Set(requests); }
  void ready(bool is_ready) override { ready_.Set(is_ready ? 1 : 0); }

 private:
  const prometheus::Labels labels_;
  Family<Counter>& requests_;
  Histogram &queue_, &first_token_, &inter_token_, &batch_;
  Counter &prompt_tokens_, &generated_tokens_, &restarts_;
  Total preemptions_, steps_;
  Gauge &running_, &waiting_, &kv_used_, &kv_blocks_, &queued_, &ready_;
};

}  // namespace

struct Metrics::Impl {
  Impl()
      : models_of(registry),
        http_requests(counter(registry, "peregrine_http_requests_total", "HTTP requests answered")),
        http_seconds(histogram(registry, "peregrine_http_request_seconds",
                               "Time from a request's first byte to its answer's last")),
        http_connections(gauge(registry, "peregrine_http_connections", "HTTP connections open now").Add({})) {
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    gauge(registry, "process_start_time_seconds", "When the process started, in seconds since 1970")
        .Add({})
        .Set(std::chrono::duration<double>(now).count());
    gauge(registry, "peregrine_build_info", "Always 1; the labels say what runs")
        .Add({{"version", PEREGRINE_VERSION}})
        .Set(1);
  }

  prometheus::Registry registry;
  ModelFamilies models_of;
  Family<Counter>& http_requests;
  Family<Histogram>& http_seconds;
  Gauge& http_connections;

  std::mutex mutex;
  std::map<std::string, std::unique_ptr<OneModel>> models;  ///< Guarded by mutex.
};

Metrics::Metrics() : impl_(std::make_unique<Impl>()) {}
Metrics::~Metrics() = default;

Metrics::ForModel& Metrics::model(const std::string& name) {
  const std::lock_guard lock(impl_->mutex);
  std::unique_ptr<OneModel>& model = impl_->models[name];
  if (!model) model = std::make_unique<OneModel>(impl_->models_of, name);
  return *model;
}

void Metrics::http_request(std::string_view route, int status, double seconds) {
  const std::string pattern(route);
  impl_->http_requests.Add({{"route", pattern}, {"status", std::to_string(status)}}).Increment();
  impl_->http_seconds.Add({{"route", pattern}}, http_buckets()).Observe(seconds);
}

void Metrics::http_connections(int change) { impl_->http_connections.Increment(change); }

std::string Metrics::text() const {
  return prometheus::TextSerializer().Serialize(impl_->registry.Collect());
}

}  // namespace peregrine::serving
