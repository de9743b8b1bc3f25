// SPDX-License-Identifier: Apache-2.0
#include "model/encoder.h"

#include <utility>

#include "core/error.h"
#include "model/arithmetic.h"
#include "model/encoder_buffers.h"
#include "model/encoder_weights.h"

namespace peregrine::model {
namespace {

using core::DType;
using core::ErrorKind;
using core::fail;

void check_types(const EncoderTypes& types, const ops::Device& device) {
  check_arithmetic(types.weights, types.compute, device);
  if (types.output != DType::kF32 && types.output != types.compute) {
    fail(ErrorKind::kInternal, "last hidden states in {} of arithmetic in {}", core::to_string(types.output),
         core::to_string(types.compute));
  }
}

void check_config(const EncoderConfig& config) {
  const bool order =
      config.residual == ResidualOrder::kPostNorm || config.residual == ResidualOrder::kSequential;
  const bool positions =
      config.positions == PositionKind::kLearned || config.positions == PositionKind::kRelative;
  if (!order || !positions) {
    fail(ErrorKind::kInternal, "family {}: no encoder has this order of layers or this kind of positions",
         config.family);
  }
  // The head reads the residual stream.
  if (config.final_norm && (config.head.has_pooler || !config.head.labels.empty())) {
    fail(ErrorKind::kInternal, "family {}: no encoder has both a final norm and a head", config.family);
  }
}

/// Enqueues operations of one batch. Lives for the call that needs it.
class BatchRunner {
 public:
  BatchRunner(const EncoderConfig& config, const EncoderWeights& weights, ops::Stream& stream,
              EncoderWorkspace& workspace)
      : config_(config),
        weights_(weights),
        stream_(stream),
        cache_(workspace.cache()),
        planned_(workspace.batch()),
        at_(planned_.at) {}

  void embed() {
    const bool projected = weights_.project_in.weight != nullptr;
    const ops::Matrix& out = projected ? at_.embedded : at_.residual;
    add_rows(*weights_.tokens(), planned_.batch.token_ids, out, false);
    if (weights_.token_types) add_rows(*weights_.token_types, planned_.token_types, out, true);
    if (weights_.positions) add_rows(*weights_.positions, planned_.position_rows, out, true);
    if (config_.embedding_norm) norm(weights_.embedding_norm, out, out);
    if (projected) linear(weights_.project_in, at_.embedded, at_.residual);
  }

  void run_layer(const EncoderLayerWeights& layer) {
    if (config_.residual == ResidualOrder::kPostNorm) {
      attention(layer, stream_input());
      norm(layer.attention_norm, at_.residual, at_.residual);
      mlp(layer, stream_input());
      norm(layer.mlp_norm, at_.residual, at_.residual);
    } else {
      norm(layer.attention_norm, at_.residual, at_.normed);
      attention(layer, at_.normed);
      norm(layer.mlp_norm, at_.residual, at_.normed);
      mlp(layer, at_.normed);
    }
  }

  EncodedBatch finish() {
    if (config_.final_norm) {
      norm(weights_.final_norm, at_.residual, at_.output);
    } else if (at_.output.dtype != DType::kF32) {
      copy(at_.output);
    }
    return {planned_.batch, at_.output, planned_.host_lengths};
  }

  ops::Matrix pool(const ops::Matrix& out) {
    copy(at_.first, planned_.batch.sequence_starts);
    linear(weights_.pooler, at_.first, out, config_.head.pooler_activation);
    return out;
  }

  ops::Matrix classify() {
    if (config_.head.has_pooler) {
      pool(at_.pooled);
    } else {
      copy(at_.pooled, planned_.batch.sequence_starts);
    }
    linear(weights_.classifier, at_.pooled, at_.scores);
    return at_.scores;
  }

  ops::Matrix pooler_output() { return pool(at_.pooler_output); }

 private:
  void add_rows(const ops::Weight& table, ops::Ints rows, const ops::Matrix& out, bool accumulate) {
    stream_.embed({.token_ids = rows,
                   .slot_tokens = {},
                   .table = &table,
                   .out = out,
                   .offset = 0,
                   .accumulate = accumulate});
  }

  void norm(const Norm& norm, const ops::Matrix& in, const ops::Matrix& out) {
    stream_.norm({.kind = config_.norm,
                  .epsilon = config_.norm_epsilon,
                  .in = in,
                  .row_index = {},
                  .weight = norm.weight.floats(),
                  .bias = norm.bias.floats(),
                  .out = out});
  }

  /// The residual stream, or rows of it, as it is, in the type of `out`.
  void copy(const ops::Matrix& out, ops::Ints row_index = {}) {
    if (row_index) row_index.size = out.rows;
    stream_.norm({.kind = ops::NormKind::kNone,
                  .in = at_.residual,
                  .row_index = row_index,
                  .weight = {},
                  .bias = {},
                  .out = out});
  }

  /// The residual stream as linear layers take it.
  const ops::Matrix& stream_input() {
    if (at_.normed.dtype == DType::kF32) return at_.residual;
    copy(at_.normed);
    return at_.normed;
  }

  void linear(const Linear& linear, const ops::Matrix& in, const ops::Matrix& out,
              ops::Activation activation = ops::Activation::kNone, const ops::Matrix& residual = {}) {
    stream_.linear({.in = in,
                    .weight = linear.weight.get(),
                    .bias = linear.bias.floats(),
                    .activation = activation,
                    .residual = residual,
                    .out = out});
  }

  void add_to_residual(const Linear& layer, const ops::Matrix& in) {
    linear(layer, in, at_.residual, ops::Activation::kNone, at_.residual);
  }

  void attention(const EncoderLayerWeights& layer, const ops::Matrix& in) {
    linear(layer.qkv, in, at_.qkv);
    ops::RotateAndStoreArgs store;
    store.batch = planned_.batch;
    store.qkv = at_.qkv;
    store.heads = config_.heads;
    store.cache = &cache_;
    stream_.rotate_and_store(store);
    ops::AttentionArgs args;
    args.batch = planned_.batch;
    args.queries = at_.qkv.columns(0, std::int64_t{config_.heads} * config_.head_dim);
    args.heads = config_.heads;
    args.cache = &cache_;
    args.scale = config_.attention_scale;
    args.lengths = planned_.lengths;
    if (config_.positions == PositionKind::kRelative) {
      args.distance_bias = weights_.distance_bias.floats();
      args.distance_limit = config_.relative.max_distance;
    }
    args.out = at_.attention;
    stream_.attention(args);
    add_to_residual(layer.attention_out, at_.attention);
  }

  void mlp(const EncoderLayerWeights& layer, const ops::Matrix& in) {
    if (config_.gated_mlp) {
      linear(layer.mlp_up, in, at_.up);
      stream_.gated_activation({.activation = config_.activation, .in = at_.up, .out = at_.gated});
      add_to_residual(layer.mlp_down, at_.gated);
    } else {
      linear(layer.mlp_up, in, at_.up, config_.activation);
      add_to_residual(layer.mlp_down, at_.up);
    }
  }

  const EncoderConfig& config_;
  const EncoderWeights& weights_;
  ops::Stream& stream_;
  ops::KvCache& cache_;
  const PlannedBatch& planned_;
  const EncoderActivations& at_;
};

class LoadedEncoder : public Encoder {
 public:
  LoadedEncoder(EncoderConfig config, const EncoderTypes& types, ops::Device& device, EncoderWeights weights)
      : config_(std::move(config)),
        types_(types),
        device_(device),
        weights_(std::move(weights)),
        weight_bytes_(weights_.bytes()) {}

  const EncoderConfig& config() const override { return config_; }
  const EncoderTypes& types() const override { return types_; }
  std::size_t weight_bytes() const override { return weight_bytes_; }

  std::unique_ptr<EncoderBuffers> create_buffers(const EncoderLimits& limits) const override {
    return std::make_unique<EncoderWorkspace>(device_, config_, types_, limits);
  }

  void begin(ops::Stream& stream, EncoderBuffers& buffers,
             std::span<const EncoderSequence> sequences) const override {
    own(buffers).plan(stream, sequences);
    runner(stream, buffers).embed();
  }

  void run_layers(ops::Stream& stream, EncoderBuffers& buffers, std::int32_t first,
                  std::int32_t last) const override {
    if (first < 0 || last < first || last > config_.layers) {
      fail(ErrorKind::kInternal, "encoder: layers {} to {} of {}", first, last, config_.layers);
    }
    BatchRunner batch = runner(stream, buffers);
    for (std::int32_t i = first; i < last; ++i) batch.run_layer(weights_.layers[static_cast<std::size_t>(i)]);
  }

  EncodedBatch finish(ops::Stream& stream, EncoderBuffers& buffers) const override {
    return runner(stream, buffers).finish();
  }

  ops::Matrix classify(ops::Stream& stream, EncoderBuffers& buffers) const override {
    if (config_.head.labels.empty()) fail(ErrorKind::kInternal, "encoder: there is no classifier");
    return runner(stream, buffers).classify();
  }

  ops::Matrix pool(ops::Stream& stream, EncoderBuffers& buffers) const override {
    if (!config_.head.has_pooler) fail(ErrorKind::kInternal, "encoder: there is no pooler");
    return runner(stream, buffers).pooler_output();
  }

 private:
  static EncoderWorkspace& own(EncoderBuffers& buffers) {
    auto* own = dynamic_cast<EncoderWorkspace*>(&buffers);
    if (own == nullptr) fail(ErrorKind::kInternal, "encoder: the buffers are not an encoder's");
    return *own;
  }

  BatchRunner runner(ops::Stream& stream, EncoderBuffers& buffers) const {
    return BatchRunner(config_, weights_, stream, own(buffers));
  }

  EncoderConfig config_;
  EncoderTypes types_;
  ops::Device& device_;
  EncoderWeights weights_;
  std::size_t weight_bytes_;
};

}  // namespace

std::unique_ptr<Encoder> Encoder::load(const EncoderConfig& config, const EncoderFamily& family,
                                       weights::TensorSource& source, ops::Device& device,
                                       const EncoderTypes& types, const LoadProgress& progress,
                                       const ops::Weight* shared_embedding) {
  check_types(types, device);
  check_config(config);
  EncoderConfig own = config;
  // A pooler that no classifier needs may be missing.
  if (own.head.has_pooler && own.head.labels.empty()) own.head.has_pooler = has_pooler(own, family, source);
  EncoderWeights weights =
      load_encoder_weights(own, family, source, device, types.stored(), progress, shared_embedding);
  return std::make_unique<LoadedEncoder>(std::move(own), types, device, std::move(weights));
}

}  // namespace peregrine::model
