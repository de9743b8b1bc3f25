// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "core/error.h"
#include "model/families/alibi.h"
#include "model/families/config_reader.h"
#include "model/families/families.h"
#include "model/families/slot_builder.h"

namespace peregrine::model {
namespace {

using core::JsonView;

/// Keys of attn_config that would change the result.
void read_attention(const JsonView& config, DecoderConfig& out) {
  double largest_exponent = 8.0;
  if (const auto attention = config.find("attn_config")) {
    refuse_flag(*attention, "qk_ln");
    refuse_flag(*attention, "prefix_lm");
    refuse_flag(*attention, "attn_uses_sequence_id");
    refuse_flag(*attention, "rope");
    if (!read_bool(*attention, "alibi", true)) {
      core::fail(core::ErrorKind::kUnsupported, "{}: 'alibi' is false; only true is supported",
                 attention->where());
    }
    const auto kind = attention->find("attn_type");
    if (kind && kind->as_string() != "multihead_attention") {
      core::fail(core::ErrorKind::kUnsupported, "{} is {}; only multihead_attention is supported",
                 kind->where(), core::quoted(kind->as_string()));
    }
    largest_exponent = read_number(*attention, "alibi_bias_max", 1e-3, 1e3, 8.0);
    out.qkv_clip = static_cast<float>(read_number(*attention, "clip_qkv", 1e-6, 1e6, 0.0));
    out.attention_scale =
        static_cast<float>(read_number(*attention, "softmax_scale", 1e-6, 1e6, out.attention_scale));
  }
  out.positions = PositionKind::kAlibi;
  out.alibi.slopes = mpt_alibi_slopes(out.heads, largest_exponent);
}

DecoderConfig read_config(const JsonView& config) {
  DecoderConfig out;
  out.family = "mpt";
  read_sizes(config, 2048, out);
  if (!read_bool(config, "no_bias", true)) {
    core::fail(core::ErrorKind::kUnsupported, "{}: 'no_bias' is false; only true is supported",
               config.where());
  }
  if (const auto scale = config.find("logit_scale")) {
    core::fail(core::ErrorKind::kUnsupported, "{} is not supported; only null is", scale->where());
  }
  out.intermediate_size = out.hidden_size * read_int(config, {"expansion_ratio"}, 1, 64, 4);
  out.norm = ops::NormKind::kLayer;
  out.norm_epsilon = read_epsilon(config, "layer_norm_epsilon", 1e-5);
  out.norm_bias = false;
  out.residual = ResidualOrder::kSequential;
  out.activation = ops::Activation::kGelu;
  read_attention(config, out);
  out.tied_head = read_bool(config, "tie_word_embeddings", true);
  return out;
}

std::vector<SlotSource> model_slots(const DecoderConfig& config) {
  SlotBuilder slots("");
  slots.whole(Slot::kTokenEmbedding, Cut::kVocabulary, "transformer.wte.weight",
              {config.vocab_size, config.hidden_size});
  slots.norm(Slot::kFinalNormWeight, Slot::kFinalNormBias, false, "transformer.norm_f", config.hidden_size);
  if (!config.tied_head) {
    slots.whole(Slot::kHead, Cut::kVocabulary, "lm_head.weight", {config.vocab_size, config.hidden_size});
  }
  return slots.take();
}

std::vector<SlotSource> layer_slots(const DecoderConfig& config, std::int32_t layer) {
  SlotBuilder slots("transformer.blocks." + std::to_string(layer) + ".");
  const std::int64_t width = config.hidden_size;
  slots.norm(Slot::kAttentionNormWeight, Slot::kAttentionNormBias, false, "norm_1", width);
  slots.fused(Slot::kQkv, Slot::kQkvBias, false, Cut::kHeadGroup,
              {{"q", "attn.Wqkv", 3 * width, {0, width, width, 1}},
               {"k", "attn.Wqkv", 3 * width, {width, width, width, 1}},
               {"v", "attn.Wqkv", 3 * width, {2 * width, width, width, 1}}},
              width);
  slots.linear(Slot::kAttentionOut, Slot::kAttentionOutBias, false, Cut::kRow, "attn.out_proj", width, width);
  slots.norm(Slot::kMlpNormWeight, Slot::kMlpNormBias, false, "norm_2", width);
  slots.linear(Slot::kMlpUp, Slot::kMlpUpBias, false, Cut::kColumn, "ffn.up_proj", config.intermediate_size,
               width);
  slots.linear(Slot::kMlpDown, Slot::kMlpDownBias, false, Cut::kRow, "ffn.down_proj", width,
               config.intermediate_size);
  return slots.take();
}

}  // namespace

const Family kMptFamily = {
    .name = "mpt",
    .architectures = {"MptForCausalLM", "MPTForCausalLM"},
    .model_types = {"mpt"},
    .read_config = read_config,
    .model_slots = model_slots,
    .layer_slots = layer_slots,
    .optional_prefix = "transformer.",
};

}  // namespace peregrine::model
