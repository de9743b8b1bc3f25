// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/json/value.hpp>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace peregrine::testing {

/// Greedy continuation of one prompt.
struct GoldenGreedy {
  std::vector<std::int32_t> new_ids;
  std::vector<float> logprobs;
};

/// A `generate` case: parameters as transformers names them, and the sequences expected.
struct GoldenCase {
  std::string name;
  std::size_t prompt = 0;
  boost::json::object parameters;
  std::vector<std::vector<std::int32_t>> new_ids;
};

/// What a decoder-only golden model must give (expected.json).
struct GoldenDecoder {
  std::vector<std::vector<std::int32_t>> prompts;
  std::vector<std::vector<float>> last_logits;  ///< One row per prompt.
  std::size_t all_logits_prompt = 0;
  std::vector<std::vector<float>> all_logits;  ///< Positions x vocabulary.
  std::vector<GoldenGreedy> greedy;            ///< One per prompt.
  std::vector<GoldenCase> cases;               ///< Those without beams.

  std::vector<std::int32_t> long_prompt;  ///< Empty where the fixture has none.
  std::vector<float> long_last_logits;
  std::vector<std::int32_t> long_argmax;

  std::vector<GoldenCase> generation_config_stop;  ///< 0 or 1 case.
};

GoldenDecoder read_golden_decoder(const std::filesystem::path& fixture);

/// Names of the golden fixtures (folders of test_data()/golden) that start with one of `prefixes` and have
/// weights, sorted; empty where there is no test data.
std::vector<std::string> golden_fixtures(const std::vector<std::string>& prefixes);

}  // namespace peregrine::testing
