// SPDX-License-Identifier: Apache-2.0
#include "cli/bench_generation.h"

#include <algorithm>
#include <chrono>
#include <span>
#include <utility>

#include "cli/bench_mixed.h"
#include "core/error.h"
#include "engine/engine.h"

namespace peregrine::cli {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Counts tokens, and notes when every sequence has had its first and when the first sequence has ended.
class DecodeMeter : public engine::EventSink {
 public:
  explicit DecodeMeter(std::int32_t sequences) : started_(static_cast<std::size_t>(sequences), false) {}

  void on_step(std::span<const engine::SequenceEvent> events) override {
    const bool counting = waiting() == 0;
    for (const engine::SequenceEvent& event : events) {
      if (!event.tokens.empty()) started_.at(static_cast<std::size_t>(event.request)) = true;
      if (counting) tokens_ += event.tokens.size();
      if (event.finish) finished_ = true;
    }
    if (counting) {
      seconds_ = seconds_since(start_);
    } else if (waiting() == 0) {
      start_ = Clock::now();
    }
  }

  bool finished() const { return finished_; }
  double tokens_per_second() const { return seconds_ > 0 ? static_cast<double>(tokens_) / seconds_ : 0; }

 private:
  std::size_t waiting() const {
    return static_cast<std::size_t>(std::count(started_.begin(), started_.end(), false));
  }

  std::vector<bool> started_;
  Clock::time_point start_;
  double seconds_ = 0;
  std::size_t tokens_ = 0;
  bool finished_ = false;
};

/// Greedy requests of one length.
struct Requests {
  std::int32_t count = 1;
  std::int32_t prompt_tokens = 1;
  std::int32_t new_tokens = 1;
};

/// Runs them from their submission until the first of them ends; the seconds that took.
double run(const Session& session, const Requests& requests, DecodeMeter& meter) {
  engine::EngineOptions options = host::engine_options(session.options);
  options.max_rolling_batch_size = requests.count;
  options.max_rolling_batch_prefill_tokens =
      std::max(options.max_rolling_batch_prefill_tokens, requests.prompt_tokens);
  options.max_model_length = requests.prompt_tokens + requests.new_tokens;
  options.step_seconds = 0;  // Prompts are to be computed as fast as can be: nobody reads along.
  engine::Engine engine(*session.device, *session.model.decoder, options, session.model.encoder.get());
  const auto start = Clock::now();
  for (std::int32_t i = 0; i < requests.count; ++i) {
    engine::Request request;
    request.id = static_cast<engine::RequestId>(i);
    set_prompt(session,
               bench_prompt(requests.prompt_tokens, session.model.decoder->config().vocab_size, request.id),
               request);
    request.parameters.max_new_tokens = requests.new_tokens;
    engine.submit(std::move(request));
  }
  while (!meter.finished() && engine.step(meter)) {
  }
  return seconds_since(start);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void check_range(const char* option, std::int32_t value, std::int32_t least, std::int32_t most) {
  if (value >= least && value <= most) return;
  core::fail(core::ErrorKind::kInvalidArgument, "{} must be from {} to {} and is {}", option, least, most,
             value);
}

}  // namespace

void GenerationPlan::check() const {
  constexpr std::int32_t kMostTokens = 1 << 20, kMostSequences = 4096, kMostRuns = 1000;
  for (const std::int32_t tokens : prompt_tokens) check_range("--prompt-tokens", tokens, 1, kMostTokens);
  for (const std::int32_t batch : batches) check_range("--batch", batch, 1, kMostSequences);
  check_range("--decode-prompt-tokens", decode_prompt_tokens, 1, kMostTokens);
  check_range("--new-tokens", new_tokens, 2, kMostTokens);
  check_range("--repeat", repeat, 1, kMostRuns);
}

double prefill_rate(const Session& session, const GenerationPlan& plan, std::int32_t prompt_tokens) {
  std::vector<double> rates;
  for (std::int32_t i = 0; i <= plan.repeat; ++i) {
    DecodeMeter meter(1);
    const double seconds = run(session, {1, prompt_tokens, 1}, meter);
    if (i > 0) rates.push_back(prompt_tokens / seconds);  // the first run warms up
  }
  return median(rates);
}

double decode_rate(const Session& session, const GenerationPlan& plan, std::int32_t batch) {
  // Prompts of a large batch take several steps; sequences that started early must not end while others
  // prefill.
  const std::int32_t prefill_steps = static_cast<std::int32_t>(
      std::int64_t{batch} * plan.decode_prompt_tokens / session.options.max_rolling_batch_prefill_tokens + 2);
  std::vector<double> rates;
  for (std::int32_t i = 0; i < plan.repeat; ++i) {
    DecodeMeter meter(batch);
    run(session, {batch, plan.decode_prompt_tokens, plan.new_tokens + prefill_steps}, meter);
    rates.push_back(meter.tokens_per_second());
  }
  return median(rates);
}

}  // namespace peregrine::cli
