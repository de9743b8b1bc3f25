// SPDX-License-Identifier: Apache-2.0
#include "engine/decoder_executor.h"

#include <algorithm>
#include <exception>

#include "core/error.h"
#include "decoding/token_score.h"
#include "engine/request_check.h"

namespace peregrine::engine {

using core::ErrorKind;

DecoderExecutor::DecoderExecutor(ops::Device& device, const model::Decoder& model,
                                 const model::Encoder* encoder, const model::StepLimits& limits,
                                 std::int32_t kv_blocks, std::int32_t steps_in_flight)
    : model_(model),
      encoder_(encoder),
      vocab_size_(model.config().vocab_size),
      buffers_(model.create_buffers(limits, steps_in_flight)),
      steps_(static_cast<std::size_t>(steps_in_flight)),
      logits_(static_cast<std::size_t>(limits.logit_rows) * static_cast<std::size_t>(vocab_size_)),
      slot_tokens_(static_cast<std::size_t>(limits.slots), 0),
      samplers_(static_cast<std::size_t>(limits.slots)) {
  ops::KvCacheSpec spec = model.kv_cache_spec();
  spec.blocks = kv_blocks;
  cache_ = device.create_kv_cache(spec);
  if (encoder_ != nullptr) encoder_buffers_ = encoder_->create_buffers(limits.encoder);
  const auto sequences = static_cast<std::size_t>(limits.sequences);
  copy_pairs_ = device.allocate(2 * sequences * sizeof(std::int32_t));
  for (Step& step : steps_) {
    step.executor = this;
    step.samples.reserve(sequences);
    step.copies.reserve(2 * sequences);
    step.drawn.resize(sequences);
    step.beams.reserve(sequences);
    step.prompts.reserve(static_cast<std::size_t>(kPromptLogitRows));
    step.scored.resize(static_cast<std::size_t>(kPromptLogitRows));
    step.tasks.reserve(sequences + static_cast<std::size_t>(kPromptLogitRows));
  }
  stream_ = device.create_stream();
  places_.reserve(static_cast<std::size_t>(stream_->host_threads()));
  for (int thread = 0; thread < stream_->host_threads(); ++thread) places_.emplace_back(vocab_size_);
}

DecoderExecutor::~DecoderExecutor() {
  try {
    stream_->wait(stream_->record());
  } catch (const std::exception&) {
    // A failed stream has been reported by collect(), or nobody waits for it any more.
  }
}

std::size_t DecoderExecutor::buffer_bytes() const {
  const std::size_t floats = logits_.size() + places_.size() * static_cast<std::size_t>(vocab_size_);
  const std::size_t encoder = encoder_buffers_ ? encoder_buffers_->bytes() : 0;
  return buffers_->bytes() + encoder + copy_pairs_.size() + floats * sizeof(float);
}

void DecoderExecutor::open_slots(const StepPlan& plan) {
  for (const SlotOpening& opening : plan.openings) {
    const Request& request = *opening.request;
    samplers_.at(static_cast<std::size_t>(opening.slot))
        .emplace(request.parameters, request.parameters.seed.value_or(request.seed), opening.sequence,
                 vocab_size_, request.prompt_ids, opening.generated, request.encoder_ids);
  }
}

void DecoderExecutor::encode(const StepEncoding& encoding) {
  if (encoding.empty()) return;
  if (!encoding.texts.empty()) encoder_->begin(*stream_, *encoder_buffers_, encoding.texts);
  encoder_->run_layers(*stream_, *encoder_buffers_, encoding.first_layer, encoding.end_layer);
  if (encoding.blocks.empty()) return;
  const model::EncodedBatch encoded = encoder_->finish(*stream_, *encoder_buffers_);
  model_.store_cross(*stream_, *buffers_, *cache_, encoded, encoding.blocks);
}

void DecoderExecutor::take_draws(const StepPlan& plan, Step& step) {
  step.samples.assign(plan.samples.begin(), plan.samples.end());
  step.beams.assign(plan.beams.begin(), plan.beams.end());
  step.prompts.clear();
  for (const StepPrompt& prompt : plan.prompts) {
    std::int32_t row = prompt.first_row;
    for (const std::int32_t id : prompt.ids) step.prompts.push_back({row++, id, prompt.top});
  }
  step.failure.clear();
  step.tasks.clear();
  // Beams first: a search is the longest piece of work.
  for (std::size_t i = 0; i < step.beams.size(); ++i) step.tasks.push_back({Task::Kind::kBeams, i, i + 1});
  for (std::size_t i = 0; i < step.samples.size(); ++i) {
    const bool same_row = i > 0 && step.samples[i].logit_row == step.samples[i - 1].logit_row;
    if (!same_row) step.tasks.push_back({Task::Kind::kSamples, i, i});
    step.tasks.back().end = i + 1;
  }
  for (std::size_t i = 0; i < step.prompts.size(); ++i) {
    step.tasks.push_back({Task::Kind::kPromptToken, i, i + 1});
  }
}

void DecoderExecutor::copy_blocks(const StepPlan& plan, Step& step) {
  if (plan.copies.empty()) return;
  step.copies.assign(plan.copies.begin(), plan.copies.end());
  const auto count = static_cast<std::int64_t>(step.copies.size());
  stream_->upload(copy_pairs_.address(), step.copies.data(), step.copies.size() * sizeof(std::int32_t));
  stream_->copy_blocks({.cache = cache_.get(),
                        .pairs = {copy_pairs_.address(), count},
                        .count = static_cast<std::int32_t>(count / 2)});
}

void DecoderExecutor::download_logits(const ops::Matrix& logits) {
  const std::size_t row_bytes = static_cast<std::size_t>(vocab_size_) * sizeof(float);
  const auto rows = static_cast<std::size_t>(logits.rows);
  if (logits.stride == vocab_size_) {
    stream_->download(logits_.data(), logits.data, rows * row_bytes);
    return;
  }
  const std::size_t stride_bytes = static_cast<std::size_t>(logits.stride) * sizeof(float);
  for (std::size_t row = 0; row < rows; ++row) {
    stream_->download(logits_.data() + row * static_cast<std::size_t>(vocab_size_),
                      logits.data + row * stride_bytes, row_bytes);
  }
}

StepExecutor::Ticket DecoderExecutor::launch(const StepPlan& plan) {
  Step& step = steps_[launched_ % steps_.size()];
  take_draws(plan, step);
  open_slots(plan);
  encode(plan.encoding);
  copy_blocks(plan, step);
  ops::Matrix logits;
  if (!plan.sequences.empty()) logits = model_.forward(*stream_, *buffers_, *cache_, plan.sequences);
  if (logits.rows > 0) {
    download_logits(logits);
    stream_->host_for_each(
        [](void* context, std::int64_t task, int thread) {
          Step& drawn = *static_cast<Step*>(context);
          DecoderExecutor& executor = *drawn.executor;
          executor.draw(drawn, drawn.tasks[static_cast<std::size_t>(task)],
                        executor.places_[static_cast<std::size_t>(thread)]);
        },
        &step, std::ssize(step.tasks));
    stream_->upload(buffers_->slot_tokens().data, slot_tokens_.data(),
                    slot_tokens_.size() * sizeof(std::int32_t));
  }
  step.event = stream_->record();
  return launched_++;
}

std::span<float> DecoderExecutor::logits(std::int32_t first_row, std::int32_t rows) {
  const auto width = static_cast<std::size_t>(vocab_size_);
  return std::span(logits_).subspan(static_cast<std::size_t>(first_row) * width,
                                    static_cast<std::size_t>(rows) * width);
}

void DecoderExecutor::draw(Step& step, const Task& task, DrawScratch& place) {
  try {
    switch (task.kind) {
      case Task::Kind::kSamples:
        return sample(step, task, place);
      case Task::Kind::kBeams: {
        decoding::BeamSearch& search = *step.beams[task.first].search;
        return search.advance(logits(step.beams[task.first].first_row, search.live()), place.scratch);
      }
      case Task::Kind::kPromptToken: {
        const PromptToken& token = step.prompts[task.first];
        return decoding::score(logits(token.row, 1), token.id, token.top, place.scratch,
                               step.scored[task.first]);
      }
    }
  } catch (const std::exception& error) {
    const std::scoped_lock lock(step.failure_mutex);
    step.failure = error.what();
  }
}

void DecoderExecutor::sample(Step& step, const Task& task, DrawScratch& place) {
  for (std::size_t i = task.first; i < task.end; ++i) {
    const StepSample& one = step.samples[i];
    std::span<float> row = logits(one.logit_row, 1);
    const bool row_is_needed_again = i + 1 < task.end;
    if (row_is_needed_again) {
      std::copy(row.begin(), row.end(), place.shared_row.begin());
      row = place.shared_row;
    }
    decoding::SampledToken& token = step.drawn[i];
    samplers_[static_cast<std::size_t>(one.slot)]->sample(row, place.scratch, token);
    slot_tokens_[static_cast<std::size_t>(one.slot)] = token.token.id;
  }
}

StepResults DecoderExecutor::collect(Ticket ticket) {
  Step& step = steps_[ticket % steps_.size()];
  stream_->wait(step.event);
  step.beams.clear();
  if (!step.failure.empty()) core::fail(ErrorKind::kInternal, "sampling failed: {}", step.failure);
  return {std::span(step.drawn).first(step.samples.size()),
          std::span(step.scored).first(step.prompts.size())};
}

}  // namespace peregrine::engine
