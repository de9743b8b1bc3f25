// SPDX-License-Identifier: Apache-2.0
#include "cli/bench_load.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <boost/json/value.hpp>
#include <charconv>
#include <chrono>
#include <exception>
#include <optional>
#include <span>
#include <string_view>
#include <thread>
#include <utility>

#include "cli/bench_report.h"
#include "cli/json_output.h"
#include "cli/python_random.h"
#include "core/error.h"
#include "core/json.h"
#include "http/client.h"

namespace peregrine::cli {
namespace {

using Clock = std::chrono::steady_clock;
using core::ErrorKind;

/// The data of server-sent events, out of bytes that come in any pieces.
class EventStream {
 public:
  /// Calls `on_event` with each event's data that these bytes complete.
  template <typename OnEvent>
  void feed(std::string_view piece, const OnEvent& on_event) {
    for (const char c : piece) {
      if (c != '\r') pending_ += c;
    }
    std::size_t begin = 0;
    for (std::size_t end; (end = pending_.find("\n\n", begin)) != std::string::npos; begin = end + 2) {
      const std::string data = data_of(std::string_view(pending_).substr(begin, end - begin));
      if (!data.empty()) on_event(data);
    }
    pending_.erase(0, begin);
  }

  /// What has come of an event that is not complete: all of an answer that is no event stream.
  const std::string& pending() const { return pending_; }

 private:
  static std::string data_of(std::string_view event) {
    std::string out;
    while (!event.empty()) {
      const std::string_view line = event.substr(0, event.find('\n'));
      event.remove_prefix(std::min(event.size(), line.size() + 1));
      if (!line.starts_with("data:")) continue;
      std::string_view data = line.substr(5);
      if (data.starts_with(' ')) data.remove_prefix(1);
      out += (out.empty() ? "" : "\n");
      out += data;
    }
    return out;
  }

  std::string pending_;
};

/// What came of one request; times in seconds since the run began.
struct Outcome {
  double sent = 0;
  double ended = 0;
  std::vector<double> texts;    ///< When each piece of text came.
  std::int64_t new_tokens = 0;  ///< As the server counts them, or else the pieces.
  std::string error;
};

class Run {
 public:
  Run(const http::Client& client, std::string model, const std::vector<LoadRequest>& requests)
      : client_(client), model_(std::move(model)), requests_(requests), outcomes_(requests.size()) {}

  /// Sends all requests, `clients` at a time.
  void go(std::int32_t clients) {
    std::vector<std::jthread> threads;
    const auto count = std::min<std::size_t>(static_cast<std::size_t>(clients), requests_.size());
    for (std::size_t i = 0; i < count; ++i) {
      threads.emplace_back([this] {
        for (std::size_t at; (at = next_++) < requests_.size();) send(requests_[at], outcomes_[at]);
      });
    }
  }

  const std::vector<Outcome>& outcomes() const { return outcomes_; }

 private:
  double now() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

  std::string body(const LoadRequest& request) const {
    return fmt::format(
        "{{\"model\":{},\"prompt\":{},\"max_tokens\":{},\"stream\":true,\"stream_options\":"
        "{{\"include_usage\":true}},\"ignore_eos\":true,\"temperature\":0,\"cache_prompt\":false}}",
        json_string(model_), json_array(request.prompt), request.new_tokens);
  }

  void send(const LoadRequest& request, Outcome& outcome) {
    EventStream events;
    bool done = false;
    outcome.sent = now();
    try {
      const int status = client_.exchange({"/v1/completions", body(request), [&](std::string_view piece) {
                                             events.feed(piece, [&](const std::string& event) {
                                               done = done || event == "[DONE]";
                                               if (!done) take(event, outcome);
                                             });
                                           }});
      if (status != 200)
        outcome.error = fmt::format("status {}: {}", status, events.pending().substr(0, 300));
      else if (!done)
        outcome.error = "the stream ended without [DONE]";
      else if (outcome.texts.empty())
        outcome.error = "no text at all";
    } catch (const std::exception& error) {
      outcome.error = error.what();
    }
    outcome.ended = now();
    if (outcome.new_tokens == 0) outcome.new_tokens = std::ssize(outcome.texts);
  }

  void take(const std::string& event, Outcome& outcome) const {
    const auto value = core::parse_json(event, "event");
    const core::JsonView view(value, "event");
    if (view.find("error")) core::fail(ErrorKind::kInternal, "{}", event.substr(0, 300));
    if (const auto usage = view.find("usage"))
      outcome.new_tokens = usage->at("completion_tokens").as_int(0, 1 << 30);
    const auto choices = view.find("choices");
    if (!choices) return;
    for (const core::JsonView& choice : choices->items()) {
      const auto text = choice.find("text");
      if (text && !text->as_string().empty()) return outcome.texts.push_back(now());
    }
  }

  const http::Client& client_;
  std::string model_;
  const std::vector<LoadRequest>& requests_;
  std::vector<Outcome> outcomes_;
  Clock::time_point start_ = Clock::now();
  std::atomic<std::size_t> next_{0};
};

/// Quantiles with linear interpolation, of seconds, in milliseconds.
class Milliseconds {
 public:
  explicit Milliseconds(std::vector<double> seconds) : sorted_(std::move(seconds)) {
    std::sort(sorted_.begin(), sorted_.end());
  }
  double at(double quantile) const {
    if (sorted_.empty()) return 0;
    const double place = quantile * static_cast<double>(sorted_.size() - 1);
    const auto below = static_cast<std::size_t>(place);
    const auto above = std::min(below + 1, sorted_.size() - 1);
    return 1e3 * (sorted_[below] + (sorted_[above] - sorted_[below]) * (place - static_cast<double>(below)));
  }
  std::string json() const {
    return fmt::format("{{\"p50\":{:.2f},\"p90\":{:.2f},\"p99\":{:.2f},\"max\":{:.2f},\"n\":{}}}", at(0.5),
                       at(0.9), at(0.99), at(1), sorted_.size());
  }
  std::string text(std::string_view name) const {
    return fmt::format("{}: median {:.1f} ms, p99 {:.1f} ms, worst {:.1f} ms", name, at(0.5), at(0.99),
                       at(1));
  }

 private:
  std::vector<double> sorted_;
};

/// What all outcomes say together.
struct Summary {
  double seconds = 0;
  std::int64_t prompt_tokens = 0, new_tokens = 0;
  std::size_t errors = 0, wrong_length = 0;
  std::string first_error;
  std::vector<double> first_token, gaps, per_token;

  Summary(std::span<const LoadRequest> requests, std::span<const Outcome> outcomes) {
    double begin = outcomes.front().sent, end = 0;
    for (std::size_t i = 0; i < outcomes.size(); ++i) {
      begin = std::min(begin, outcomes[i].sent);
      end = std::max(end, outcomes[i].ended);
      add(requests[i], outcomes[i]);
    }
    seconds = end - begin;
  }

 private:
  void add(const LoadRequest& request, const Outcome& outcome) {
    if (!outcome.error.empty()) {
      if (errors++ == 0) first_error = outcome.error;
      return;
    }
    prompt_tokens += std::ssize(request.prompt);
    new_tokens += outcome.new_tokens;
    if (outcome.new_tokens != request.new_tokens) ++wrong_length;
    const std::vector<double>& texts = outcome.texts;
    first_token.push_back(texts.front() - outcome.sent);
    for (std::size_t i = 1; i < texts.size(); ++i) gaps.push_back(texts[i] - texts[i - 1]);
    if (outcome.new_tokens > 1)
      per_token.push_back((texts.back() - texts.front()) / static_cast<double>(outcome.new_tokens - 1));
  }
};

void print(const LoadPlan& plan, const Summary& summary, Report& report) {
  const double output_rate = static_cast<double>(summary.new_tokens) / summary.seconds;
  const double total_rate = static_cast<double>(summary.prompt_tokens + summary.new_tokens) / summary.seconds;
  const Milliseconds first(summary.first_token), gaps(summary.gaps), per_token(summary.per_token);
  report.member("url", json_string(plan.url));
  report.number("clients", plan.clients);
  report.number("requests", plan.requests);
  report.number("seed", plan.seed);
  report.number("seconds", summary.seconds);
  report.member("prompt_tokens_total", fmt::format("{}", summary.prompt_tokens));
  report.member("output_tokens_total", fmt::format("{}", summary.new_tokens));
  report.number("output_tok_s", output_rate);
  report.number("total_tok_s", total_rate);
  report.member("ttft_ms", first.json());
  report.member("gap_ms", gaps.json());
  report.member("tpot_ms", per_token.json());
  report.member("errors", fmt::format("{}", summary.errors));
  report.member("wrong_length", fmt::format("{}", summary.wrong_length));
  report.line(fmt::format("{} clients, {} requests, {:.1f} s: {:.1f} output tokens/s, {:.1f} with prompts",
                          plan.clients, plan.requests, summary.seconds, output_rate, total_rate));
  report.line(first.text("first token"));
  report.line(gaps.text("gap between pieces of text"));
  report.line(per_token.text("time per output token"));
  if (summary.errors > 0)
    report.line(fmt::format("{} requests failed; the first: {}", summary.errors, summary.first_error));
  if (summary.wrong_length > 0)
    report.line(fmt::format("{} answers have another length than asked for", summary.wrong_length));
}

/// The name of the first model that the server lists.
std::string first_model(const http::Client& client) {
  std::string body;
  const int status = client.exchange({"/v1/models", "", [&](std::string_view piece) { body += piece; }});
  if (status != 200) {
    core::fail(ErrorKind::kInvalidArgument,
               "the server lists no models (GET /v1/models gives status {}); name one with --model-name",
               status);
  }
  const auto value = core::parse_json(body, "/v1/models");
  const auto models = core::JsonView(value, "/v1/models").at("data").items();
  if (models.empty()) core::fail(ErrorKind::kNotFound, "the server serves no model");
  return std::string(models.front().at("id").as_string());
}

}  // namespace

std::array<std::int32_t, 2> parse_range(std::string_view text, std::string_view option) {
  constexpr std::int32_t kMost = 1 << 24;
  const auto number = [&](std::string_view part) {
    std::int32_t value = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), value);
    return error == std::errc() && end == part.data() + part.size() ? value : -1;
  };
  const std::size_t colon = std::min(text.find(':'), text.size());
  const std::int32_t low = number(text.substr(0, colon));
  const std::int32_t high = colon < text.size() ? number(text.substr(colon + 1)) : low;
  if (low < 1 || high < low || high > kMost) {
    core::fail(ErrorKind::kInvalidArgument, "{} must be LOW:HIGH with 1 <= LOW <= HIGH <= {}, found {}",
               option, kMost, core::quoted(text));
  }
  return {low, high};
}

std::vector<LoadRequest> load_requests(const LoadPlan& plan, std::uint32_t seed, std::int32_t count) {
  PythonRandom random(seed);
  std::vector<LoadRequest> out(static_cast<std::size_t>(count));
  for (LoadRequest& request : out) {
    request.prompt.resize(
        static_cast<std::size_t>(random.randint(plan.prompt_tokens[0], plan.prompt_tokens[1])));
    request.new_tokens = random.randint(plan.output_tokens[0], plan.output_tokens[1]);
    for (std::int32_t& id : request.prompt) id = random.randint(plan.token_ids[0], plan.token_ids[1]);
  }
  return out;
}

void bench_load(const LoadPlan& plan, bool json) {
  const http::Client client(http::parse_address(plan.url));
  const std::string model = plan.model.empty() ? first_model(client) : plan.model;
  if (plan.warmup > 0) {
    const auto requests = load_requests(plan, plan.seed + 1'000'000, plan.warmup);
    Run warmup(client, model, requests);
    warmup.go(plan.clients);
    const auto& outcomes = warmup.outcomes();
    if (std::all_of(outcomes.begin(), outcomes.end(), [](const Outcome& o) { return !o.error.empty(); }))
      core::fail(ErrorKind::kInternal, "the requests that warm up failed: {}", outcomes.front().error);
  }
  const auto requests = load_requests(plan, plan.seed, plan.requests);
  Run run(client, model, requests);
  run.go(plan.clients);
  const Summary summary(requests, run.outcomes());
  Report report(json);
  print(plan, summary, report);
  report.finish();
  if (summary.errors > 0)
    core::fail(ErrorKind::kInternal, "{} of {} requests failed; the first: {}", summary.errors, plan.requests,
               summary.first_error);
}

}  // namespace peregrine::cli
