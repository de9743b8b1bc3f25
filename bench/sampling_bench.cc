// SPDX-License-Identifier: Apache-2.0
// Drawing one token from a row of logits, by size of the vocabulary, shape of the distribution and what the
// request asks for. The row is written anew before each draw, outside the time that counts: as after a head's
// matrix product, it lies in the cache as far as it fits.
//
//   sampling_bench --benchmark_filter=flat/256k

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "decoding/sampler.h"

namespace {

using namespace peregrine;

struct Shape {
  const char* name;
  float spread;    ///< Of normal(0, spread) logits.
  int likely;      ///< Tokens that stand out.
  float distance;  ///< By how much the first of them does; each further one by a little less.
};
// flat: what a model with random weights gives, the hardest case, since top-p keeps two thirds of the
// vocabulary. peaked: what a trained model gives, a few hundred tokens that matter.
constexpr Shape kShapes[] = {{"flat", 1.0f, 0, 0.0f}, {"peaked", 3.0f, 200, 16.0f}};

std::vector<float> logits_of(const Shape& shape, std::int64_t vocab) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal(0, shape.spread);
  std::vector<float> logits(static_cast<std::size_t>(vocab));
  for (float& logit : logits) logit = normal(random);
  for (int i = 0; i < shape.likely; ++i) {
    logits[random() % logits.size()] = shape.distance - 0.03f * static_cast<float>(i);
  }
  return logits;
}

std::vector<std::pair<const char*, generation::Parameters>> cases() {
  generation::Parameters greedy;
  greedy.max_new_tokens = 1 << 30;
  generation::Parameters top5 = greedy;
  top5.top_n_tokens = 5;
  generation::Parameters penalty = greedy;
  penalty.repetition_penalty = 1.1f;
  generation::Parameters temperature = greedy;
  temperature.do_sample = true;
  temperature.temperature = 0.8f;
  generation::Parameters top_k = temperature;
  top_k.top_k = 50;
  generation::Parameters top_p = temperature;
  top_p.top_p = 0.9f;
  generation::Parameters both = top_k;
  both.top_p = 0.9f;
  generation::Parameters min_p = temperature;
  min_p.min_p = 0.05f;
  generation::Parameters typical = temperature;
  typical.typical_p = 0.9f;
  generation::Parameters wide_k = temperature;
  wide_k.top_k = 5000;
  generation::Parameters all = both;
  all.min_p = 0.01f;
  all.repetition_penalty = 1.1f;
  all.frequency_penalty = 0.1f;
  all.top_n_tokens = 5;
  return {{"greedy", greedy},
          {"top_5_log_probs", top5},
          {"repetition_penalty", penalty},
          {"temperature", temperature},
          {"top_k_50", top_k},
          {"top_k_5000", wide_k},
          {"top_p_0.9", top_p},
          {"top_k_top_p", both},
          {"min_p", min_p},
          {"typical_p", typical},
          {"all", all}};
}

void sample(benchmark::State& state, const Shape& shape, std::int64_t vocab,
            const generation::Parameters& parameters) {
  const std::vector<float> source = logits_of(shape, vocab);
  std::vector<float> logits = source;
  std::vector<std::int32_t> prompt(1000);
  for (std::size_t i = 0; i < prompt.size(); ++i) prompt[i] = static_cast<std::int32_t>(i * 29);
  decoding::SequenceSampler sampler(parameters, 1, 0, vocab, prompt, {});
  decoding::SamplerScratch scratch(vocab);
  decoding::SampledToken out;
  for (auto _ : state) {
    std::ranges::copy(source, logits.begin());
    const auto start = std::chrono::steady_clock::now();
    sampler.sample(logits, scratch, out);
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
    state.SetIterationTime(time.count());
  }
}

}  // namespace

int main(int argc, char** argv) {
  const auto all = cases();
  for (const Shape& shape : kShapes) {
    for (const std::int64_t thousands : {32, 65, 128, 256}) {
      for (const auto& [what, parameters] : all) {
        const auto name = fmt::format("{}/{}k/{}", shape.name, thousands, what);
        benchmark::RegisterBenchmark(name.c_str(),
                                     [&shape, thousands, parameters = parameters](benchmark::State& state) {
                                       sample(state, shape, thousands * 1024, parameters);
                                     })
            ->Unit(benchmark::kMicrosecond)
            ->UseManualTime();
      }
    }
  }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
