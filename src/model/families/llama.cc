// SPDX-License-Identifier: Apache-2.0

#include "core/error.h"
#include "model/families/config_reader.h"
#include "model/families/families.h"
#include "model/families/llama_layout.h"

namespace peregrine::model {
namespace {

using core::JsonView;

DecoderConfig read_config(const JsonView& config) {
  DecoderConfig out;
  out.family = "llama";
  read_llama_config(config, 2048, out);
  if (read_number(config, "partial_rotary_factor", 0.0, 1.0, 1.0) != 1.0) {
    core::fail(core::ErrorKind::kUnsupported,
               "{}: 'partial_rotary_factor' must be 1 or left out for this architecture", config.where());
  }
  out.qkv_bias = out.attention_out_bias = read_bool(config, "attention_bias", false);
  out.mlp_up_bias = out.mlp_down_bias = read_bool(config, "mlp_bias", false);
  return out;
}

}  // namespace

const Family kLlamaFamily = {
    .name = "llama",
    .architectures = {"LlamaForCausalLM", "LLaMAForCausalLM"},
    .model_types = {"llama"},
    .read_config = read_config,
    .model_slots = llama_model_slots,
    .layer_slots = llama_layer_slots,
    .optional_prefix = "model.",
};

}  // namespace peregrine::model
