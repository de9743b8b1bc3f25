// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <random>
#include <span>
#include <vector>

#include "engine/request_check.h"
#include "engine/step_executor.h"
#include "support/collect.h"

namespace peregrine::testing {

/// A model without a device: "keys and values" are (position, token), the next token is a hash of all that a
/// sequence's blocks hold, those of its text too, and of what its sampler saw; beams get logits from such a
/// hash. A wrong block, position, slot, copy or order changes every later token. Steps run in order, each at
/// some time between its launch and its collection.
class ScriptedExecutor : public engine::StepExecutor {
 public:
  struct Script {
    std::int32_t vocab_size = 40;
    std::int32_t encoder_layers = 0;
    std::int32_t nan_token = -1;  ///< Where this token is drawn, its log-probability is NaN.
    std::uint64_t delay_seed = 1;
  };

  ScriptedExecutor(const engine::BatchLimits& limits, const Script& script);

  Ticket launch(const engine::StepPlan& plan) override;
  engine::StepResults collect(Ticket ticket) override;

  /// The next collect() throws.
  void fail_next() { fails_ = true; }

  /// Calls function(block) for every block that a step launched and not collected reads or writes.
  template <typename Function>
  void for_blocks_in_flight(Function&& function) const {
    for (Ticket ticket = collected_; ticket < launched_; ++ticket) {
      const Step& step = steps_[ticket % steps_.size()];
      for (const std::int32_t block : step.blocks) function(block);
      for (const std::int32_t block : step.text_blocks) function(block);
      for (const std::int32_t block : step.copies) function(block);
    }
  }

  /// What a request gets when nothing else happens, and where the context has `max_model_length` tokens.
  static std::vector<Answer> expected(const engine::Request& request, std::int32_t max_model_length,
                                      const Script& script);

 private:
  struct Cell {
    std::int32_t position = -1;
    std::int32_t token = -1;
  };
  struct Rows {
    std::size_t first_token = 0, tokens = 0, first_block = 0, blocks = 0;
    std::int32_t start = 0;
    std::int32_t logit_rows = 0;
    std::size_t first_cross = 0;
    std::int32_t cross_length = 0;
  };
  struct Sampler {
    std::uint64_t seed = 0;
    std::int32_t index = 0;
    std::uint64_t history = 0;  ///< Hash of the sequence's tokens.
    std::int32_t length = 0;
  };
  struct Opening {
    std::int32_t slot = 0;
    Sampler sampler;
  };
  struct Prompt {
    std::int32_t first_row = 0;
    std::vector<std::int32_t> ids;
  };
  struct Step {
    std::vector<Opening> openings;
    std::vector<std::vector<std::int32_t>> texts;  ///< That end here, empty where nobody waits for one.
    std::vector<std::int32_t> text_blocks;
    std::vector<engine::StepBeams> beams;
    std::vector<Prompt> prompts;
    std::vector<decoding::SampledToken> scored;
    std::vector<std::int32_t> tokens, blocks, copies;
    std::vector<Rows> rows;
    std::vector<engine::StepSample> samples;
    std::vector<decoding::SampledToken> drawn;
  };

  void launch_texts(const engine::StepEncoding& encoding, Step& step);
  void execute(Step& step);
  void compute_contexts(Step& step);
  void draw_samples(Step& step);
  Cell& cell(const Step& step, std::size_t first_block, std::int32_t position);

  Script script_;
  std::vector<Cell> cells_;
  std::vector<std::int32_t> slot_tokens_;
  std::vector<Sampler> samplers_;
  std::vector<std::uint64_t> contexts_;           ///< Of the step that executes, one per logit row.
  std::vector<std::vector<std::int32_t>> texts_;  ///< The batch that is being encoded.
  std::int32_t next_layer_ = 0;
  decoding::SamplerScratch scratch_;
  std::vector<Step> steps_;
  Ticket launched_ = 0, executed_ = 0, collected_ = 0;
  std::mt19937_64 random_;
  bool fails_ = false;
};

}  // namespace peregrine::testing
