// SPDX-License-Identifier: Apache-2.0
#include "engine/engine.h"

#include <utility>

#include "engine/decoder_executor.h"
#include "engine/memory_plan.h"
#include "engine/rolling_batch.h"

namespace peregrine::engine {

namespace {

EngineFacts facts_of(ops::Device& device, const model::Decoder& model, const model::Encoder* encoder) {
  EngineFacts facts;
  facts.max_positions = model.config().max_positions;
  facts.usual_positions = model.config().usual_positions;
  if (encoder != nullptr) facts.encoder_layers = encoder->config().layers;
  facts.vocab_size = model.config().vocab_size;
  facts.kv_block_bytes = device.kv_block_bytes(model.kv_cache_spec());
  facts.physical_memory = physical_memory();
  return facts;
}

}  // namespace

struct Engine::Impl {
  Impl(ops::Device& device, const model::Decoder& decoder, const EngineOptions& options,
       const model::Encoder* encoder)
      : model(decoder),
        limits(resolve_options(options, facts_of(device, decoder, encoder))),
        executor(device, decoder, encoder, step_limits(limits), limits.kv_blocks, limits.steps_in_flight),
        batch(limits, executor) {
    plan.weight_bytes = decoder.weight_bytes() + (encoder == nullptr ? 0 : encoder->weight_bytes());
    plan.kv_blocks = limits.kv_blocks;
    plan.kv_block_bytes = device.kv_block_bytes(decoder.kv_cache_spec());
    plan.kv_cache_bytes = static_cast<std::uint64_t>(limits.kv_blocks) * plan.kv_block_bytes;
    plan.buffer_bytes = executor.buffer_bytes();
    plan.max_model_length = limits.max_model_length;
  }

  const model::Decoder& model;
  BatchLimits limits;
  DecoderExecutor executor;
  RollingBatch batch;
  MemoryPlan plan;
  std::shared_ptr<const decoding::TokenBytes> bytes;
};

Engine::Engine(ops::Device& device, const model::Decoder& model, const EngineOptions& options,
               const model::Encoder* encoder)
    : impl_(std::make_unique<Impl>(device, model, options, encoder)) {}

Engine::~Engine() = default;

void Engine::submit(Request request) {
  std::vector<float> frequencies =
      impl_->model.rotary_frequencies(static_cast<std::int64_t>(request.prompt_ids.size()));
  impl_->batch.submit(std::move(request), std::move(frequencies), impl_->bytes);
}

void Engine::set_vocabulary(std::shared_ptr<const decoding::TokenBytes> bytes) {
  impl_->bytes = std::move(bytes);
}

bool Engine::cancel(RequestId id) { return impl_->batch.cancel(id); }
bool Engine::step(EventSink& sink) { return impl_->batch.step(sink); }
bool Engine::idle() const { return impl_->batch.idle(); }
EngineStats Engine::stats() const { return impl_->batch.stats(); }
const MemoryPlan& Engine::memory_plan() const { return impl_->plan; }
bool Engine::preempt_youngest() { return impl_->batch.preempt_youngest(); }

}  // namespace peregrine::engine
