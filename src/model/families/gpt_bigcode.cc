// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "model/families/config_reader.h"
#include "model/families/families.h"
#include "model/families/gpt2_layout.h"
#include "model/families/slot_builder.h"

namespace peregrine::model {
namespace {

using core::JsonView;

DecoderConfig read_config(const JsonView& config) {
  DecoderConfig out;
  out.family = "gpt_bigcode";
  read_sizes(config, 1024, out);
  if (read_bool(config, "multi_query", true)) out.kv_heads = 1;
  out.intermediate_size = read_int(config, {"n_inner"}, 1, kMaxIntermediate, 4 * out.hidden_size);
  out.norm = ops::NormKind::kLayer;
  out.norm_epsilon = read_epsilon(config, "layer_norm_epsilon", 1e-5);
  out.residual = ResidualOrder::kSequential;
  out.activation = read_activation(config, "activation_function", "gelu_pytorch_tanh");
  out.positions = PositionKind::kLearned;
  out.learned.rows = out.max_positions;
  if (!read_bool(config, "scale_attn_weights", true)) out.attention_scale = 1.0f;
  refuse_flag(config, "add_cross_attention");
  out.qkv_bias = out.attention_out_bias = out.mlp_up_bias = out.mlp_down_bias = true;
  out.tied_head = read_bool(config, "tie_word_embeddings", true);
  return out;
}

/// The stored rows are all queries, the key and the value; or, where every head has its own, head by head its
/// query, key and value.
void add_qkv(const DecoderConfig& config, SlotBuilder& slots) {
  const std::int64_t head = config.head_dim;
  const std::int64_t groups = config.kv_heads;
  const std::int64_t queries = config.heads / groups * head;
  const std::int64_t group = queries + 2 * head;
  const std::int64_t rows = groups * group;
  slots.fused(Slot::kQkv, Slot::kQkvBias, true, Cut::kHeadGroup,
              {{"q", "attn.c_attn", rows, {0, queries, group, groups}},
               {"k", "attn.c_attn", rows, {queries, head, group, groups}},
               {"v", "attn.c_attn", rows, {queries + head, head, group, groups}}},
              config.hidden_size);
}

std::vector<SlotSource> layer_slots(const DecoderConfig& config, std::int32_t layer) {
  SlotBuilder slots("transformer.h." + std::to_string(layer) + ".");
  const std::int64_t width = config.hidden_size;
  slots.norm(Slot::kAttentionNormWeight, Slot::kAttentionNormBias, true, "ln_1", width);
  add_qkv(config, slots);
  slots.linear(Slot::kAttentionOut, Slot::kAttentionOutBias, true, Cut::kRow, "attn.c_proj", width, width);
  slots.norm(Slot::kMlpNormWeight, Slot::kMlpNormBias, true, "ln_2", width);
  slots.linear(Slot::kMlpUp, Slot::kMlpUpBias, true, Cut::kColumn, "mlp.c_fc", config.intermediate_size,
               width);
  slots.linear(Slot::kMlpDown, Slot::kMlpDownBias, true, Cut::kRow, "mlp.c_proj", width,
               config.intermediate_size);
  return slots.take();
}

}  // namespace

const Family kGptBigCodeFamily = {
    .name = "gpt_bigcode",
    .architectures = {"GPTBigCodeForCausalLM"},
    .model_types = {"gpt_bigcode"},
    .read_config = read_config,
    .model_slots = gpt2_model_slots,
    .layer_slots = layer_slots,
    .optional_prefix = "transformer.",
};

}  // namespace peregrine::model
