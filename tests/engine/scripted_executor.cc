// SPDX-License-Identifier: Apache-2.0
#include "engine/scripted_executor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "ops/device.h"

namespace peregrine::testing {
namespace {

std::uint64_t mix(std::uint64_t state, std::uint64_t value) {
  state = (state ^ (value + 0x9e3779b97f4a7c15ull)) * 0xbf58476d1ce4e5b9ull;
  return state ^ (state >> 29);
}

std::uint64_t hash_token(std::uint64_t state, std::int32_t position, std::int32_t token) {
  return mix(mix(state, static_cast<std::uint64_t>(position)), static_cast<std::uint64_t>(token));
}

std::uint64_t hash_tokens(std::span<const std::int32_t> tokens, std::uint64_t state = 0,
                          std::int32_t position = 0) {
  for (const std::int32_t token : tokens) state = hash_token(state, position++, token);
  return state;
}

decoding::SampledToken draw(const ScriptedExecutor::Script& script, std::uint64_t seed, std::int32_t index,
                            std::uint64_t context, std::uint64_t history) {
  const std::uint64_t value =
      mix(mix(mix(mix(7, seed), static_cast<std::uint64_t>(index)), context), history);
  decoding::SampledToken token;
  token.token.id = static_cast<std::int32_t>((value >> 8) % static_cast<std::uint64_t>(script.vocab_size));
  token.token.log_prob = token.token.id == script.nan_token ? std::numeric_limits<float>::quiet_NaN()
                                                            : -static_cast<float>(value % 1000);
  return token;
}

}  // namespace

ScriptedExecutor::ScriptedExecutor(const engine::BatchLimits& limits, const Script& script)
    : script_(script),
      cells_(static_cast<std::size_t>(limits.kv_blocks) * ops::kBlockTokens),
      slot_tokens_(static_cast<std::size_t>(limits.max_sequences), -1),
      samplers_(static_cast<std::size_t>(limits.max_sequences)),
      contexts_(static_cast<std::size_t>(limits.max_sequences)),
      steps_(static_cast<std::size_t>(limits.steps_in_flight)),
      random_(script.delay_seed) {
  const auto sequences = static_cast<std::size_t>(limits.max_sequences);
  const auto positions = sequences * static_cast<std::size_t>(limits.max_model_length);
  for (Step& step : steps_) {
    step.openings.reserve(sequences);
    step.tokens.reserve(sequences + static_cast<std::size_t>(limits.prefill_tokens));
    step.blocks.reserve(positions / ops::kBlockTokens + sequences);
    step.copies.reserve(2 * sequences);
    step.rows.reserve(sequences);
    step.samples.reserve(sequences);
    step.drawn.resize(sequences);
  }
}

engine::StepExecutor::Ticket ScriptedExecutor::launch(const engine::StepPlan& plan) {
  EXPECT_LT(launched_ - collected_, steps_.size()) << "too many steps in flight";
  Step& step = steps_[launched_ % steps_.size()];
  step.openings.clear();
  for (const engine::SlotOpening& opening : plan.openings) {
    const auto prompt = static_cast<std::int32_t>(opening.request->prompt_ids.size());
    const std::uint64_t history =
        hash_tokens(opening.generated, hash_tokens(opening.request->prompt_ids), prompt);
    const std::int32_t length = prompt + static_cast<std::int32_t>(opening.generated.size());
    step.openings.push_back({opening.slot, {opening.request->seed, opening.sequence, history, length}});
  }
  step.copies.assign(plan.copies.begin(), plan.copies.end());
  step.samples.assign(plan.samples.begin(), plan.samples.end());
  step.tokens.clear();
  step.blocks.clear();
  step.rows.clear();
  for (const model::StepSequence& sequence : plan.sequences) {
    step.rows.push_back({step.tokens.size(), sequence.tokens.size(), step.blocks.size(),
                         sequence.blocks.size(), sequence.start, sequence.logit_rows == 1});
    EXPECT_LE(sequence.logit_rows, 1);
    EXPECT_GE(sequence.blocks.size() * ops::kBlockTokens,
              static_cast<std::size_t>(sequence.start) + sequence.tokens.size());
    step.tokens.insert(step.tokens.end(), sequence.tokens.begin(), sequence.tokens.end());
    step.blocks.insert(step.blocks.end(), sequence.blocks.begin(), sequence.blocks.end());
  }
  const Ticket ticket = launched_++;
  while (executed_ < launched_ && random_() % 3 == 0) execute(steps_[executed_++ % steps_.size()]);
  return ticket;
}

ScriptedExecutor::Cell& ScriptedExecutor::cell(const Step& step, const Rows& rows, std::int32_t position) {
  const auto index = static_cast<std::size_t>(position);
  const std::int32_t block = step.blocks.at(rows.first_block + index / ops::kBlockTokens);
  return cells_.at(static_cast<std::size_t>(block) * ops::kBlockTokens + index % ops::kBlockTokens);
}

void ScriptedExecutor::execute(Step& step) {
  for (const Opening& opening : step.openings) {
    samplers_[static_cast<std::size_t>(opening.slot)] = opening.sampler;
  }
  for (std::size_t i = 0; i < step.copies.size(); i += 2) {
    const auto from = cells_.begin() + step.copies[i] * ops::kBlockTokens;
    std::copy(from, from + ops::kBlockTokens, cells_.begin() + step.copies[i + 1] * ops::kBlockTokens);
  }
  // All sequences write before any reads, as on a device that runs layer by layer.
  for (const Rows& rows : step.rows) {
    for (std::size_t i = 0; i < rows.tokens; ++i) {
      std::int32_t token = step.tokens[rows.first_token + i];
      if (token < 0) token = slot_tokens_.at(static_cast<std::size_t>(~token));
      const std::int32_t position = rows.start + static_cast<std::int32_t>(i);
      cell(step, rows, position) = {position, token};
    }
  }
  std::size_t logit_rows = 0;
  for (const Rows& rows : step.rows) {
    if (!rows.draws) continue;
    std::uint64_t context = 0;
    const std::int32_t end = rows.start + static_cast<std::int32_t>(rows.tokens);
    for (std::int32_t position = 0; position < end; ++position) {
      const Cell& at = cell(step, rows, position);
      context = hash_token(context, at.position, at.token);
    }
    contexts_.at(logit_rows++) = mix(context, static_cast<std::uint64_t>(end));
  }
  for (std::size_t i = 0; i < step.samples.size(); ++i) {
    const engine::StepSample& sample = step.samples[i];
    Sampler& sampler = samplers_.at(static_cast<std::size_t>(sample.slot));
    ASSERT_LT(static_cast<std::size_t>(sample.logit_row), logit_rows);
    const std::uint64_t context = contexts_[static_cast<std::size_t>(sample.logit_row)];
    step.drawn[i] = draw(script_, sampler.seed, sampler.index, context, sampler.history);
    slot_tokens_[static_cast<std::size_t>(sample.slot)] = step.drawn[i].token.id;
    sampler.history = hash_token(sampler.history, sampler.length++, step.drawn[i].token.id);
  }
}

std::span<const decoding::SampledToken> ScriptedExecutor::collect(Ticket ticket) {
  EXPECT_EQ(ticket, collected_) << "steps are collected in order";
  if (fails_) core::fail(core::ErrorKind::kInternal, "the device is gone");
  while (executed_ <= ticket) execute(steps_[executed_++ % steps_.size()]);
  ++collected_;
  Step& step = steps_[ticket % steps_.size()];
  return std::span(step.drawn).first(step.samples.size());
}

std::vector<Answer> ScriptedExecutor::expected(const engine::Request& request, std::int32_t max_model_length,
                                               const Script& script) {
  const auto prompt = static_cast<std::int32_t>(request.prompt_ids.size());
  const std::int32_t limit = std::min(request.parameters.max_new_tokens, max_model_length - prompt);
  std::vector<Answer> answers;
  for (std::int32_t index = 0; index < request.parameters.n; ++index) {
    Answer& answer = answers.emplace_back();
    std::vector<std::int32_t> tokens = request.prompt_ids;
    std::uint64_t history = hash_tokens(tokens);
    while (!answer.finish) {
      const auto length = static_cast<std::uint64_t>(tokens.size());
      const std::uint64_t context = mix(hash_tokens(tokens), length);
      const decoding::SampledToken token = draw(script, request.seed, index, context, history);
      if (std::isnan(token.token.log_prob)) {
        answer.finish = generation::FinishReason::kError;
        answer.error = "the model computed logits that are not numbers";
        break;
      }
      history = hash_token(history, static_cast<std::int32_t>(tokens.size()), token.token.id);
      tokens.push_back(token.token.id);
      answer.ids.push_back(token.token.id);
      answer.logprobs.push_back(token.token.log_prob);
      const auto is_in = [&](const std::vector<std::int32_t>& ids) {
        return std::find(ids.begin(), ids.end(), token.token.id) != ids.end();
      };
      if (is_in(request.parameters.eos_token_ids)) {
        answer.finish = generation::FinishReason::kEosToken;
      } else if (is_in(request.parameters.stop_token_ids)) {
        answer.finish = generation::FinishReason::kStopSequence;
      } else if (static_cast<std::int32_t>(answer.ids.size()) == limit) {
        answer.finish = generation::FinishReason::kLength;
      }
    }
  }
  return answers;
}

}  // namespace peregrine::testing
