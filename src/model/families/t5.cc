// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <string>

#include "core/error.h"
#include "model/encoder_family.h"
#include "model/families/config_reader.h"
#include "model/families/encoder_families.h"
#include "model/families/families.h"
#include "model/families/slot_builder.h"

namespace peregrine::model {
namespace {

using core::ErrorKind;
using core::fail;
using core::JsonView;

// T5 v1.0 (relu, tied output layer), v1.1, Flan-T5 and mT5 (gated gelu, output layer of its own), UL2 (gated
// silu). A head's width is free: heads * d_kv need not be the hidden size.

/// Relative distances have no end; this bounds what a request may ask for.
constexpr std::int64_t kLongest = std::int64_t{1} << 20;
/// T5 was trained on 512 tokens, but is used for more.
constexpr std::int64_t kUsual = 2048;
/// The table of biases has a column for each distance.
constexpr std::int64_t kMaxDistance = 4096;
constexpr std::int64_t kMaxBuckets = 4096;

/// What encoder and decoder have in common.
struct Common {
  std::int64_t vocab_size = 0;
  std::int64_t hidden_size = 0;
  std::int64_t intermediate_size = 0;
  std::int32_t encoder_layers = 0;
  std::int32_t decoder_layers = 0;
  std::int32_t heads = 0;
  std::int32_t head_dim = 0;
  std::int64_t usual_positions = 0;
  float norm_epsilon = 0.0f;
  RelativePositionsConfig relative;
  ops::Activation activation = ops::Activation::kRelu;
  bool gated = false;
};

/// Whether the defaults of mT5 hold, which are those of T5 v1.1.
bool is_multilingual(const JsonView& config) {
  const auto type = config.find("model_type");
  return type && type->as_string() == "mt5";
}

RelativePositionsConfig read_relative(const JsonView& config) {
  RelativePositionsConfig out;
  // An encoder halves the buckets, one half for each direction, and again for the exact distances.
  out.buckets = static_cast<std::int32_t>(
      read_int(config, {"relative_attention_num_buckets"}, 4, kMaxBuckets, out.buckets));
  out.max_distance = static_cast<std::int32_t>(
      read_int(config, {"relative_attention_max_distance"}, 1, kMaxDistance, out.max_distance));
  if (out.max_distance <= out.buckets / 2) {
    fail(ErrorKind::kInvalidArgument,
         "{}: relative_attention_max_distance ({}) must be above half of relative_attention_num_buckets ({})",
         config.where(), out.max_distance, out.buckets);
  }
  return out;
}

/// "relu", "gated-gelu", ...; dense_act_fn and is_gated_act, which newer files derive from it, count where
/// they are there.
void read_feed_forward(const JsonView& config, Common& out) {
  const auto value = config.find("feed_forward_proj");
  const std::string_view text = value ? value->as_string() : is_multilingual(config) ? "gated-gelu" : "relu";
  constexpr std::string_view kGated = "gated-";
  const bool gated = text.starts_with(kGated);
  std::string_view activation = gated ? text.substr(kGated.size()) : text;
  if (activation != "relu" && activation != "gelu" && activation != "gelu_new" && activation != "silu") {
    fail(ErrorKind::kUnsupported,
         "{}: 'feed_forward_proj' is {}; supported are relu, gelu, gelu_new and silu, each also with "
         "\"gated-\" "
         "before it",
         config.where(), core::quoted(text));
  }
  if (text == "gated-gelu") activation = "gelu_new";
  out.activation = read_activation(config, "dense_act_fn", activation);
  out.gated = read_bool(config, "is_gated_act", gated);
}

Common read_common(const JsonView& config) {
  refuse_quantized(config);
  Common out;
  out.vocab_size = read_int(config, {"vocab_size"}, 1, kMaxVocabulary);
  out.hidden_size = read_int(config, {"d_model"}, 1, kMaxHidden);
  out.intermediate_size = read_int(config, {"d_ff"}, 1, kMaxIntermediate);
  out.encoder_layers = static_cast<std::int32_t>(read_int(config, {"num_layers"}, 1, kMaxLayers));
  out.decoder_layers =
      static_cast<std::int32_t>(read_int(config, {"num_decoder_layers"}, 1, kMaxLayers, out.encoder_layers));
  out.heads = static_cast<std::int32_t>(read_int(config, {"num_heads"}, 1, kMaxHeads));
  out.head_dim = static_cast<std::int32_t>(read_int(config, {"d_kv"}, 1, kMaxHeadDim));
  out.usual_positions = std::max(kUsual, read_int(config, {"n_positions"}, 1, kLongest, kUsual));
  out.norm_epsilon = read_epsilon(config, "layer_norm_epsilon", 1e-6);
  out.relative = read_relative(config);
  read_feed_forward(config, out);
  return out;
}

DecoderConfig read_decoder_config(const JsonView& config) {
  if (!read_bool(config, "is_encoder_decoder", true)) {
    fail(ErrorKind::kUnsupported, "{}: 'is_encoder_decoder' is false; only true is supported",
         config.where());
  }
  const Common common = read_common(config);
  DecoderConfig out;
  out.family = "t5";
  out.vocab_size = common.vocab_size;
  out.hidden_size = common.hidden_size;
  out.layers = common.decoder_layers;
  out.heads = out.kv_heads = common.heads;
  out.head_dim = common.head_dim;
  out.intermediate_size = common.intermediate_size;
  out.max_positions = kLongest;
  out.usual_positions = common.usual_positions;
  out.norm = ops::NormKind::kRms;
  out.norm_bias = false;
  out.norm_epsilon = common.norm_epsilon;
  out.residual = ResidualOrder::kSequential;
  out.positions = PositionKind::kRelative;
  out.relative = common.relative;
  out.cross_attention = true;
  out.attention_scale = 1.0f;
  out.activation = common.activation;
  out.gated_mlp = common.gated;
  out.tied_head = read_bool(config, "tie_word_embeddings", !is_multilingual(config));
  if (out.tied_head) out.final_norm_scale = 1.0f / std::sqrt(static_cast<float>(out.hidden_size));
  return out;
}

EncoderConfig read_encoder_config(const JsonView& config, std::string_view) {
  const Common common = read_common(config);
  EncoderConfig out;
  out.family = "t5";
  out.vocab_size = common.vocab_size;
  out.hidden_size = common.hidden_size;
  out.layers = common.encoder_layers;
  out.heads = common.heads;
  out.head_dim = common.head_dim;
  out.intermediate_size = common.intermediate_size;
  out.max_positions = kLongest;
  out.usual_positions = common.usual_positions;
  out.norm = ops::NormKind::kRms;
  out.norm_epsilon = common.norm_epsilon;
  out.norm_bias = out.embedding_norm = false;
  out.final_norm = true;
  out.residual = ResidualOrder::kSequential;
  out.positions = PositionKind::kRelative;
  out.relative = common.relative;
  out.attention_scale = 1.0f;
  out.activation = common.activation;
  out.gated_mlp = common.gated;
  out.qkv_bias = out.attention_out_bias = out.mlp_up_bias = out.mlp_down_bias = false;
  return out;
}

/// Slots outside the layers, but for the output layer; of the encoder or the decoder.
template <typename Config>
SlotBuilder stack_slots(const Config& config, const std::string& stack) {
  SlotBuilder slots("");
  slots.whole(Slot::kTokenEmbedding, Cut::kVocabulary, "shared.weight",
              {config.vocab_size, config.hidden_size});
  // Stored with the first layer, used by all.
  slots.whole(Slot::kRelativeBias, Cut::kReplicated,
              stack + ".block.0.layer.0.SelfAttention.relative_attention_bias.weight",
              {config.relative.buckets, config.heads});
  slots.norm(Slot::kFinalNormWeight, Slot::kFinalNormBias, false, stack + ".final_layer_norm",
             config.hidden_size);
  return slots;
}

template <typename Config>
void self_attention_slots(const Config& config, SlotBuilder& slots) {
  const std::int64_t inner = std::int64_t{config.heads} * config.head_dim;
  slots.norm(Slot::kAttentionNormWeight, Slot::kAttentionNormBias, false, "0.layer_norm", config.hidden_size);
  slots.fused(Slot::kQkv, Slot::kQkvBias, false, Cut::kHeadGroup,
              {{"q", "0.SelfAttention.q", inner, all_rows(inner)},
               {"k", "0.SelfAttention.k", inner, all_rows(inner)},
               {"v", "0.SelfAttention.v", inner, all_rows(inner)}},
              config.hidden_size);
  slots.linear(Slot::kAttentionOut, Slot::kAttentionOutBias, false, Cut::kRow, "0.SelfAttention.o",
               config.hidden_size, inner);
}

void cross_attention_slots(const DecoderConfig& config, SlotBuilder& slots) {
  const std::int64_t inner = std::int64_t{config.heads} * config.head_dim;
  slots.norm(Slot::kCrossNormWeight, Slot::kCrossNormBias, false, "1.layer_norm", config.hidden_size);
  slots.whole(Slot::kCrossQuery, Cut::kHeadGroup, "1.EncDecAttention.q.weight", {inner, config.hidden_size});
  slots.fused(Slot::kCrossKeyValue, Slot::kQkvBias, false, Cut::kHeadGroup,
              {{"k", "1.EncDecAttention.k", inner, all_rows(inner)},
               {"v", "1.EncDecAttention.v", inner, all_rows(inner)}},
              config.hidden_size);
  slots.whole(Slot::kCrossOut, Cut::kRow, "1.EncDecAttention.o.weight", {config.hidden_size, inner});
}

/// `part`: the number of the layer's part that the MLP is.
template <typename Config>
void mlp_slots(const Config& config, const std::string& part, SlotBuilder& slots) {
  const std::int64_t width = config.intermediate_size;
  const std::string dense = part + ".DenseReluDense.";
  slots.norm(Slot::kMlpNormWeight, Slot::kMlpNormBias, false, part + ".layer_norm", config.hidden_size);
  if (config.gated_mlp) {
    slots.fused(
        Slot::kMlpUp, Slot::kMlpUpBias, false, Cut::kColumn,
        {{"gate", dense + "wi_0", width, all_rows(width)}, {"up", dense + "wi_1", width, all_rows(width)}},
        config.hidden_size);
  } else {
    slots.linear(Slot::kMlpUp, Slot::kMlpUpBias, false, Cut::kColumn, dense + "wi", width,
                 config.hidden_size);
  }
  slots.linear(Slot::kMlpDown, Slot::kMlpDownBias, false, Cut::kRow, dense + "wo", config.hidden_size, width);
}

std::vector<SlotSource> decoder_model_slots(const DecoderConfig& config) {
  SlotBuilder slots = stack_slots(config, "decoder");
  if (!config.tied_head) {
    slots.whole(Slot::kHead, Cut::kVocabulary, "lm_head.weight", {config.vocab_size, config.hidden_size});
  }
  return slots.take();
}

std::vector<SlotSource> decoder_layer_slots(const DecoderConfig& config, std::int32_t layer) {
  SlotBuilder slots("decoder.block." + std::to_string(layer) + ".layer.");
  self_attention_slots(config, slots);
  cross_attention_slots(config, slots);
  mlp_slots(config, "2", slots);
  return slots.take();
}

std::vector<SlotSource> encoder_model_slots(const EncoderConfig& config) {
  return stack_slots(config, "encoder").take();
}

std::vector<SlotSource> encoder_layer_slots(const EncoderConfig& config, std::int32_t layer) {
  SlotBuilder slots("encoder.block." + std::to_string(layer) + ".layer.");
  self_attention_slots(config, slots);
  mlp_slots(config, "1", slots);
  return slots.take();
}

}  // namespace

const EncoderFamily kT5EncoderFamily = {
    .name = "t5",
    .architectures = {"T5EncoderModel", "MT5EncoderModel"},
    .model_types = {},
    .read_config = read_encoder_config,
    .model_slots = encoder_model_slots,
    .layer_slots = encoder_layer_slots,
    .optional_prefix = "",
    .other_names = {{"shared.weight", "encoder.embed_tokens.weight"},
                    {"shared.weight", "decoder.embed_tokens.weight"}},
};

const Family kT5Family = {
    .name = "t5",
    .architectures = {"T5ForConditionalGeneration", "T5WithLMHeadModel", "MT5ForConditionalGeneration"},
    .model_types = {"t5", "mt5"},
    .read_config = read_decoder_config,
    .model_slots = decoder_model_slots,
    .layer_slots = decoder_layer_slots,
    .optional_prefix = "",
    .encoder = &kT5EncoderFamily,
    .other_names = {{"shared.weight", "decoder.embed_tokens.weight"},
                    {"shared.weight", "encoder.embed_tokens.weight"}},
};

}  // namespace peregrine::model
