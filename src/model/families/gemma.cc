// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "model/families/config_reader.h"
#include "model/families/families.h"
#include "model/families/llama_layout.h"

namespace peregrine::model {
namespace {

using core::JsonView;

DecoderConfig read_config(const JsonView& config) {
  DecoderConfig out;
  out.family = "gemma";
  config.at("head_dim");  // not hidden_size / heads in any of them
  read_llama_config(config, 8192, out);
  // "hidden_act" is ignored, as in transformers: the first published files name the wrong one there.
  out.activation = read_activation(config, "hidden_activation", "gelu_pytorch_tanh");
  out.norm_weight_offset = 1.0f;
  out.embedding_scale = static_cast<float>(std::sqrt(static_cast<double>(out.hidden_size)));
  out.qkv_bias = out.attention_out_bias = read_bool(config, "attention_bias", false);
  out.tied_head = read_bool(config, "tie_word_embeddings", true);
  return out;
}

}  // namespace

const Family kGemmaFamily = {
    .name = "gemma",
    .architectures = {"GemmaForCausalLM"},
    .model_types = {"gemma"},
    .read_config = read_config,
    .model_slots = llama_model_slots,
    .layer_slots = llama_layer_slots,
    .optional_prefix = "model.",
};

}  // namespace peregrine::model
