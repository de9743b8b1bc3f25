// SPDX-License-Identifier: Apache-2.0
#include "model/encoder_weights.h"

#include <utility>

#include "core/error.h"
#include "model/relative_positions.h"
#include "model/slot_loader.h"

namespace peregrine::model {
namespace {

using core::ErrorKind;
using core::fail;

[[noreturn]] void fail_place(Slot slot) {
  fail(ErrorKind::kInternal, "slot {} is declared in the wrong place of an encoder", to_string(slot));
}

/// Finds the places of an encoder's slots.
class Places {
 public:
  Places(const EncoderConfig& config, EncoderWeights& weights, std::vector<float>& relative_bias)
      : config_(config), weights_(weights), relative_bias_(relative_bias) {}

  SlotPlace in_model(Slot slot) const {
    const std::int64_t hidden = config_.hidden_size;
    const std::int64_t width = config_.embedding_width();
    switch (slot) {
      case Slot::kTokenEmbedding:
        return table_place(weights_.embedding, config_.vocab_size, width);
      case Slot::kPositionEmbedding:
        return table_place(weights_.positions, config_.learned.rows, width);
      case Slot::kTokenTypeEmbedding:
        return table_place(weights_.token_types, config_.token_types, width);
      case Slot::kRelativeBias: {
        SlotPlace out;
        out.shape = {config_.relative.buckets, config_.heads};
        out.values = &relative_bias_;
        return out;
      }
      case Slot::kEmbeddingNormWeight:
        return vector_place(weights_.embedding_norm.weight, width);
      case Slot::kEmbeddingNormBias:
        return vector_place(weights_.embedding_norm.bias, width);
      case Slot::kProjectIn:
        return matrix_place(weights_.project_in.weight, hidden, width);
      case Slot::kProjectInBias:
        return vector_place(weights_.project_in.bias, hidden);
      case Slot::kFinalNormWeight:
        return vector_place(weights_.final_norm.weight, hidden);
      case Slot::kFinalNormBias:
        return vector_place(weights_.final_norm.bias, hidden);
      default:
        return in_head(slot);
    }
  }

  SlotPlace in_layer(Slot slot, EncoderLayerWeights& layer) const {
    const std::int64_t hidden = config_.hidden_size;
    const std::int64_t queries = std::int64_t{config_.heads} * config_.head_dim;
    const std::int64_t up = config_.intermediate_size * (config_.gated_mlp ? 2 : 1);
    switch (slot) {
      case Slot::kAttentionNormWeight:
        return vector_place(layer.attention_norm.weight, hidden);
      case Slot::kAttentionNormBias:
        return vector_place(layer.attention_norm.bias, hidden);
      case Slot::kMlpNormWeight:
        return vector_place(layer.mlp_norm.weight, hidden);
      case Slot::kMlpNormBias:
        return vector_place(layer.mlp_norm.bias, hidden);
      case Slot::kQkv:
        return matrix_place(layer.qkv.weight, 3 * queries, hidden);
      case Slot::kQkvBias:
        return vector_place(layer.qkv.bias, 3 * queries);
      case Slot::kAttentionOut:
        return matrix_place(layer.attention_out.weight, hidden, queries);
      case Slot::kAttentionOutBias:
        return vector_place(layer.attention_out.bias, hidden);
      case Slot::kMlpUp:
        return matrix_place(layer.mlp_up.weight, up, hidden);
      case Slot::kMlpUpBias:
        return vector_place(layer.mlp_up.bias, up);
      case Slot::kMlpDown:
        return matrix_place(layer.mlp_down.weight, hidden, config_.intermediate_size);
      case Slot::kMlpDownBias:
        return vector_place(layer.mlp_down.bias, hidden);
      default:
        fail_place(slot);
    }
  }

 private:
  SlotPlace in_head(Slot slot) const {
    const std::int64_t hidden = config_.hidden_size;
    const auto labels = static_cast<std::int64_t>(config_.head.labels.size());
    switch (slot) {
      case Slot::kPooler:
        return matrix_place(weights_.pooler.weight, hidden, hidden);
      case Slot::kPoolerBias:
        return vector_place(weights_.pooler.bias, hidden);
      case Slot::kClassifier:
        return matrix_place(weights_.classifier.weight, labels, hidden);
      case Slot::kClassifierBias:
        return vector_place(weights_.classifier.bias, labels);
      default:
        fail_place(slot);
    }
  }

  const EncoderConfig& config_;
  EncoderWeights& weights_;
  std::vector<float>& relative_bias_;
};

std::size_t bytes_of(const std::unique_ptr<ops::Weight>& weight) { return weight ? weight->bytes() : 0; }

std::size_t bytes_of(const EncoderLayerWeights& layer) {
  return layer.attention_norm.bytes() + layer.mlp_norm.bytes() + layer.qkv.bytes() +
         layer.attention_out.bytes() + layer.mlp_up.bytes() + layer.mlp_down.bytes();
}

}  // namespace

std::size_t EncoderWeights::bytes() const {
  std::size_t out = bytes_of(embedding) + bytes_of(positions) + bytes_of(token_types) +
                    embedding_norm.bytes() + project_in.bytes() + final_norm.bytes() + distance_bias.bytes() +
                    pooler.bytes() + classifier.bytes();
  for (const auto& layer : layers) out += bytes_of(layer);
  return out;
}

bool has_pooler(const EncoderConfig& config, const EncoderFamily& family, weights::TensorSource& source) {
  for (const auto& slot : family.model_slots(config)) {
    if (slot.slot != Slot::kPooler) continue;
    try {
      for (const auto& part : slot.parts) source.check(part.tensor, part.tensor_shape);
      return true;
    } catch (const core::Error& error) {
      if (error.kind() != ErrorKind::kNotFound) throw;
    }
  }
  return false;
}

EncoderWeights load_encoder_weights(const EncoderConfig& config, const EncoderFamily& family,
                                    weights::TensorSource& source, ops::Device& device, StoredTypes types,
                                    const LoadProgress& progress, const ops::Weight* shared_embedding) {
  EncoderWeights out;
  out.shared_embedding = shared_embedding;
  if (shared_embedding != nullptr && (shared_embedding->rows() != config.vocab_size ||
                                      shared_embedding->cols() != config.embedding_width())) {
    fail(ErrorKind::kInternal, "family {}: the shared embedding is {} x {} and must be {} x {}",
         config.family, shared_embedding->rows(), shared_embedding->cols(), config.vocab_size,
         config.embedding_width());
  }
  out.layers.resize(static_cast<std::size_t>(config.layers));
  std::vector<float> relative_bias;
  const Places places(config, out, relative_bias);
  SlotLoader loader(config.family, source, device, types);
  for (auto& slot : family.model_slots(config)) {
    if (slot.slot == Slot::kTokenEmbedding && shared_embedding != nullptr) continue;
    const SlotPlace place = places.in_model(slot.slot);
    loader.add(std::move(slot), place);
  }
  for (std::int32_t layer = 0; layer < config.layers; ++layer) {
    for (auto& slot : family.layer_slots(config, layer)) {
      const SlotPlace place = places.in_layer(slot.slot, out.layers[static_cast<std::size_t>(layer)]);
      loader.add(std::move(slot), place);
    }
  }
  loader.run(progress);
  if (config.positions == PositionKind::kRelative) {
    out.distance_bias =
        loader.upload(distance_bias(config.relative, config.heads, relative_bias, Direction::kBoth));
  }
  return out;
}

}  // namespace peregrine::model
