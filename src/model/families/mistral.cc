// SPDX-License-Identifier: Apache-2.0

#include "model/families/config_reader.h"
#include "model/families/families.h"
#include "model/families/llama_layout.h"

namespace peregrine::model {
namespace {

using core::JsonView;

DecoderConfig read_config(const JsonView& config) {
  DecoderConfig out;
  out.family = "mistral";
  read_llama_config(config, 131072, out);
  out.window = read_window(config, 4096);  // as transformers, where the key is missing
  return out;
}

}  // namespace

const Family kMistralFamily = {
    .name = "mistral",
    .architectures = {"MistralForCausalLM"},
    .model_types = {"mistral"},
    .read_config = read_config,
    .model_slots = llama_model_slots,
    .layer_slots = llama_layer_slots,
    .optional_prefix = "model.",
};

}  // namespace peregrine::model
