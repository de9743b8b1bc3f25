// SPDX-License-Identifier: Apache-2.0
#include "cli/bench_mixed.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <utility>

#include "engine/engine.h"

namespace peregrine::cli {
namespace {

using Clock = std::chrono::steady_clock;

/// Ids and log-probabilities of every sequence, and the scores of beams.
class Answers : public engine::EventSink {
 public:
  using Key = std::pair<engine::RequestId, std::int32_t>;
  struct Answer {
    std::vector<std::int32_t> ids;
    std::vector<float> logprobs;
    float score = 0;
    bool operator==(const Answer&) const = default;
  };

  void on_step(std::span<const engine::SequenceEvent> events) override {
    for (const engine::SequenceEvent& event : events) {
      Answer& answer = all_[{event.request, event.sequence}];
      for (const auto& token : event.tokens) {
        answer.ids.push_back(token.token.id);
        answer.logprobs.push_back(token.token.log_prob);
      }
      answer.score = event.score.value_or(0);
      if (event.finish && event.sequence == 0) ++ended_;
    }
  }

  const std::map<Key, Answer>& all() const { return all_; }
  /// Requests whose first sequence has ended: the others of a group of beams end with it.
  std::int32_t ended() const { return ended_; }

 private:
  std::map<Key, Answer> all_;
  std::int32_t ended_ = 0;
};

/// Keeps `at_once` requests in the engine; the seconds that all take.
double run(engine::Engine& engine, const std::vector<engine::Request>& requests, std::int32_t at_once,
           Answers& answers) {
  const auto start = Clock::now();
  std::int32_t submitted = 0;
  do {
    while (submitted < std::ssize(requests) && submitted - answers.ended() < at_once) {
      engine.submit(requests[static_cast<std::size_t>(submitted++)]);
    }
  } while (engine.step(answers) || submitted < std::ssize(requests));
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::vector<engine::Request> mixed_requests(const Session& session, std::int32_t count) {
  constexpr std::int32_t kPrompts[] = {17, 130, 48, 300, 80, 9, 200};
  constexpr std::int32_t kAnswers[] = {24, 60, 40, 33, 52};
  std::vector<engine::Request> requests;
  for (std::int32_t i = 0; i < count; ++i) {
    engine::Request request;
    request.id = static_cast<engine::RequestId>(i);
    request.seed = 1000 + request.id;
    const std::int64_t vocab_size = session.model.decoder->config().vocab_size;
    set_prompt(session, bench_prompt(kPrompts[i % 7], vocab_size, request.id), request);
    generation::Parameters& parameters = request.parameters;
    parameters.max_new_tokens = kAnswers[i % 5];
    if (i % 3 == 1) {
      parameters.num_beams = 4;
      parameters.n = 2;
    } else if (i % 3 == 2) {
      parameters.do_sample = true;
      parameters.temperature = 0.9f;
      parameters.top_p = 0.9f;
    }
    requests.push_back(std::move(request));
  }
  return requests;
}

}  // namespace

std::vector<std::int32_t> bench_prompt(std::int32_t tokens, std::int64_t vocab_size, std::uint64_t seed) {
  // A linear congruential generator with Knuth's MMIX constants.
  std::vector<std::int32_t> ids;
  std::uint64_t state = seed + 1;
  for (std::int32_t i = 0; i < tokens; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    ids.push_back(static_cast<std::int32_t>((state >> 33) % static_cast<std::uint64_t>(vocab_size)));
  }
  return ids;
}

void set_prompt(const Session& session, std::vector<std::int32_t> ids, engine::Request& request) {
  if (session.model.encoder) {
    request.encoder_ids = std::move(ids);
    request.prompt_ids = {session.model.directory.info().decoder_start()};
  } else {
    request.prompt_ids = std::move(ids);
  }
}

MixedResult run_mixed(const Session& session, std::int32_t count) {
  const auto requests = mixed_requests(session, count);
  engine::EngineOptions options = host::engine_options(session.options);
  options.max_rolling_batch_size = std::max(options.max_rolling_batch_size, 2 * count);
  options.max_model_length = 512;
  engine::Engine engine(*session.device, *session.model.decoder, options, session.model.encoder.get());
  MixedResult out;
  out.requests = requests.size();
  Answers alone;
  for (std::int32_t at_once = 1;; at_once = std::min(2 * at_once, count)) {
    Answers answers;
    MixedResult::Level level{at_once, run(engine, requests, at_once, answers), 0};
    if (at_once == 1) alone = answers;
    for (const auto& [key, answer] : alone.all()) level.differing += answers.all().at(key) == answer ? 0 : 1;
    out.levels.push_back(level);
    if (at_once == count) break;
  }
  for (const auto& [key, answer] : alone.all()) out.new_tokens += answer.ids.size();
  return out;
}

}  // namespace peregrine::cli
