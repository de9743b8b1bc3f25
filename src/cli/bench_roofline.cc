// SPDX-License-Identifier: Apache-2.0
#include "cli/bench_roofline.h"

#include <algorithm>

namespace peregrine::cli {

Work::Work(const model::LoadedModel& model) {
  const model::DecoderConfig& config = model.decoder->config();
  const double hidden = static_cast<double>(config.hidden_size);
  const double queries = static_cast<double>(config.heads) * config.head_dim;
  const double keys = static_cast<double>(config.kv_heads) * config.head_dim;
  double mlp = static_cast<double>(config.intermediate_size) * (config.gated_mlp ? 3 : 2);
  if (config.experts.count > 0) {
    mlp = 3 * (config.experts.per_token * static_cast<double>(config.experts.intermediate_size) +
               static_cast<double>(config.experts.shared_intermediate_size));
  }
  layer_weights = config.layers * hidden * (2 * queries + 2 * keys + mlp);
  head_weights = hidden * static_cast<double>(config.vocab_size);
  if (!model.encoder) return;
  layer_weights += config.layers * hidden * 2 * queries;  // cross-attention's queries and output
  const model::EncoderConfig& encoder = model.encoder->config();
  const double width = static_cast<double>(encoder.heads) * encoder.head_dim;
  text_weights =
      encoder.layers * static_cast<double>(encoder.hidden_size) *
          (4 * width + static_cast<double>(encoder.intermediate_size) * (encoder.gated_mlp ? 3 : 2)) +
      config.layers * hidden * 2 * keys;
}

double Work::prefill_operations(std::int32_t tokens) const {
  if (text_weights > 0) return 2 * (text_weights * tokens + layer_weights + head_weights);
  return 2 * (layer_weights * tokens + head_weights);
}

double Work::decode_bytes(core::DType dtype) const {
  return (layer_weights + head_weights) * static_cast<double>(core::size_of(dtype));
}

double Roofline::decode_rate(const Work& work, core::DType dtype, std::int32_t batch) const {
  const double reading = work.decode_bytes(dtype) / bytes_per_second;
  const double computing = work.decode_operations() * batch / operations_per_second;
  return batch / std::max(reading, computing);
}

}  // namespace peregrine::cli
