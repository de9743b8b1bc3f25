// SPDX-License-Identifier: Apache-2.0

#include "model/families/config_reader.h"
#include "model/families/families.h"
#include "model/families/llama_layout.h"

namespace peregrine::model {
namespace {

using core::JsonView;

DecoderConfig read_config(const JsonView& config) {
  DecoderConfig out;
  out.family = "qwen3";
  out.head_dim = 128;  // where the key is missing, whatever the width, as transformers has it
  read_llama_config(config, 32768, out);
  refuse_flag(config, "use_sliding_window");  // see qwen2.cc
  out.qkv_bias = out.attention_out_bias = read_bool(config, "attention_bias", false);
  out.head_norms = true;
  return out;
}

}  // namespace

const Family kQwen3Family = {
    .name = "qwen3",
    .architectures = {"Qwen3ForCausalLM"},
    .model_types = {"qwen3"},
    .read_config = read_config,
    .model_slots = llama_model_slots,
    .layer_slots = llama_layer_slots,
    .optional_prefix = "model.",
};

}  // namespace peregrine::model
