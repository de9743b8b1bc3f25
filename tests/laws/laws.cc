// SPDX-License-Identifier: Apache-2.0
#include "laws/laws.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <utility>

namespace peregrine::testing {
namespace {

std::vector<std::int32_t> random_prompt(std::int32_t length, std::int64_t vocab_size, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::int32_t> ids;
  for (std::int32_t i = 0; i < length; ++i) {
    ids.push_back(static_cast<std::int32_t>(random() % static_cast<std::uint64_t>(vocab_size)));
  }
  return ids;
}

/// Cycles through the kinds of request that take different ways through sampling.
void vary_parameters(generation::Parameters& parameters, std::size_t kind) {
  switch (kind % 7) {
    case 0:
      return;  // greedy
    case 1:
      parameters.do_sample = true;
      parameters.temperature = 0.9f;
      parameters.top_p = 0.95f;
      return;
    case 2:
      parameters.repetition_penalty = 1.2f;
      parameters.no_repeat_ngram_size = 3;
      return;
    case 3:
      parameters.do_sample = true;
      parameters.top_k = 20;
      parameters.n = 2;
      return;
    case 4:
      parameters.num_beams = 4;
      parameters.n = 2;
      return;
    case 5:
      parameters.num_beams = 4;
      parameters.num_beam_groups = 2;
      parameters.diversity_penalty = 0.7f;
      parameters.repetition_penalty = 1.2f;
      parameters.prompt_logprobs = 2;
      return;
    default:
      parameters.do_sample = true;
      parameters.temperature = 1.3f;
      parameters.min_p = 0.02f;
      parameters.presence_penalty = 0.5f;
  }
}

}  // namespace

LawBench::LawBench(const DeviceCase& device, const ModelLoader& loader, int threads)
    : device_(device.create(threads)), model_(loader(*device_)) {}

std::vector<engine::Request> LawBench::mixed_requests(std::size_t count,
                                                      const std::vector<std::int32_t>& prompt_lengths,
                                                      std::int32_t new_tokens) const {
  std::vector<engine::Request> requests;
  for (std::size_t i = 0; i < count; ++i) {
    engine::Request request;
    request.id = i;
    request.prompt_ids =
        random_prompt(prompt_lengths[i % prompt_lengths.size()], decoder().config().vocab_size, 1000 + i);
    if (model_.encoder) request.encoder_ids = std::exchange(request.prompt_ids, {0});
    request.parameters.max_new_tokens = new_tokens;
    vary_parameters(request.parameters, i);
    request.seed = 77 * i + 5;
    requests.push_back(std::move(request));
  }
  return requests;
}

Answers LawBench::together(const std::vector<engine::Request>& requests,
                           const engine::EngineOptions& options) const {
  engine::Engine engine(*device_, decoder(), options, model_.encoder.get());
  return run_to_end(engine, requests);
}

Answers LawBench::alone(const std::vector<engine::Request>& requests,
                        const engine::EngineOptions& options) const {
  Answers answers;
  for (const engine::Request& request : requests) answers.merge(together({request}, options));
  return answers;
}

Answers LawBench::preempted(const std::vector<engine::Request>& requests,
                            const engine::EngineOptions& options) const {
  engine::Engine engine(*device_, decoder(), options, model_.encoder.get());
  Collector collector;
  for (const engine::Request& request : requests) {
    collector.expect(request.id, request.parameters.reported_sequences());
    engine.submit(request);
  }
  std::mt19937 random(7);
  // Often enough to hit prefill and decode, rarely enough that the youngest gets somewhere.
  while (engine.step(collector)) {
    if (random() % 4 == 0) engine.preempt_youngest();
  }
  EXPECT_GT(engine.stats().preemptions, 0u);
  return collector.answers();
}

Answers LawBench::beside_cancelled(const std::vector<engine::Request>& requests,
                                   const engine::EngineOptions& options) const {
  engine::Engine engine(*device_, decoder(), options, model_.encoder.get());
  Collector collector;
  std::vector<engine::RequestId> doomed;
  for (const engine::Request& request : requests) {
    collector.expect(request.id, request.parameters.reported_sequences());
    if (request.id % 2 == 1) doomed.push_back(request.id);
    engine.submit(request);
  }
  // Spread over the requests' lives: some are cancelled in the queue, some in prefill, some while they
  // decode.
  const auto interval = static_cast<std::size_t>(std::max(1, requests.front().parameters.max_new_tokens / 8));
  std::size_t cancelled = 0;
  for (std::size_t step = 0; engine.step(collector); ++step) {
    if (step % interval != 0 || step / interval >= doomed.size()) continue;
    const engine::RequestId id = doomed[step / interval];
    if (!engine.cancel(id)) continue;  // it was done already
    collector.forget(id);
    ++cancelled;
  }
  EXPECT_GE(2 * cancelled, doomed.size()) << "too few were still running to prove anything";
  EXPECT_EQ(engine.stats().kv_blocks_used, 0);
  return collector.answers();
}

Answers LawBench::replayed(const std::vector<engine::Request>& requests, const Answers& whole,
                           const engine::EngineOptions& options) const {
  std::vector<engine::Request> later = requests;
  Answers expected_rest;
  for (engine::Request& request : later) {
    if (request.parameters.num_beams > 1) continue;  // Beams begin anew.
    const auto& sequences = whole.at(request.id);
    for (std::size_t s = 0; s < sequences.size(); ++s) {
      const auto& ids = sequences[s].ids;
      const std::size_t kept = std::min(ids.size() - 1, (request.id * 3 + s * 2) % ids.size());
      request.generated.emplace_back(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(kept));
    }
  }
  Answers answers = together(later, options);
  for (engine::Request& request : later) {
    if (request.generated.empty()) continue;
    auto& sequences = answers.at(request.id);
    for (std::size_t s = 0; s < sequences.size(); ++s) {
      const Answer& before = whole.at(request.id)[s];
      const auto kept = static_cast<std::ptrdiff_t>(request.generated[s].size());
      sequences[s].ids.insert(sequences[s].ids.begin(), before.ids.begin(), before.ids.begin() + kept);
      sequences[s].logprobs.insert(sequences[s].logprobs.begin(), before.logprobs.begin(),
                                   before.logprobs.begin() + kept);
    }
  }
  return answers;
}

void expect_same(const Answers& found, const Answers& expected, const std::string& law) {
  ASSERT_FALSE(found.empty()) << law;
  for (const auto& [id, sequences] : found) {
    const auto& wanted = expected.at(id);
    ASSERT_EQ(sequences.size(), wanted.size()) << law << ", request " << id;
    for (std::size_t s = 0; s < sequences.size(); ++s) {
      if (sequences[s] == wanted[s]) continue;
      std::size_t at = 0;
      while (at < sequences[s].ids.size() && at < wanted[s].ids.size() &&
             sequences[s].ids[at] == wanted[s].ids[at] &&
             sequences[s].logprobs[at] == wanted[s].logprobs[at]) {
        ++at;
      }
      const auto shown = [at](const Answer& answer) {
        return at < answer.ids.size()
                   ? std::to_string(answer.ids[at]) + " (" + std::to_string(answer.logprobs[at]) + ")"
                   : "the end";
      };
      ADD_FAILURE() << law << ": request " << id << ", sequence " << s << " differs at token " << at << ": "
                    << shown(sequences[s]) << ", expected " << shown(wanted[s]);
    }
  }
}

}  // namespace peregrine::testing
