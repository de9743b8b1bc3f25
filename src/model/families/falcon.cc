// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <charconv>
#include <string>
#include <string_view>

#include "core/error.h"
#include "core/float16.h"
#include "model/families/alibi.h"
#include "model/families/config_reader.h"
#include "model/families/families.h"
#include "model/families/slot_builder.h"

// Falcon comes in forms that share their tensor names:
//   RW        alibi, biases, sequential, every head with its own keys and values
//   7B        rotary, multi-query, parallel attention behind one norm
//   40B, 11B  "new decoder architecture": grouped queries, parallel attention behind two norms or one
// and every mixture of these flags. The first published files call themselves RefinedWebModel (7B, RW) and
// RefinedWeb (40B), with other key names.

namespace peregrine::model {
namespace {

using core::ErrorKind;
using core::fail;
using core::JsonView;

bool is_new_decoder(const JsonView& config) {
  // RefinedWeb was the 40B alone, and had no flag yet.
  const auto type = config.find("model_type");
  return read_bool(config, "new_decoder_architecture", type && type->as_string() == "RefinedWeb");
}

ResidualOrder read_residual(const JsonView& config, bool new_decoder) {
  const bool parallel = read_bool(config, "parallel_attn", true);
  const std::int64_t norms = read_int(config, {"num_ln_in_parallel_attn"}, 1, 2, new_decoder ? 2 : 1);
  if (new_decoder) {
    if (!parallel) {
      fail(ErrorKind::kUnsupported,
           "{}: 'parallel_attn' is false; with new_decoder_architecture only true is supported",
           config.where());
    }
    return norms == 2 ? ResidualOrder::kParallelTwoNorms : ResidualOrder::kParallelOneNorm;
  }
  if (parallel && norms == 2) {
    fail(ErrorKind::kUnsupported,
         "{}: 'num_ln_in_parallel_attn' is 2; without new_decoder_architecture only 1 or null is supported",
         config.where());
  }
  return parallel ? ResidualOrder::kParallelOneNorm : ResidualOrder::kSequential;
}

std::int32_t read_kv_heads(const JsonView& config, bool new_decoder, std::int32_t heads) {
  if (!new_decoder && read_bool(config, "multi_query", true)) return 1;
  const auto kv_heads =
      static_cast<std::int32_t>(read_int(config, {"num_kv_heads", "n_head_kv"}, 1, heads, heads));
  if (new_decoder ? heads % kv_heads != 0 : kv_heads != heads) {
    fail(ErrorKind::kInvalidArgument, "{}: num_kv_heads ({}) must {} num_attention_heads ({})",
         config.where(), kv_heads, new_decoder ? "divide" : "equal", heads);
  }
  return kv_heads;
}

/// How often the bias counts. The published models were trained with it once. Since 4.45, the plain ("eager")
/// attention of transformers adds it to the scores and, because the mask holds it too, a second time with the
/// mask. Only config.json tells the two apart: it names the version that wrote it. Our recorded values come
/// from such a version; the files on the hub are older.
float alibi_count(const JsonView& config) {
  constexpr int kTwiceSince[] = {4, 45};
  const auto version = config.find("transformers_version");
  if (!version) return 1.0f;
  const std::string_view text = version->as_string();
  int numbers[2] = {0, 0};
  const char* const end = text.data() + text.size();
  const auto [dot, error] = std::from_chars(text.data(), end, numbers[0]);
  if (error != std::errc() || dot == end || *dot != '.') return 1.0f;
  std::from_chars(dot + 1, end, numbers[1]);
  return std::lexicographical_compare(numbers, numbers + 2, kTwiceSince, kTwiceSince + 2) ? 1.0f : 2.0f;
}

/// Falcon rounds the slopes, and then slope * position, to bfloat16, and adds the bias before the scores are
/// scaled.
AlibiConfig make_alibi(std::int32_t heads, float scale) {
  AlibiConfig alibi;
  for (const float slope : alibi_slopes(heads)) {
    alibi.slopes.push_back(core::to_float(core::to_bfloat16(slope)));
  }
  alibi.scale = scale;
  alibi.in_bfloat16 = true;
  return alibi;
}

DecoderConfig read_config(const JsonView& config) {
  DecoderConfig out;
  out.family = "falcon";
  read_sizes(config, 2048, out);
  refuse_flag(config, "apply_residual_connection_post_layernorm");
  const bool new_decoder = is_new_decoder(config);
  out.kv_heads = read_kv_heads(config, new_decoder, out.heads);
  out.residual = read_residual(config, new_decoder);
  out.intermediate_size = read_int(config, {"ffn_hidden_size"}, 1, kMaxIntermediate, 4 * out.hidden_size);
  out.norm = ops::NormKind::kLayer;
  out.norm_epsilon = read_epsilon(config, "layer_norm_epsilon", 1e-5);
  out.activation = read_activation(config, "activation", "gelu");
  if (read_bool(config, "alibi", false)) {
    out.positions = PositionKind::kAlibi;
    out.alibi = make_alibi(out.heads, alibi_count(config) * out.attention_scale);
  } else {
    out.rotary.dim = out.head_dim;
    read_rotary(config, "rope_theta", out);
  }
  const bool bias = read_bool(config, "bias", false);
  out.qkv_bias = out.attention_out_bias = out.mlp_up_bias = out.mlp_down_bias = bias;
  out.tied_head = read_bool(config, "tie_word_embeddings", true);
  return out;
}

std::vector<SlotSource> model_slots(const DecoderConfig& config) {
  SlotBuilder slots("");
  slots.whole(Slot::kTokenEmbedding, Cut::kVocabulary, "transformer.word_embeddings.weight",
              {config.vocab_size, config.hidden_size});
  slots.norm(Slot::kFinalNormWeight, Slot::kFinalNormBias, true, "transformer.ln_f", config.hidden_size);
  if (!config.tied_head) {
    slots.whole(Slot::kHead, Cut::kVocabulary, "lm_head.weight", {config.vocab_size, config.hidden_size});
  }
  return slots.take();
}

/// The stored rows are groups of query heads followed by the key and the value head they share. Multi-query
/// is one such group, and a head of its own for each query is as many groups as heads.
void add_qkv(const DecoderConfig& config, SlotBuilder& slots) {
  const std::int64_t head = config.head_dim;
  const std::int64_t groups = config.kv_heads;
  const std::int64_t queries = config.heads / groups * head;  // rows of queries in a group
  const std::int64_t group = queries + 2 * head;
  const std::string tensor = "self_attention.query_key_value";
  const std::int64_t rows = groups * group;
  slots.fused(Slot::kQkv, Slot::kQkvBias, config.qkv_bias, Cut::kHeadGroup,
              {{"q", tensor, rows, {0, queries, group, groups}},
               {"k", tensor, rows, {queries, head, group, groups}},
               {"v", tensor, rows, {queries + head, head, group, groups}}},
              config.hidden_size);
}

void add_norms(const DecoderConfig& config, SlotBuilder& slots) {
  const bool two = config.residual == ResidualOrder::kParallelTwoNorms;
  slots.norm(Slot::kAttentionNormWeight, Slot::kAttentionNormBias, true, two ? "ln_attn" : "input_layernorm",
             config.hidden_size);
  if (config.residual != ResidualOrder::kParallelOneNorm) {
    slots.norm(Slot::kMlpNormWeight, Slot::kMlpNormBias, true, two ? "ln_mlp" : "post_attention_layernorm",
               config.hidden_size);
  }
}

std::vector<SlotSource> layer_slots(const DecoderConfig& config, std::int32_t layer) {
  SlotBuilder slots("transformer.h." + std::to_string(layer) + ".");
  add_norms(config, slots);
  add_qkv(config, slots);
  slots.linear(Slot::kAttentionOut, Slot::kAttentionOutBias, config.attention_out_bias, Cut::kRow,
               "self_attention.dense", config.hidden_size, std::int64_t{config.heads} * config.head_dim);
  slots.linear(Slot::kMlpUp, Slot::kMlpUpBias, config.mlp_up_bias, Cut::kColumn, "mlp.dense_h_to_4h",
               config.intermediate_size, config.hidden_size);
  slots.linear(Slot::kMlpDown, Slot::kMlpDownBias, config.mlp_down_bias, Cut::kRow, "mlp.dense_4h_to_h",
               config.hidden_size, config.intermediate_size);
  return slots.take();
}

}  // namespace

const Family kFalconFamily = {
    .name = "falcon",
    .architectures = {"FalconForCausalLM", "RWForCausalLM"},
    .model_types = {"falcon", "RefinedWeb", "RefinedWebModel"},
    .read_config = read_config,
    .model_slots = model_slots,
    .layer_slots = layer_slots,
    .optional_prefix = "transformer.",
};

}  // namespace peregrine::model
