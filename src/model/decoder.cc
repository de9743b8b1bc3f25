// SPDX-License-Identifier: Apache-2.0
#include "model/decoder.h"

#include <utility>

#include "core/error.h"
#include "model/arithmetic.h"
#include "model/decoder_weights.h"
#include "model/encoder.h"
#include "model/family.h"
#include "model/rotary.h"
#include "model/step_buffers.h"

namespace peregrine::model {
namespace {

using core::DType;
using core::ErrorKind;
using core::fail;

void check_types(const DecoderTypes& types, const ops::Device& device) {
  check_arithmetic(types.weights, types.compute, device);
  if (!ops::is_cache_type(types.cache)) {
    fail(ErrorKind::kUnsupported, "a KV cache of type {} is not supported; use float32, bfloat16 or int8",
         core::to_string(types.cache));
  }
}

ops::Matrix rows_of(const ops::Matrix& matrix, std::int64_t first, std::int64_t count) {
  ops::Matrix out = matrix.first_rows(count);
  out.data += static_cast<std::size_t>(first * matrix.stride) * core::size_of(matrix.dtype);
  return out;
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
    const bool projected = weights_.project_in.weight != nullptr;
    stream_.embed({.token_ids = step_.batch.token_ids,
                   .slot_tokens = step_.batch.slot_tokens,
                   .table = weights_.embedding.get(),
                   .scale = config_.embedding_scale,
                   .out = projected ? at_.embedded : at_.residual});
    if (projected) linear(weights_.project_in, at_.embedded, at_.residual);
    if (config_.positions == PositionKind::kLearned) {
      stream_.embed({.token_ids = step_.batch.positions,
                     .slot_tokens = {},
                     .table = weights_.positions.get(),
                     .out = at_.residual,
                     .offset = config_.learned.offset,
                     .accumulate = true});
    }
    if (config_.embedding_norm) norm(weights_.embedding_norm, at_.residual);
  }

  void run_layer(std::int32_t index) {
    const LayerWeights& layer = weights_.layers[static_cast<std::size_t>(index)];
    switch (config_.residual) {
      case ResidualOrder::kSequential:
      case ResidualOrder::kSandwich:
        norm(layer.attention_norm, at_.normed);
        attention(layer, index);
        if (config_.cross_attention) cross_attention(layer, index);
        norm(layer.mlp_norm, at_.normed);
        mlp(layer, at_.normed);
        break;
      case ResidualOrder::kParallelOneNorm:
        norm(layer.attention_norm, at_.normed);
        parallel(layer, index, at_.normed);
        break;
      case ResidualOrder::kParallelTwoNorms:
        // Both norms see the layer's input, which attention then adds to.
        norm(layer.attention_norm, at_.normed);
        norm(layer.mlp_norm, at_.normed_mlp);
        parallel(layer, index, at_.normed_mlp);
        break;
      case ResidualOrder::kPostNorm:
        copy_rows(at_.normed);
        attention(layer, index);
        norm(layer.attention_norm, at_.residual);
        copy_rows(at_.normed);
        mlp(layer, at_.normed);
        norm(layer.mlp_norm, at_.residual);
        break;
      case ResidualOrder::kNormedResidual:
        norm(layer.attention_norm, at_.residual);
        copy_rows(at_.normed);
        attention(layer, index);
        norm(layer.mlp_norm, at_.residual);
        copy_rows(at_.normed);
        mlp(layer, at_.normed);
        break;
    }
  }

  /// The residual stream as it is, in the type of the arithmetic.
  void copy_rows(const ops::Matrix& out, ops::Ints row_index = {}) {
    stream_.norm({.kind = ops::NormKind::kNone,
                  .in = at_.residual,
                  .row_index = row_index,
                  .weight = {},
                  .bias = {},
                  .out = out});
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

  static ops::LinearArgs product(const Linear& linear, const ops::Matrix& in, const ops::Matrix& out,
                                 ops::Activation activation = ops::Activation::kNone) {
    return {.in = in,
            .weight = linear.weight.get(),
            .bias = linear.bias.floats(),
            .activation = activation,
            .residual = {},
            .out = out};
  }

  void linear(const Linear& linear, const ops::Matrix& in, const ops::Matrix& out) {
    stream_.linear(product(linear, in, out));
  }

  /// Adds the layer's result, or its norm where it has one, to the residual stream.
  void linear_to_residual(const Linear& layer, const Norm& after, const ops::Matrix& in) {
    if (config_.residual == ResidualOrder::kSandwich) {
      linear(layer, in, at_.branch);
      stream_.norm({.kind = config_.norm,
                    .epsilon = config_.norm_epsilon,
                    .in = at_.branch,
                    .row_index = {},
                    .weight = after.weight.floats(),
                    .bias = after.bias.floats(),
                    .out = at_.residual,
                    .residual = at_.residual});
      return;
    }
    stream_.linear({.in = in,
                    .weight = layer.weight.get(),
                    .bias = layer.bias.floats(),
                    .activation = ops::Activation::kNone,
                    .residual = at_.residual,
                    .out = at_.residual});
  }

  bool has_window(std::int32_t layer) const {
    return config_.window > 0 && (config_.window_layers == WindowLayers::kAll || layer % 2 == 0);
  }

  float attention_scale(std::int32_t layer) const {
    const float divisor = config_.attention_scale_by_layer ? static_cast<float>(layer + 1) : 1.0f;
    return config_.attention_scale / divisor;
  }

  void attention(const LayerWeights& layer, std::int32_t index) {
    linear(layer.qkv, at_.normed, at_.qkv);
    attend(layer, index);
  }

  /// Attention and feed-forward part beside each other, whose first products are one operation.
  void parallel(const LayerWeights& layer, std::int32_t index, const ops::Matrix& mlp_in) {
    if (layer.router.weight) {
      attention(layer, index);
      mlp(layer, mlp_in);
      return;
    }
    stream_.linear_pair({.first = product(layer.qkv, at_.normed, at_.qkv),
                         .second = product(layer.mlp_up, mlp_in, at_.up, up_activation())});
    attend(layer, index);
    mlp_down(layer);
  }

  /// From queries, keys and values on.
  void attend(const LayerWeights& layer, std::int32_t index) {
    stream_.rotate_and_store({.batch = step_.batch,
                              .qkv = at_.qkv,
                              .heads = config_.heads,
                              .cosines = at_.cosines,
                              .sines = at_.sines,
                              .style = config_.rotary.style,
                              .cache = &cache_,
                              .layer = index,
                              .clip = config_.qkv_clip,
                              .query_norm = layer.query_norm.floats(),
                              .key_norm = layer.key_norm.floats(),
                              .head_norm = config_.norm,
                              .head_norm_epsilon = config_.norm_epsilon});
    stream_.attention({.batch = step_.batch,
                       .queries = at_.qkv.columns(0, std::int64_t{config_.heads} * config_.head_dim),
                       .heads = config_.heads,
                       .cache = &cache_,
                       .layer = index,
                       .scale = attention_scale(index),
                       .soft_cap = config_.attention_soft_cap,
                       .window = has_window(index) ? config_.window : 0,
                       .alibi_slopes = weights_.alibi_slopes.floats(),
                       .alibi_scale = config_.alibi.scale,
                       .alibi_in_bfloat16 = config_.alibi.in_bfloat16,
                       .distance_bias = weights_.distance_bias.floats(),
                       .distance_limit = config_.relative.max_distance,
                       .out = at_.attention});
    linear_to_residual(layer.attention_out, layer.attention_after_norm, at_.attention);
  }

  /// Distances between the text and what answers it mean nothing: there is no bias.
  void cross_attention(const LayerWeights& layer, std::int32_t index) {
    norm(layer.cross_norm, at_.normed);
    const ops::Matrix queries = at_.qkv.columns(0, std::int64_t{config_.heads} * config_.head_dim);
    linear(layer.cross_query, at_.normed, queries);
    stream_.attention({.batch = step_.cross_batch,
                       .queries = queries,
                       .heads = config_.heads,
                       .cache = &cache_,
                       .layer = index,
                       .scale = attention_scale(index),
                       .alibi_slopes = {},
                       .lengths = step_.cross_lengths,
                       .out = at_.attention});
    linear_to_residual(layer.cross_out, {}, at_.attention);
  }

  void mlp(const LayerWeights& layer, const ops::Matrix& in) {
    if (layer.router.weight) {
      experts(layer, in);
      return;
    }
    stream_.linear(product(layer.mlp_up, in, at_.up, up_activation()));
    mlp_down(layer);
  }

  /// A gated part is activated by the gate.
  ops::Activation up_activation() const {
    return config_.gated_mlp ? ops::Activation::kNone : config_.activation;
  }

  void mlp_down(const LayerWeights& layer) {
    if (config_.gated_mlp) {
      stream_.gated_activation({.activation = config_.activation, .in = at_.up, .out = at_.gated});
    }
    linear_to_residual(layer.mlp_down, layer.mlp_after_norm, config_.gated_mlp ? at_.gated : at_.up);
  }

  void experts(const LayerWeights& layer, const ops::Matrix& in) {
    const ExpertsConfig& experts = config_.experts;
    const RoutedActivations& routed = at_.routed;
    linear(layer.router, in, routed.scores);
    stream_.route({.scores = routed.scores,
                   .experts = experts.count,
                   .per_row = experts.per_token,
                   .normalized = experts.normalized,
                   .shared = experts.has_shared(),
                   .chosen = routed.chosen,
                   .weights = routed.weights});
    stream_.experts({.in = in,
                     .up = layer.expert_up,
                     .down = layer.expert_down,
                     .activation = config_.activation,
                     .per_row = experts.of_token(),
                     .chosen = routed.chosen,
                     .weights = routed.weights,
                     .order = routed.order,
                     .gathered = routed.gathered,
                     .raised = routed.raised,
                     .gated = routed.gated,
                     .lowered = routed.lowered,
                     .residual = at_.residual,
                     .out = at_.residual});
  }

  void head() {
    if (config_.final_norm) {
      norm(weights_.final_norm, at_.normed_head, step_.logit_index);
    } else {
      copy_rows(at_.normed_head, step_.logit_index);
    }
    const bool projected = weights_.project_out.weight != nullptr;
    if (projected) linear(weights_.project_out, at_.normed_head, at_.projected_head);
    const ops::Weight* weight = weights_.head.weight ? weights_.head.weight.get() : weights_.embedding.get();
    stream_.linear({.in = projected ? at_.projected_head : at_.normed_head,
                    .weight = weight,
                    .bias = weights_.head.bias.floats(),
                    .activation = ops::Activation::kNone,
                    .residual = {},
                    .out = step_.logits,
                    .soft_cap = config_.logit_soft_cap});
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
  const ops::Weight& embedding() const override { return *weights_.embedding; }

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
    DecoderBuffers& own = own_buffers(buffers);
    check_cache(cache.spec());
    const PlannedStep step = own.plan(stream, sequences, cache.spec().blocks);
    const Activations activations = own.activations(step.batch.rows, step.logit_rows);
    StepRunner(config_, weights_, stream, cache, step, activations).run(rotary_scale_);
    return step.logits;
  }

  void store_cross(ops::Stream& stream, StepBuffers& buffers, ops::KvCache& cache,
                   const EncodedBatch& encoded,
                   std::span<const std::span<const std::int32_t>> blocks) const override {
    DecoderBuffers& own = own_buffers(buffers);
    check_cache(cache.spec());
    CrossBuffers* cross = own.cross();
    if (cross == nullptr) fail(ErrorKind::kInternal, "the model has no cross-attention");
    if (encoded.hidden.cols != config_.hidden_size || encoded.hidden.dtype != types_.compute) {
      fail(ErrorKind::kInternal, "cross-attention: texts are {} wide in {}; the model takes {} in {}",
           encoded.hidden.cols, core::to_string(encoded.hidden.dtype), config_.hidden_size,
           core::to_string(types_.compute));
    }
    const auto ranges = cross->plan(stream, encoded.lengths, blocks, cache.spec().blocks);
    for (std::int32_t index = 0; index < config_.layers; ++index) {
      const Linear& key_value = weights_.layers[static_cast<std::size_t>(index)].cross_key_value;
      for (const CrossRange& range : ranges) {
        const ops::Matrix out = own.cross_key_value(range.batch.rows);
        stream.linear({.in = rows_of(encoded.hidden, range.first_row, range.batch.rows),
                       .weight = key_value.weight.get(),
                       .bias = key_value.bias.floats(),
                       .activation = ops::Activation::kNone,
                       .residual = {},
                       .out = out});
        // There are neither queries nor rotations: keys and values go to the cache as they are.
        stream.rotate_and_store({.batch = range.batch,
                                 .qkv = out,
                                 .heads = 0,
                                 .cosines = {},
                                 .sines = {},
                                 .cache = &cache,
                                 .layer = index});
      }
    }
  }

 private:
  static DecoderBuffers& own_buffers(StepBuffers& buffers) {
    auto* own = dynamic_cast<DecoderBuffers*>(&buffers);
    if (own == nullptr) fail(ErrorKind::kInternal, "step: the buffers are not a decoder's");
    return *own;
  }

  void check_cache(const ops::KvCacheSpec& spec) const {
    if (spec.layers != config_.layers || spec.kv_heads != config_.kv_heads ||
        spec.head_dim != config_.head_dim) {
      fail(ErrorKind::kInternal,
           "step: the KV cache is for {} layers, {} heads of {}; the model has {}, {} of {}", spec.layers,
           spec.kv_heads, spec.head_dim, config_.layers, config_.kv_heads, config_.head_dim);
    }
  }

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
  if (config.experts.count > 0 && config.residual == ResidualOrder::kSandwich) {
    fail(ErrorKind::kInternal, "family {}: experts with a norm behind them are not supported", config.family);
  }
  if (config.cross_attention && config.residual != ResidualOrder::kSequential) {
    fail(ErrorKind::kInternal, "family {}: cross-attention goes with sequential residuals only",
         config.family);
  }
  DecoderWeights weights = load_weights(config, family, source, device, types.stored(), progress);
  return std::make_unique<LoadedDecoder>(config, types, device, std::move(weights));
}

}  // namespace peregrine::model
