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
  std::vector<float> scores;  ///< Of beams: one for each of new_ids.
};

/// What a golden model that generates must give (expected.json).
struct GoldenDecoder {
  std::vector<std::vector<std::int32_t>> prompts;  ///< Of an encoder-decoder: the texts.
  std::int32_t decoder_start = -1;                 ///< Of an encoder-decoder: what its answers begin with.
  std::vector<std::vector<float>> last_logits;     ///< One row per prompt.
  std::size_t all_logits_prompt = 0;
  std::vector<std::vector<float>> all_logits;  ///< Positions x vocabulary.
  std::vector<GoldenGreedy> greedy;            ///< One per prompt.
  std::vector<GoldenCase> cases;

  std::vector<std::int32_t> long_prompt;  ///< Empty where the fixture has none.
  std::vector<float> long_last_logits;
  std::vector<std::int32_t> long_argmax;

  std::vector<GoldenCase> generation_config_stop;  ///< 0 or 1 case.
};

/// What an encoder-decoder must give besides.
struct GoldenSeq2Seq : GoldenDecoder {
  /// One for each prompt; last_logits and all_logits are of these.
  std::vector<std::vector<std::int32_t>> decoder_inputs;
  std::size_t hidden_prompt = 0;
  std::vector<std::vector<float>> encoder_hidden;  ///< Of hidden_prompt: positions x width.
};

GoldenSeq2Seq read_golden_seq2seq(const std::filesystem::path& fixture);

GoldenDecoder read_golden_decoder(const std::filesystem::path& fixture);

/// What an encoder gives for one text; a list is empty where the fixture does not say.
struct GoldenEncoding {
  std::vector<std::vector<float>> last_hidden_state;  ///< Positions x width.
  std::vector<float> mean_pooled;
  std::vector<float> cls_hidden;
  std::vector<float> pooler_output;
  std::vector<float> classification_logits;
};

/// Sums over the output of one layer; layer 0 is the embedding.
struct GoldenLayer {
  double sum = 0;
  double abs_sum = 0;
  double square_sum = 0;
  std::vector<float> first_position;  ///< The first values of it.
  std::vector<float> last_position;
};

/// What an encoder's golden model must give (expected.json).
struct GoldenEncoder {
  std::vector<std::vector<std::int32_t>> prompts;
  std::vector<GoldenEncoding> results;  ///< One per prompt.
  std::size_t layers_prompt = 0;
  std::vector<GoldenLayer> layers;
  std::vector<GoldenEncoding> padded;  ///< Of all prompts, computed as one batch with padding.

  std::size_t typed_prompt = 0;
  std::vector<std::int32_t> token_types;  ///< Of typed_prompt; empty where the fixture has none.
  GoldenEncoding typed;
};

GoldenEncoder read_golden_encoder(const std::filesystem::path& fixture);

/// Names of the golden fixtures (folders of test_data()/golden) that start with one of `prefixes` and have
/// weights, sorted; empty where there is no test data.
std::vector<std::string> golden_fixtures(const std::vector<std::string>& prefixes);

}  // namespace peregrine::testing
