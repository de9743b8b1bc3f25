// SPDX-License-Identifier: Apache-2.0

#include "model/families/config_reader.h"
#include "model/families/experts_layout.h"
#include "model/families/families.h"
#include "model/families/llama_layout.h"

namespace peregrine::model {
namespace {

using core::JsonView;

DecoderConfig read_config(const JsonView& config) {
  DecoderConfig out;
  out.family = "qwen3_moe";
  read_llama_config(config, 32768, out);
  refuse_flag(config, "use_sliding_window");  // see qwen2.cc
  out.qkv_bias = out.attention_out_bias = read_bool(config, "attention_bias", false);
  out.head_norms = true;
  read_qwen_experts(config, out);
  return out;
}

}  // namespace

const Family kQwen3MoeFamily = {
    .name = "qwen3_moe",
    .architectures = {"Qwen3MoeForCausalLM"},
    .model_types = {"qwen3_moe"},
    .read_config = read_config,
    .model_slots = llama_model_slots,
    .layer_slots = qwen_expert_layer_slots,
    .optional_prefix = "model.",
};

}  // namespace peregrine::model
