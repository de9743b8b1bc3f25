// SPDX-License-Identifier: Apache-2.0
#include "model/decoder.h"

#include <utility>

#include "core/error.h"
#include "model/decoder_weights.h"
#include "model/family.h"
#include "model/rotary.h"
#include "model/step_buffers.h"

namespace peregrine::model {
namespace {

using core::DType;
using core::ErrorKind;
using core::fail;

void check_types(const DecoderTypes& types, const ops::Device& device) {
  if (!core::is_weight_float(types.weights)) {
    fail(ErrorKind::kUnsupported, "weights of type {} are not supported; use float32, float16 or bfloat16",
         core::to_string(types.weights));
  }
  const auto is_narrow = [](DType type) { return type == DType::kF32 || type == DType::kBF16; };
  if (!is_narrow(types.compute) || !device.supports_compute(types.compute)) {
    fail(ErrorKind::kUnsupported, "arithmetic in {} is not supported on device {}; use float32{}",
         core::to_string(types.compute), device.description(),
         device.supports_compute(DType::kBF16) ? " or bfloat16" : "");
  }
  if (!is_narrow(types.cache)) {
    fail(ErrorKind::kUnsupported, "a KV cache of type {} is not supported; use float32 or bfloat16",
         core::to_string(types.cache));
  }
}

/// Enqueues the operations of one step. Lives for the call of forward().
class StepRunner {
 public:
  StepRunner(const DecoderConfig& config, const DecoderWeights& weights, ops::Stream& stream,
             ops::KvCache& cache, const PlannedStep& step, const Activations& activations)
      : config_(config), weights_(weights), stream_(stream), cache_(cache), step_(step), at_(activations) {}

  void run(float rotary_scale) {
    embed();
    if (config_.positions == PositionKind::kRotary) {
      stream_.rotary_angles({.batch = step_.batch,
                             .inverse_frequencies = step_.frequencies,
                             .half = config_.rotary.dim / 2,
                             .scale = rotary_scale,
                             .cosines = at_.cosines,
                             .sines = at_.sines});
    }
    for (std::int32_t layer = 0; layer < config_.layers; ++layer) run_layer(layer);
    if (step_.logit_rows > 0) head();
  }

 private:
  void embed() {
    const auto* table = weights_.embedding.get();
    stream_.embed({.token_ids = step_.batch.token_ids,
                   .slot_tokens = step_.batch.slot_tokens,
                   .table = table,
                   .scale = config_.embedding_scale,
                   .out = at_.residual});
  }

  void run_layer(std::int32_t index) {
    const LayerWeights& layer = weights_.layers[static_cast<std::size_t>(index)];
    norm(layer.attention_norm, at_.normed);
    // Both norms of a parallel layer see its input, which attention then adds to.
    if (config_.residual == ResidualOrder::kParallelTwoNorms) norm(layer.mlp_norm, at_.normed_mlp);
    attention(layer, index);
    switch (config_.residual) {
      case ResidualOrder::kSequential:
        norm(layer.mlp_norm, at_.normed);
        mlp(layer, at_.normed);
        break;
      case ResidualOrder::kParallelOneNorm:
        mlp(layer, at_.normed);
        break;
      case ResidualOrder::kParallelTwoNorms:
        mlp(layer, at_.normed_mlp);
        break;
    }
  }

  void norm(const Norm& norm, const ops::Matrix& out, ops::Ints row_index = {}) {
    stream_.norm({.kind = config_.norm,
                  .epsilon = config_.norm_epsilon,
                  .in = at_.residual,
                  .row_index = row_index,
                  .weight = norm.weight.floats(),
                  .bias = norm.bias.floats(),
                  .out = out});
  }

  void linear(const Linear& linear, const ops::Matrix& in, const ops::Matrix& out,
              ops::Activation activation = ops::Activation::kNone) {
    stream_.linear({.in = in,
                    .weight = linear.weight.get(),
                    .bias = linear.bias.floats(),
                    .activation = activation,
                    .residual = {},
                    .out = out});
  }

  /// Adds the layer's result to the residual stream.
  void linear_to_residual(const Linear& linear, const ops::Matrix& in) {
    stream_.linear({.in = in,
                    .weight = linear.weight.get(),
                    .bias = linear.bias.floats(),
                    .activation = ops::Activation::kNone,
                    .residual = at_.residual,
                    .out = at_.residual});
  }

  void attention(const LayerWeights& layer, std::int32_t index) {
    linear(layer.qkv, at_.normed, at_.qkv);
    stream_.rotate_and_store({.batch = step_.batch,
                              .qkv = at_.qkv,
                              .heads = config_.heads,
                              .cosines = at_.cosines,
                              .sines = at_.sines,
                              .style = config_.rotary.style,
                              .cache = &cache_,
                              .layer = index});
    stream_.attention({.batch = step_.batch,
                       .queries = at_.qkv.columns(0, std::int64_t{config_.heads} * config_.head_dim),
                       .heads = config_.heads,
                       .cache = &cache_,
                       .layer = index,
                       .scale = config_.attention_scale,
                       .alibi_slopes = weights_.alibi_slopes.floats(),
                       .alibi_scale = config_.alibi.scale,
                       .alibi_in_bfloat16 = config_.alibi.in_bfloat16,
                       .out = at_.attention});
    linear_to_residual(layer.attention_out, at_.attention);
  }

  void mlp(const LayerWeights& layer, const ops::Matrix& in) {
    if (config_.gated_mlp) {
      linear(layer.mlp_up, in, at_.up);
      stream_.gated_activation({.activation = config_.activation, .in = at_.up, .out = at_.gated});
      linear_to_residual(layer.mlp_down, at_.gated);
    } else {
      linear(layer.mlp_up, in, at_.up, config_.activation);
      linear_to_residual(layer.mlp_down, at_.up);
    }
  }

  void head() {
    norm(weights_.final_norm, at_.normed_head, step_.logit_index);
    const ops::Weight* weight = weights_.head.weight ? weights_.head.weight.get() : weights_.embedding.get();
    stream_.linear({.in = at_.normed_head,
                    .weight = weight,
                    .bias = weights_.head.bias.floats(),
                    .activation = ops::Activation::kNone,
                    .residual = {},
                    .out = step_.logits});
  }

  const DecoderConfig& config_;
  const DecoderWeights& weights_;
  ops::Stream& stream_;
  ops::KvCache& cache_;
  const PlannedStep& step_;
  const Activations& at_;
};

class LoadedDecoder : public Decoder {
 public:
  LoadedDecoder(const DecoderConfig& config, const DecoderTypes& types, ops::Device& device,
                DecoderWeights weights)
      : config_(config),
        types_(types),
        device_(device),
        weights_(std::move(weights)),
        weight_bytes_(weights_.bytes()),
        rotary_scale_(rotary_attention_factor(config.rotary)) {}

  const DecoderConfig& config() const override { return config_; }
  const DecoderTypes& types() const override { return types_; }
  std::size_t weight_bytes() const override { return weight_bytes_; }

  ops::KvCacheSpec kv_cache_spec() const override {
    return {.layers = config_.layers,
            .kv_heads = config_.kv_heads,
            .head_dim = config_.head_dim,
            .dtype = types_.cache,
            .blocks = 0};
  }

  std::unique_ptr<StepBuffers> create_buffers(const StepLimits& limits, int in_flight) const override {
    return std::make_unique<DecoderBuffers>(device_, config_, types_, limits, in_flight);
  }

  std::vector<float> rotary_frequencies(std::int64_t prompt_tokens) const override {
    if (config_.positions != PositionKind::kRotary) return {};
    return model::rotary_frequencies(config_.rotary, prompt_tokens);
  }

  ops::Matrix forward(ops::Stream& stream, StepBuffers& buffers, ops::KvCache& cache,
                      std::span<const StepSequence> sequences) const override {
    auto* own = dynamic_cast<DecoderBuffers*>(&buffers);
    if (own == nullptr) fail(ErrorKind::kInternal, "step: the buffers are not a decoder's");
    const auto& spec = cache.spec();
    if (spec.layers != config_.layers || spec.kv_heads != config_.kv_heads ||
        spec.head_dim != config_.head_dim) {
      fail(ErrorKind::kInternal,
           "step: the KV cache is for {} layers, {} heads of {}; the model has {}, {} of {}", spec.layers,
           spec.kv_heads, spec.head_dim, config_.layers, config_.kv_heads, config_.head_dim);
    }
    const PlannedStep step = own->plan(stream, sequences, spec.blocks);
    const Activations activations = own->activations(step.batch.rows, step.logit_rows);
    StepRunner(config_, weights_, stream, cache, step, activations).run(rotary_scale_);
    return step.logits;
  }

 private:
  DecoderConfig config_;
  DecoderTypes types_;
  ops::Device& device_;
  DecoderWeights weights_;
  std::size_t weight_bytes_;
  float rotary_scale_;
};

}  // namespace

std::unique_ptr<Decoder> Decoder::load(const DecoderConfig& config, const Family& family,
                                       weights::TensorSource& source, ops::Device& device,
                                       const DecoderTypes& types, const LoadProgress& progress) {
  check_types(types, device);
  DecoderWeights weights = load_weights(config, family, source, device, types.weights, progress);
  return std::make_unique<LoadedDecoder>(config, types, device, std::move(weights));
}

}  // namespace peregrine::model
