// SPDX-License-Identifier: Apache-2.0
#include "model/decoder_weights.h"

#include <utility>

#include "core/error.h"
#include "model/relative_positions.h"
#include "model/slot_loader.h"

namespace peregrine::model {
namespace {

using core::ErrorKind;
using core::fail;

/// Finds the places of a model's slots.
class Places {
 public:
  Places(const DecoderConfig& config, DecoderWeights& weights, std::vector<float>& relative_bias)
      : config_(config), weights_(weights), relative_bias_(relative_bias) {}

  /// `layer` is -1 for slots outside the layers.
  SlotPlace find(const SlotSource& source, std::int32_t layer) const {
    const bool in_layer = source.slot >= Slot::kAttentionNormWeight;
    if (in_layer != (layer >= 0)) fail_place(source.slot);
    return in_layer ? layer_place(source, weights_.layers[static_cast<std::size_t>(layer)])
                    : model_place(source.slot);
  }

 private:
  [[noreturn]] static void fail_place(Slot slot) {
    fail(ErrorKind::kInternal, "slot {} is declared in the wrong place", to_string(slot));
  }

  SlotPlace norm_weight(Vector& target, std::int64_t size) const {
    SlotPlace out = vector_place(target, size);
    out.offset = config_.norm_weight_offset;
    return out;
  }

  SlotPlace model_place(Slot slot) const {
    const std::int64_t hidden = config_.hidden_size;
    const std::int64_t width = config_.embedding_width();
    switch (slot) {
      case Slot::kTokenEmbedding:
        return config_.tied_head ? matrix_place(weights_.embedding, config_.vocab_size, width)
                                 : table_place(weights_.embedding, config_.vocab_size, width);
      case Slot::kPositionEmbedding:
        return table_place(weights_.positions, config_.learned.rows, hidden);
      case Slot::kRelativeBias: {
        SlotPlace out;
        out.shape = {config_.relative.buckets, config_.heads};
        out.values = &relative_bias_;
        return out;
      }
      case Slot::kProjectIn:
        return matrix_place(weights_.project_in.weight, hidden, width);
      case Slot::kProjectOut:
        return matrix_place(weights_.project_out.weight, width, hidden);
      case Slot::kEmbeddingNormWeight:
        return norm_weight(weights_.embedding_norm.weight, hidden);
      case Slot::kEmbeddingNormBias:
        return vector_place(weights_.embedding_norm.bias, hidden);
      case Slot::kFinalNormWeight: {
        SlotPlace out = norm_weight(weights_.final_norm.weight, hidden);
        out.scale = config_.final_norm_scale;
        return out;
      }
      case Slot::kFinalNormBias:
        return vector_place(weights_.final_norm.bias, hidden);
      case Slot::kHead:
        return matrix_place(weights_.head.weight, config_.vocab_size, width);
      case Slot::kHeadBias:
        return vector_place(weights_.head.bias, config_.vocab_size);
      default:
        fail_place(slot);  // Only encoders have it.
    }
  }

  SlotPlace layer_place(const SlotSource& source, LayerWeights& layer) const {
    const std::int64_t hidden = config_.hidden_size;
    const std::int64_t queries = std::int64_t{config_.heads} * config_.head_dim;
    const std::int64_t keys = std::int64_t{config_.kv_heads} * config_.head_dim;
    const std::int64_t up = config_.intermediate_size * (config_.gated_mlp ? 2 : 1);
    switch (source.slot) {
      case Slot::kAttentionNormWeight:
        return norm_weight(layer.attention_norm.weight, hidden);
      case Slot::kAttentionNormBias:
        return vector_place(layer.attention_norm.bias, hidden);
      case Slot::kMlpNormWeight:
        return norm_weight(layer.mlp_norm.weight, hidden);
      case Slot::kMlpNormBias:
        return vector_place(layer.mlp_norm.bias, hidden);
      case Slot::kAttentionAfterNormWeight:
        return norm_weight(layer.attention_after_norm.weight, hidden);
      case Slot::kMlpAfterNormWeight:
        return norm_weight(layer.mlp_after_norm.weight, hidden);
      case Slot::kQueryNorm:
        return norm_weight(layer.query_norm, queries);
      case Slot::kKeyNorm:
        return norm_weight(layer.key_norm, keys);
      case Slot::kQkv:
        return matrix_place(layer.qkv.weight, queries + 2 * keys, hidden);
      case Slot::kQkvBias:
        return vector_place(layer.qkv.bias, queries + 2 * keys);
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
      case Slot::kCrossNormWeight:
        return norm_weight(layer.cross_norm.weight, hidden);
      case Slot::kCrossNormBias:
        return vector_place(layer.cross_norm.bias, hidden);
      case Slot::kCrossQuery:
        return matrix_place(layer.cross_query.weight, queries, hidden);
      case Slot::kCrossKeyValue:
        return matrix_place(layer.cross_key_value.weight, 2 * keys, hidden);
      case Slot::kCrossOut:
        return matrix_place(layer.cross_out.weight, hidden, queries);
      default:
        return expert_place(source, layer);
    }
  }

  SlotPlace expert_place(const SlotSource& source, LayerWeights& layer) const {
    const ExpertsConfig& experts = config_.experts;
    const std::int32_t all = experts.all();
    if (source.expert < 0 || source.expert >= all) fail_place(source.slot);
    const auto index = static_cast<std::size_t>(source.expert);
    const std::int64_t intermediate =
        source.expert < experts.count ? experts.intermediate_size : experts.shared_intermediate_size;
    layer.expert_up.resize(static_cast<std::size_t>(all));
    layer.expert_down.resize(static_cast<std::size_t>(all));
    switch (source.slot) {
      case Slot::kRouter:
        return matrix_place(layer.router.weight, all, config_.hidden_size);
      case Slot::kExpertUp:
        return matrix_place(layer.expert_up[index], 2 * intermediate, config_.hidden_size);
      case Slot::kExpertDown:
        return matrix_place(layer.expert_down[index], config_.hidden_size, intermediate);
      default:
        fail_place(source.slot);
    }
  }

  const DecoderConfig& config_;
  DecoderWeights& weights_;
  std::vector<float>& relative_bias_;
};

std::size_t bytes_of(const std::unique_ptr<ops::Weight>& weight) { return weight ? weight->bytes() : 0; }

std::size_t bytes_of(const LayerWeights& layer) {
  std::size_t out = 0;
  for (const Norm* norm : {&layer.attention_norm, &layer.mlp_norm, &layer.attention_after_norm,
                           &layer.mlp_after_norm, &layer.cross_norm}) {
    out += norm->bytes();
  }
  for (const Linear* linear : {&layer.qkv, &layer.attention_out, &layer.mlp_up, &layer.mlp_down,
                               &layer.cross_query, &layer.cross_key_value, &layer.cross_out, &layer.router}) {
    out += linear->bytes();
  }
  for (const auto* experts : {&layer.expert_up, &layer.expert_down}) {
    for (const auto& weight : *experts) out += bytes_of(weight);
  }
  return out + layer.query_norm.bytes() + layer.key_norm.bytes();
}

}  // namespace

std::size_t DecoderWeights::bytes() const {
  std::size_t out = bytes_of(embedding) + bytes_of(positions) + project_in.bytes() + project_out.bytes() +
                    embedding_norm.bytes() + final_norm.bytes() + head.bytes() + alibi_slopes.bytes() +
                    distance_bias.bytes();
  for (const auto& layer : layers) out += bytes_of(layer);
  return out;
}

DecoderWeights load_weights(const DecoderConfig& config, const Family& family, weights::TensorSource& source,
                            ops::Device& device, StoredTypes types, const LoadProgress& progress) {
  DecoderWeights out;
  out.layers.resize(static_cast<std::size_t>(config.layers));
  std::vector<float> relative_bias;
  const Places places(config, out, relative_bias);
  SlotLoader loader(config.family, source, device, types);
  const auto add = [&](std::vector<SlotSource> slots, std::int32_t layer) {
    for (auto& slot : slots) {
      const SlotPlace place = places.find(slot, layer);
      loader.add(std::move(slot), place);
    }
  };
  add(family.model_slots(config), -1);
  for (std::int32_t layer = 0; layer < config.layers; ++layer) add(family.layer_slots(config, layer), layer);
  loader.run(progress);
  if (!config.alibi.slopes.empty()) out.alibi_slopes = loader.upload(config.alibi.slopes);
  if (config.positions == PositionKind::kRelative) {
    out.distance_bias =
        loader.upload(distance_bias(config.relative, config.heads, relative_bias, Direction::kBackward));
  }
  return out;
}

}  // namespace peregrine::model
