// SPDX-License-Identifier: Apache-2.0
#include "engine/decoder_executor.h"

#include <algorithm>
#include <exception>

#include "core/error.h"

namespace peregrine::engine {

using core::ErrorKind;

DecoderExecutor::DecoderExecutor(ops::Device& device, const model::Decoder& model,
                                 const model::StepLimits& limits, std::int32_t kv_blocks,
                                 std::int32_t steps_in_flight)
    : model_(model),
      vocab_size_(model.config().vocab_size),
      buffers_(model.create_buffers(limits, steps_in_flight)),
      steps_(static_cast<std::size_t>(steps_in_flight)),
      logits_(static_cast<std::size_t>(limits.logit_rows) * static_cast<std::size_t>(vocab_size_)),
      shared_row_(static_cast<std::size_t>(vocab_size_)),
      slot_tokens_(static_cast<std::size_t>(limits.slots), 0),
      scratch_(vocab_size_),
      samplers_(static_cast<std::size_t>(limits.slots)) {
  ops::KvCacheSpec spec = model.kv_cache_spec();
  spec.blocks = kv_blocks;
  cache_ = device.create_kv_cache(spec);
  const auto sequences = static_cast<std::size_t>(limits.sequences);
  copy_pairs_ = device.allocate(2 * sequences * sizeof(std::int32_t));
  for (Step& step : steps_) {
    step.executor = this;
    step.samples.reserve(sequences);
    step.copies.reserve(2 * sequences);
    step.drawn.resize(sequences);
  }
  stream_ = device.create_stream();
}

DecoderExecutor::~DecoderExecutor() {
  try {
    stream_->wait(stream_->record());
  } catch (const std::exception&) {
    // A failed stream has been reported by collect(), or nobody waits for it any more.
  }
}

std::size_t DecoderExecutor::buffer_bytes() const {
  const std::size_t floats = logits_.size() + shared_row_.size();
  return buffers_->bytes() + copy_pairs_.size() + floats * sizeof(float);
}

void DecoderExecutor::open_slots(const StepPlan& plan) {
  for (const SlotOpening& opening : plan.openings) {
    const Request& request = *opening.request;
    samplers_.at(static_cast<std::size_t>(opening.slot))
        .emplace(request.parameters, request.parameters.seed.value_or(request.seed), opening.sequence,
                 vocab_size_, request.prompt_ids, opening.generated);
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
  step.samples.assign(plan.samples.begin(), plan.samples.end());
  step.failure.clear();
  open_slots(plan);
  copy_blocks(plan, step);
  const ops::Matrix logits = model_.forward(*stream_, *buffers_, *cache_, plan.sequences);
  if (!step.samples.empty()) {
    download_logits(logits);
    stream_->host(
        [](void* context) {
          Step& drawn = *static_cast<Step*>(context);
          drawn.executor->sample(drawn);
        },
        &step);
    stream_->upload(buffers_->slot_tokens().data, slot_tokens_.data(),
                    slot_tokens_.size() * sizeof(std::int32_t));
  }
  step.event = stream_->record();
  return launched_++;
}

void DecoderExecutor::sample(Step& step) {
  try {
    const auto width = static_cast<std::size_t>(vocab_size_);
    for (std::size_t i = 0; i < step.samples.size(); ++i) {
      const StepSample& one = step.samples[i];
      std::span<float> row(logits_.data() + static_cast<std::size_t>(one.logit_row) * width, width);
      const bool row_is_needed_again =
          i + 1 < step.samples.size() && step.samples[i + 1].logit_row == one.logit_row;
      if (row_is_needed_again) {
        std::copy(row.begin(), row.end(), shared_row_.begin());
        row = shared_row_;
      }
      decoding::SampledToken& token = step.drawn[i];
      samplers_[static_cast<std::size_t>(one.slot)]->sample(row, scratch_, token);
      slot_tokens_[static_cast<std::size_t>(one.slot)] = token.token.id;
    }
  } catch (const std::exception& error) {
    step.failure = error.what();
  }
}

std::span<const decoding::SampledToken> DecoderExecutor::collect(Ticket ticket) {
  Step& step = steps_[ticket % steps_.size()];
  stream_->wait(step.event);
  if (!step.failure.empty()) core::fail(ErrorKind::kInternal, "sampling failed: {}", step.failure);
  return std::span(step.drawn).first(step.samples.size());
}

}  // namespace peregrine::engine
