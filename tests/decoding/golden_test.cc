// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "core/files.h"
#include "core/json.h"
#include "decoding/candidates.h"
#include "decoding/processors.h"
#include "decoding/sampler.h"
#include "decoding/softmax.h"
#include "support/test_data.h"

namespace peregrine::decoding {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr double kTolerance = 1e-5;
constexpr char kFixture[] = "golden/logits_transforms/expected.json";

struct Case {
  std::string label;
  generation::Parameters parameters;
  std::vector<std::int32_t> context, encoder;
  std::size_t prompt_size = 0;
  std::vector<float> input, output, probabilities;
  std::size_t kept = 0;
};

std::vector<std::int32_t> ids(const core::JsonView& list) {
  std::vector<std::int32_t> out;
  for (const auto& item : list.items()) out.push_back(static_cast<std::int32_t>(item.as_int(0, 1 << 30)));
  return out;
}

std::vector<float> floats(const core::JsonView& list) {
  std::vector<float> out;
  for (const auto& item : list.items())
    out.push_back(item.is_null() ? -kInf : static_cast<float>(item.as_number()));
  return out;
}

void read_parameter(const std::string& name, const core::JsonView& value, Case& out) {
  generation::Parameters& p = out.parameters;
  const auto integer = [&] { return static_cast<std::int32_t>(value.as_int(0, 1 << 30)); };
  const auto number = [&] { return static_cast<float>(value.as_number()); };
  if (name == "temperature") {
    p.temperature = number();
  } else if (name == "top_k") {
    p.top_k = integer();
  } else if (name == "top_p") {
    p.top_p = number();
  } else if (name == "min_p") {
    p.min_p = number();
  } else if (name == "typical_p") {
    p.typical_p = number();
  } else if (name == "repetition_penalty") {
    p.repetition_penalty = number();
  } else if (name == "no_repeat_ngram_size") {
    p.no_repeat_ngram_size = integer();
  } else if (name == "min_length") {
    p.min_length = integer();
  } else if (name == "min_new_tokens") {
    p.min_new_tokens = integer();
  } else if (name == "prompt_length" || name == "begin_index") {
    out.prompt_size = static_cast<std::size_t>(integer());
  } else if (name == "epsilon_cutoff") {
    p.epsilon_cutoff = number();
  } else if (name == "eta_cutoff") {
    p.eta_cutoff = number();
  } else if (name == "encoder_repetition_penalty") {
    p.encoder_repetition_penalty = number();
  } else if (name == "encoder_no_repeat_ngram_size") {
    p.encoder_no_repeat_ngram_size = integer();
  } else if (name == "sequence_bias") {
    for (const auto& item : value.items()) {
      const auto parts = item.items();
      p.sequence_bias.push_back({ids(parts.at(0)), static_cast<float>(parts.at(1).as_number())});
    }
  } else if (name == "begin_suppress_tokens") {
    p.begin_suppress_tokens = ids(value);
  } else if (name == "forced_bos_token_id") {
    p.forced_bos_token_id = integer();
  } else if (name == "forced_eos_token_id") {
    p.forced_eos_token_ids = ids(value);
  } else if (name == "max_length") {
    p.max_new_tokens = integer() - static_cast<std::int32_t>(out.prompt_size);
  } else if (name == "exponential_decay_length_penalty") {
    const auto parts = value.items();
    p.exponential_decay_length_penalty = {static_cast<std::int32_t>(parts.at(0).as_int(0, 1 << 30)),
                                          static_cast<float>(parts.at(1).as_number())};
  } else if (name == "renormalize_logits") {
    p.renormalize_logits = value.as_bool();
  } else if (name == "suppress_tokens") {
    p.suppress_tokens = ids(value);
  } else if (name == "eos_token_id") {
    p.eos_token_ids = ids(value);
  } else if (name == "bad_words_ids") {
    for (const auto& word : value.items()) p.bad_words_ids.push_back(ids(word));
  } else {
    FAIL() << "the fixture has an unknown parameter " << name;
  }
}

std::vector<Case> read_cases() {
  const std::string text = core::read_file(testing::test_data() / kFixture, 1 << 24);
  const auto document = core::parse_json(text, "expected.json");
  std::vector<Case> cases;
  for (const auto& item : core::JsonView(document, "expected.json").at("cases").items()) {
    Case next;
    next.label = std::string(item.at("name").as_string()) + " " + std::to_string(cases.size());
    next.context = ids(item.at("context_ids"));
    next.prompt_size = next.context.size();
    next.input = floats(item.at("input_logits"));
    next.output = floats(item.at("output_logits"));
    next.probabilities = floats(item.at("probabilities"));
    next.kept = static_cast<std::size_t>(item.at("kept").as_int(0, 1 << 30));
    if (const auto encoder = item.find("encoder_ids")) next.encoder = ids(*encoder);
    for (const auto& [name, value] : item.at("params").members()) {
      read_parameter(std::string(name), value, next);
    }
    cases.push_back(std::move(next));
  }
  return cases;
}

/// What is left of a case's logits after processors and cuts, in full width.
struct Transformed {
  std::vector<float> logits;
  std::vector<double> probabilities;
  std::size_t kept = 0;
};

Transformed transform(const Case& c) {
  std::vector<float> logits = c.input;
  const auto vocab = static_cast<std::int64_t>(logits.size());
  ProcessorChain chain(c.parameters, vocab, static_cast<std::int64_t>(c.prompt_size), c.context.size(),
                       c.encoder);
  for (std::size_t i = 0; i < c.context.size(); ++i)
    chain.append(std::span(c.context).first(i + 1), i >= c.prompt_size);
  chain.apply(logits, c.context);
  std::vector<float> maxima(logits.size() / kBlockSize + 1);
  sanitize(logits, std::span(maxima).first((logits.size() + kBlockSize - 1) / kBlockSize));
  Candidates candidates(logits.size());
  const auto k = static_cast<std::size_t>(c.parameters.top_k);
  candidates.gather(logits, maxima, c.parameters.temperature, k);
  if (k > 0) cut_top_k(candidates, k);
  candidates.weigh();
  if (c.parameters.top_p < 1) cut_top_p(candidates, c.parameters.top_p);
  if (c.parameters.min_p > 0) cut_min_p(candidates, c.parameters.min_p);
  if (c.parameters.typical_p < 1) cut_typical(candidates, c.parameters.typical_p);
  if (c.parameters.epsilon_cutoff > 0) cut_epsilon(candidates, c.parameters.epsilon_cutoff);
  if (c.parameters.eta_cutoff > 0) cut_eta(candidates, c.parameters.eta_cutoff);
  Transformed out{std::vector<float>(logits.size(), -kInf), std::vector<double>(logits.size()),
                  candidates.size()};
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    const auto id = static_cast<std::size_t>(candidates.ids()[i]);
    out.logits[id] = candidates.logits()[i];
    out.probabilities[id] =
        static_cast<double>(candidates.weights()[i]) / static_cast<double>(candidates.total());
  }
  return out;
}

TEST(LogitsTransforms, MatchTransformers) {
  PEREGRINE_REQUIRE_TEST_DATA(kFixture);
  const auto cases = read_cases();
  ASSERT_GE(cases.size(), 55u);
  double worst_logit = 0, worst_probability = 0;
  for (const Case& c : cases) {
    SCOPED_TRACE(c.label);
    const Transformed result = transform(c);
    EXPECT_EQ(result.kept, c.kept);
    for (std::size_t i = 0; i < c.output.size(); ++i) {
      ASSERT_EQ(result.logits[i] == -kInf, c.output[i] == -kInf) << i;
      if (c.output[i] != -kInf) {
        worst_logit = std::max<double>(worst_logit, std::abs(result.logits[i] - c.output[i]));
      }
      worst_probability = std::max(worst_probability, std::abs(result.probabilities[i] - c.probabilities[i]));
    }
    EXPECT_LE(worst_logit, kTolerance);
    EXPECT_LE(worst_probability, kTolerance);
  }
  RecordProperty("cases", static_cast<int>(cases.size()));
  std::printf("%zu cases, largest error: logits %.2g, probabilities %.2g\n", cases.size(), worst_logit,
              worst_probability);
}

TEST(LogitsTransforms, TheSamplerDrawsByTheseProbabilities) {
  PEREGRINE_REQUIRE_TEST_DATA(kFixture);
  for (Case& c : read_cases()) {
    SCOPED_TRACE(c.label);
    c.parameters.do_sample = true;
    const std::span<const std::int32_t> prompt = std::span(c.context).first(c.prompt_size);
    const std::span<const std::int32_t> generated = std::span(c.context).subspan(c.prompt_size);
    SamplerScratch scratch(static_cast<std::int64_t>(c.input.size()));
    constexpr int kDraws = 4000;
    std::map<std::size_t, int> counts;
    for (int seed = 0; seed < kDraws; ++seed) {
      SequenceSampler sampler(c.parameters, static_cast<std::uint64_t>(seed), 0,
                              static_cast<std::int64_t>(c.input.size()), prompt, generated, c.encoder);
      SampledToken token;
      std::vector<float> logits = c.input;
      sampler.sample(logits, scratch, token);
      ++counts[static_cast<std::size_t>(token.token.id)];
    }
    for (std::size_t i = 0; i < c.probabilities.size(); ++i) {
      const double expected = kDraws * static_cast<double>(c.probabilities[i]);
      const int found = counts.contains(i) ? counts[i] : 0;
      if (expected == 0) {
        EXPECT_EQ(found, 0) << i;
      }
      EXPECT_LE(std::abs(found - expected), 5 * std::sqrt(expected) + 3) << i;
    }
  }
}

}  // namespace
}  // namespace peregrine::decoding
