// SPDX-License-Identifier: Apache-2.0

#include "model/families/config_reader.h"
#include "model/families/families.h"
#include "model/families/llama_layout.h"

namespace peregrine::model {
namespace {

using core::JsonView;

DecoderConfig read_config(const JsonView& config) {
  DecoderConfig out;
  out.family = "qwen2";
  read_llama_config(config, 32768, out);
  // Which layers it would mean differs between versions of transformers; no published model sets it.
  refuse_flag(config, "use_sliding_window");
  out.qkv_bias = true;
  return out;
}

}  // namespace

const Family kQwen2Family = {
    .name = "qwen2",
    .architectures = {"Qwen2ForCausalLM"},
    .model_types = {"qwen2"},
    .read_config = read_config,
    .model_slots = llama_model_slots,
    .layer_slots = llama_layer_slots,
    .optional_prefix = "model.",
};

}  // namespace peregrine::model
