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

/// What a text adds to the hash of a context; positions of texts are told apart from those of sequences.
std::uint64_t hash_text(std::span<const std::int32_t> text) { return hash_tokens(text, 3, 1'000'000); }

std::uint64_t hash_context(std::span<const std::int32_t> text, std::span<const std::int32_t> tokens) {
  const std::uint64_t state = text.empty() ? 0 : hash_text(text);
  return mix(hash_tokens(tokens, state), static_cast<std::uint64_t>(tokens.size()));
}

void logits_of(std::uint64_t context, const ScriptedExecutor::Script& script, std::span<float> logits) {
  for (std::size_t id = 0; id < logits.size(); ++id) {
    logits[id] = static_cast<float>(mix(context, id) % 4096) / 512.0f;
  }
  const bool broken = script.nan_token >= 0 && context % 400 == 0;
  if (broken) logits[0] = std::numeric_limits<float>::quiet_NaN();
}

decoding::SampledToken score_token(std::uint64_t context, std::int32_t id) {
  return {{id, -static_cast<float>(mix(context, static_cast<std::uint64_t>(id)) % 1000)}, {}};
}

}  // namespace

ScriptedExecutor::ScriptedExecutor(const engine::BatchLimits& limits, const Script& script)
    : script_(script),
      cells_(static_cast<std::size_t>(limits.kv_blocks) * ops::kBlockTokens),
      slot_tokens_(static_cast<std::size_t>(limits.max_sequences), -1),
      samplers_(static_cast<std::size_t>(limits.max_sequences)),
      contexts_(static_cast<std::size_t>(limits.max_sequences + engine::kPromptLogitRows)),
      scratch_(script.vocab_size),
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
  launch_texts(plan.encoding, step);
  step.beams.assign(plan.beams.begin(), plan.beams.end());
  step.prompts.clear();
  for (const engine::StepPrompt& prompt : plan.prompts) {
    step.prompts.push_back({prompt.first_row, {prompt.ids.begin(), prompt.ids.end()}});
  }
  step.copies.assign(plan.copies.begin(), plan.copies.end());
  step.samples.assign(plan.samples.begin(), plan.samples.end());
  step.tokens.clear();
  step.blocks.clear();
  step.rows.clear();
  for (const model::StepSequence& sequence : plan.sequences) {
    step.rows.push_back({step.tokens.size(), sequence.tokens.size(), step.blocks.size(),
                         sequence.blocks.size(), sequence.start, sequence.logit_rows,
                         step.blocks.size() + sequence.blocks.size(), sequence.cross_length});
    EXPECT_LE(static_cast<std::size_t>(sequence.logit_rows), sequence.tokens.size());
    EXPECT_EQ(sequence.cross_length > 0, script_.encoder_layers > 0);
    EXPECT_GE(sequence.cross_blocks.size() * ops::kBlockTokens,
              static_cast<std::size_t>(sequence.cross_length));
    EXPECT_GE(sequence.blocks.size() * ops::kBlockTokens,
              static_cast<std::size_t>(sequence.start) + sequence.tokens.size());
    step.tokens.insert(step.tokens.end(), sequence.tokens.begin(), sequence.tokens.end());
    step.blocks.insert(step.blocks.end(), sequence.blocks.begin(), sequence.blocks.end());
    step.blocks.insert(step.blocks.end(), sequence.cross_blocks.begin(), sequence.cross_blocks.end());
  }
  const Ticket ticket = launched_++;
  while (executed_ < launched_ && random_() % 3 == 0) execute(steps_[executed_++ % steps_.size()]);
  return ticket;
}

void ScriptedExecutor::launch_texts(const engine::StepEncoding& encoding, Step& step) {
  step.texts.clear();
  step.text_blocks.clear();
  if (encoding.empty()) return;
  EXPECT_EQ(encoding.texts.empty(), encoding.first_layer > 0) << "a batch begins with its first layer";
  if (encoding.first_layer == 0) {
    texts_.clear();
    for (const model::EncoderSequence& text : encoding.texts)
      texts_.emplace_back(text.tokens.begin(), text.tokens.end());
    next_layer_ = 0;
  }
  EXPECT_EQ(encoding.first_layer, next_layer_);
  next_layer_ = encoding.end_layer;
  EXPECT_LE(next_layer_, script_.encoder_layers);
  EXPECT_EQ(encoding.blocks.empty(), next_layer_ < script_.encoder_layers);
  if (encoding.blocks.empty()) return;
  EXPECT_EQ(encoding.blocks.size(), texts_.size());
  for (std::size_t i = 0; i < encoding.blocks.size(); ++i) {
    const auto blocks = encoding.blocks[i];
    step.texts.push_back(blocks.empty() ? std::vector<std::int32_t>() : texts_[i]);
    step.text_blocks.insert(step.text_blocks.end(), blocks.begin(), blocks.end());
  }
}

ScriptedExecutor::Cell& ScriptedExecutor::cell(const Step& step, std::size_t first_block,
                                               std::int32_t position) {
  const auto index = static_cast<std::size_t>(position);
  const std::int32_t block = step.blocks.at(first_block + index / ops::kBlockTokens);
  return cells_.at(static_cast<std::size_t>(block) * ops::kBlockTokens + index % ops::kBlockTokens);
}

void ScriptedExecutor::execute(Step& step) {
  for (const Opening& opening : step.openings) {
    samplers_[static_cast<std::size_t>(opening.slot)] = opening.sampler;
  }
  std::size_t text_block = 0;
  for (const auto& text : step.texts) {
    for (std::size_t i = 0; i < text.size(); ++i) {
      const auto block = static_cast<std::size_t>(step.text_blocks.at(text_block + i / ops::kBlockTokens));
      cells_.at(block * ops::kBlockTokens + i % ops::kBlockTokens) = {
          1'000'000 + static_cast<std::int32_t>(i), text[i]};
    }
    text_block += (text.size() + ops::kBlockTokens - 1) / ops::kBlockTokens;
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
      cell(step, rows.first_block, position) = {position, token};
    }
  }
  compute_contexts(step);
  draw_samples(step);
}

void ScriptedExecutor::compute_contexts(Step& step) {
  std::size_t logit_rows = 0;
  for (const Rows& rows : step.rows) {
    std::uint64_t text = rows.cross_length > 0 ? 3 : 0;
    for (std::int32_t position = 0; position < rows.cross_length; ++position) {
      const Cell& at = cell(step, rows.first_cross, position);
      text = hash_token(text, at.position, at.token);
    }
    const std::int32_t end = rows.start + static_cast<std::int32_t>(rows.tokens);
    std::uint64_t context = text;
    for (std::int32_t position = 0; position < end; ++position) {
      const Cell& at = cell(step, rows.first_block, position);
      context = hash_token(context, at.position, at.token);
      if (position < end - rows.logit_rows) continue;
      contexts_.at(logit_rows++) = mix(context, static_cast<std::uint64_t>(position + 1));
    }
  }
}

void ScriptedExecutor::draw_samples(Step& step) {
  step.scored.clear();
  for (const Prompt& prompt : step.prompts) {
    for (std::size_t i = 0; i < prompt.ids.size(); ++i) {
      step.scored.push_back(
          score_token(contexts_.at(static_cast<std::size_t>(prompt.first_row) + i), prompt.ids[i]));
    }
  }
  for (const engine::StepBeams& beams : step.beams) {
    const auto width = static_cast<std::size_t>(script_.vocab_size);
    std::vector<float> logits(static_cast<std::size_t>(beams.search->live()) * width);
    for (std::size_t row = 0; row * width < logits.size(); ++row) {
      logits_of(contexts_.at(static_cast<std::size_t>(beams.first_row) + row), script_,
                std::span(logits).subspan(row * width, width));
    }
    beams.search->advance(logits, scratch_);
  }
  for (std::size_t i = 0; i < step.samples.size(); ++i) {
    const engine::StepSample& sample = step.samples[i];
    Sampler& sampler = samplers_.at(static_cast<std::size_t>(sample.slot));
    const std::uint64_t context = contexts_.at(static_cast<std::size_t>(sample.logit_row));
    step.drawn[i] = draw(script_, sampler.seed, sampler.index, context, sampler.history);
    slot_tokens_[static_cast<std::size_t>(sample.slot)] = step.drawn[i].token.id;
    sampler.history = hash_token(sampler.history, sampler.length++, step.drawn[i].token.id);
  }
}

engine::StepResults ScriptedExecutor::collect(Ticket ticket) {
  EXPECT_EQ(ticket, collected_) << "steps are collected in order";
  if (fails_) core::fail(core::ErrorKind::kInternal, "the device is gone");
  while (executed_ <= ticket) execute(steps_[executed_++ % steps_.size()]);
  ++collected_;
  Step& step = steps_[ticket % steps_.size()];
  step.beams.clear();
  return {std::span(step.drawn).first(step.samples.size()), step.scored};
}

namespace {

/// A beam search alone: its contexts are computed from the beams' tokens.
std::vector<Answer> expected_beams(const engine::Request& request, std::int32_t limit,
                                   const ScriptedExecutor::Script& script) {
  decoding::BeamSearch search(request.parameters, script.vocab_size, request.prompt_ids, limit, nullptr);
  decoding::SamplerScratch scratch(script.vocab_size);
  const auto width = static_cast<std::size_t>(script.vocab_size);
  std::vector<std::vector<std::int32_t>> beams = {request.prompt_ids};
  while (!search.done() && !search.failed()) {
    std::vector<float> logits(beams.size() * width);
    for (std::size_t i = 0; i < beams.size(); ++i) {
      logits_of(hash_context(request.encoder_ids, beams[i]), script,
                std::span(logits).subspan(i * width, width));
    }
    search.advance(logits, scratch);
    std::vector<std::vector<std::int32_t>> next;
    for (const auto& beam : search.beams()) {
      next.push_back(beams.at(static_cast<std::size_t>(beam.parent)));
      next.back().push_back(beam.token);
    }
    beams = std::move(next);
  }
  std::vector<Answer> answers(static_cast<std::size_t>(request.parameters.n));
  for (std::size_t i = 0; i < answers.size(); ++i) {
    if (search.failed()) {
      answers[i].finish = generation::FinishReason::kError;
      answers[i].error = "the model computed logits that are not numbers";
      continue;
    }
    const auto& found = search.results()[i];
    answers[i].finish = found.finish;
    answers[i].score = found.score;
    for (const auto& token : found.tokens) {
      answers[i].ids.push_back(token.token.id);
      answers[i].logprobs.push_back(token.token.log_prob);
    }
  }
  return answers;
}

std::vector<decoding::SampledToken> expected_prompt(const engine::Request& request) {
  std::vector<decoding::SampledToken> out;
  const std::span<const std::int32_t> ids = request.prompt_ids;
  for (std::size_t i = 1; i < ids.size(); ++i)
    out.push_back(score_token(hash_context({}, ids.first(i)), ids[i]));
  return out;
}

}  // namespace

std::vector<Answer> ScriptedExecutor::expected(const engine::Request& request, std::int32_t max_model_length,
                                               const Script& script) {
  const auto prompt = static_cast<std::int32_t>(request.prompt_ids.size());
  const std::int32_t limit = std::min(request.parameters.max_new_tokens, max_model_length - prompt);
  const bool scores = request.parameters.prompt_logprobs && request.encoder_ids.empty();
  std::vector<Answer> answers;
  if (request.parameters.num_beams > 1) {
    answers = expected_beams(request, limit, script);
    if (scores) answers[0].prompt = expected_prompt(request);
    return answers;
  }
  for (std::int32_t index = 0; index < request.parameters.reported_sequences(); ++index) {
    Answer& answer = answers.emplace_back();
    if (scores && index == 0) answer.prompt = expected_prompt(request);
    std::vector<std::int32_t> tokens = request.prompt_ids;
    std::uint64_t history = hash_tokens(tokens);
    while (!answer.finish) {
      const std::uint64_t context = hash_context(request.encoder_ids, tokens);
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
