// SPDX-License-Identifier: Apache-2.0
// Qwen3 and Qwen's mixtures of experts, for which there are no values computed by transformers: every device
// in float32 against the oracle. Checkpoints are made up here with the tensor names, shapes and config.json
// keys of the published ones, and the oracle is told what they mean here, so that nothing of a family's table
// is taken on trust.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <functional>
#include <list>
#include <ostream>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "model/load.h"
#include "numerics/support.h"
#include "support/devices.h"
#include "support/oracle.h"
#include "support/test_data.h"
#include "weights/safetensors_writer.h"

namespace peregrine::testing {
namespace {

using model::DecoderConfig;

/// model.safetensors being made of random numbers.
class Hub {
 public:
  /// Normal numbers with the deviation that keeps the scale of what they are multiplied with.
  OracleMatrix matrix(const std::string& name, std::int64_t rows, std::int64_t cols, double scale = 1.0) {
    return {rows, cols, draw(name, {rows, cols}, 0.0, scale / std::sqrt(static_cast<double>(cols)))};
  }

  std::vector<double> vector(const std::string& name, std::int64_t size, double mean) {
    const std::vector<float>& values = draw(name, {size}, mean, 0.3);
    return {values.begin(), values.end()};
  }

  void write(const std::filesystem::path& file) const {
    std::vector<weights::TensorToWrite> tensors;
    for (const auto& tensor : tensors_) {
      tensors.push_back(
          {tensor.name, core::DType::kF32, tensor.shape, std::as_bytes(std::span(tensor.values))});
    }
    weights::write_safetensors(file, tensors);
  }

 private:
  struct Tensor {
    std::string name;
    std::vector<std::int64_t> shape;
    std::vector<float> values;
  };

  const std::vector<float>& draw(const std::string& name, std::vector<std::int64_t> shape, double mean,
                                 double deviation) {
    Tensor& tensor = tensors_.emplace_back(Tensor{name, std::move(shape), {}});
    std::int64_t size = 1;
    for (const std::int64_t extent : tensor.shape) size *= extent;
    std::normal_distribution<double> normal(mean, deviation);
    for (std::int64_t i = 0; i < size; ++i) tensor.values.push_back(static_cast<float>(normal(random_)));
    return tensor.values;
  }

  std::mt19937 random_{7};
  std::list<Tensor> tensors_;
};

OracleMatrix stacked(const std::vector<OracleMatrix>& parts) {
  OracleMatrix out;
  for (const OracleMatrix& part : parts) {
    out.rows += part.rows;
    out.cols = part.cols;
    out.values.insert(out.values.end(), part.values.begin(), part.values.end());
  }
  return out;
}

std::vector<double> joined(const std::vector<std::vector<double>>& parts) {
  std::vector<double> out;
  for (const auto& part : parts) out.insert(out.end(), part.begin(), part.end());
  return out;
}

void make_attention(const DecoderConfig& config, const std::string& prefix, Hub& hub, OracleLayer& layer) {
  const std::int64_t hidden = config.hidden_size;
  const std::int64_t queries = std::int64_t{config.heads} * config.head_dim;
  const std::int64_t keys = std::int64_t{config.kv_heads} * config.head_dim;
  layer.qkv = stacked({hub.matrix(prefix + "q_proj.weight", queries, hidden),
                       hub.matrix(prefix + "k_proj.weight", keys, hidden),
                       hub.matrix(prefix + "v_proj.weight", keys, hidden)});
  if (config.qkv_bias) {
    layer.qkv_bias = joined({hub.vector(prefix + "q_proj.bias", queries, 0.0),
                             hub.vector(prefix + "k_proj.bias", keys, 0.0),
                             hub.vector(prefix + "v_proj.bias", keys, 0.0)});
  }
  layer.attention_out = hub.matrix(prefix + "o_proj.weight", hidden, queries);
  if (config.attention_out_bias) layer.attention_out_bias = hub.vector(prefix + "o_proj.bias", hidden, 0.0);
  if (config.head_norms) {
    const auto all_heads = [](const std::vector<double>& one, std::int32_t heads) {
      return joined(std::vector<std::vector<double>>(static_cast<std::size_t>(heads), one));
    };
    layer.query_norm = all_heads(hub.vector(prefix + "q_norm.weight", config.head_dim, 1.0), config.heads);
    layer.key_norm = all_heads(hub.vector(prefix + "k_norm.weight", config.head_dim, 1.0), config.kv_heads);
  }
}

/// Of a gated MLP: its up and down matrices.
std::pair<OracleMatrix, OracleMatrix> make_mlp(const std::string& prefix, std::int64_t hidden,
                                               std::int64_t intermediate, Hub& hub) {
  return {stacked({hub.matrix(prefix + "gate_proj.weight", intermediate, hidden),
                   hub.matrix(prefix + "up_proj.weight", intermediate, hidden)}),
          hub.matrix(prefix + "down_proj.weight", hidden, intermediate)};
}

void make_experts(const DecoderConfig& config, const std::string& prefix, Hub& hub, OracleLayer& layer) {
  const model::ExpertsConfig& experts = config.experts;
  const std::int64_t hidden = config.hidden_size;
  const auto add = [&](const std::string& expert, std::int64_t intermediate) {
    auto [up, down] = make_mlp(expert, hidden, intermediate, hub);
    layer.expert_up.push_back(std::move(up));
    layer.expert_down.push_back(std::move(down));
  };
  layer.router = hub.matrix(prefix + "gate.weight", experts.count, hidden, 1.5);
  for (std::int32_t e = 0; e < experts.count; ++e) {
    add(prefix + "experts." + std::to_string(e) + ".", experts.intermediate_size);
  }
  if (experts.shared_intermediate_size > 0) {
    layer.router = stacked({layer.router, hub.matrix(prefix + "shared_expert_gate.weight", 1, hidden, 1.5)});
    add(prefix + "shared_expert.", experts.shared_intermediate_size);
  }
}

OracleWeights make_weights(const DecoderConfig& config, Hub& hub) {
  OracleWeights out;
  out.embedding = hub.matrix("model.embed_tokens.weight", config.vocab_size, config.hidden_size, 3.0);
  out.final_norm_weight = hub.vector("model.norm.weight", config.hidden_size, 1.0);
  if (!config.tied_head) out.head = hub.matrix("lm_head.weight", config.vocab_size, config.hidden_size);
  for (std::int32_t index = 0; index < config.layers; ++index) {
    const std::string prefix = "model.layers." + std::to_string(index) + ".";
    OracleLayer& layer = out.layers.emplace_back();
    layer.norm1_weight = hub.vector(prefix + "input_layernorm.weight", config.hidden_size, 1.0);
    layer.norm2_weight = hub.vector(prefix + "post_attention_layernorm.weight", config.hidden_size, 1.0);
    make_attention(config, prefix + "self_attn.", hub, layer);
    if (config.experts.in_layer(index)) {
      make_experts(config, prefix + "mlp.", hub, layer);
    } else {
      std::tie(layer.up, layer.down) =
          make_mlp(prefix + "mlp.", config.hidden_size, config.intermediate_size, hub);
    }
  }
  return out;
}

/// A model: what its config.json says besides the common part, and what that means.
struct Qwen {
  std::string name;
  std::string config;
  std::function<void(DecoderConfig&)> meaning;
};

void PrintTo(const Qwen& qwen, std::ostream* out) { *out << qwen.name; }

constexpr const char* kCommonConfig = R"({"vocab_size": 101, "hidden_size": 40, "num_hidden_layers": 3,
  "num_attention_heads": 4, "intermediate_size": 52, "hidden_act": "silu",
  "max_position_embeddings": 128, "rms_norm_eps": 1e-6, "rope_theta": 5000.0, "torch_dtype": "float32",
  "use_sliding_window": false, "sliding_window": 16, "max_window_layers": 1, "rope_scaling": null, )";

DecoderConfig common_meaning() {
  DecoderConfig out;
  out.vocab_size = 101;
  out.hidden_size = 40;
  out.layers = 3;
  out.heads = 4;
  out.kv_heads = 2;
  out.head_dim = 10;
  out.intermediate_size = 52;
  out.norm = ops::NormKind::kRms;
  out.norm_epsilon = 1e-6f;
  out.norm_bias = false;
  out.activation = ops::Activation::kSilu;
  out.gated_mlp = true;
  out.rotary.theta = 5000.0;
  return out;
}

const std::vector<Qwen>& models() {
  static const std::vector<Qwen> all = {
      {"qwen3", R"("architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 12,
        "num_key_value_heads": 2, "attention_bias": false, "tie_word_embeddings": false})",
       [](DecoderConfig& config) {
         config.head_dim = 12;
         config.head_norms = true;
       }},
      {"qwen3_tied_with_biases", R"("architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3",
        "head_dim": 24, "num_key_value_heads": 1, "attention_bias": true, "tie_word_embeddings": true})",
       [](DecoderConfig& config) {
         config.head_dim = 24;
         config.kv_heads = 1;
         config.head_norms = config.tied_head = true;
         config.qkv_bias = config.attention_out_bias = true;
       }},
      {"qwen2_moe", R"("architectures": ["Qwen2MoeForCausalLM"], "model_type": "qwen2_moe",
        "num_key_value_heads": 2, "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 21,
        "shared_expert_intermediate_size": 33, "decoder_sparse_step": 1, "norm_topk_prob": false,
        "tie_word_embeddings": false})",
       [](DecoderConfig& config) {
         config.qkv_bias = true;
         config.experts = {.count = 6,
                           .per_token = 2,
                           .normalized = false,
                           .intermediate_size = 21,
                           .shared_intermediate_size = 33,
                           .dense_layers = {}};
       }},
      {"qwen2_moe_with_dense_layers", R"("architectures": ["Qwen2MoeForCausalLM"], "model_type": "qwen2_moe",
        "num_key_value_heads": 4, "num_experts": 5, "num_experts_per_tok": 4, "moe_intermediate_size": 32,
        "shared_expert_intermediate_size": 16, "decoder_sparse_step": 2, "mlp_only_layers": [2],
        "norm_topk_prob": true, "qkv_bias": false, "tie_word_embeddings": true})",
       [](DecoderConfig& config) {
         config.kv_heads = 4;
         config.tied_head = true;
         config.experts = {.count = 5,
                           .per_token = 4,
                           .normalized = true,
                           .intermediate_size = 32,
                           .shared_intermediate_size = 16,
                           .dense_layers = {0, 2}};
       }},
      {"qwen3_moe", R"("architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "head_dim": 16,
        "num_key_value_heads": 2, "attention_bias": false, "num_experts": 16, "num_experts_per_tok": 3, "moe_intermediate_size": 24,
        "decoder_sparse_step": 1, "mlp_only_layers": [], "norm_topk_prob": true,
        "tie_word_embeddings": true})",
       [](DecoderConfig& config) {
         config.head_dim = 16;
         config.head_norms = config.tied_head = true;
         config.experts = {
             .count = 16, .per_token = 3, .normalized = true, .intermediate_size = 24, .dense_layers = {}};
       }},
      {"qwen3_moe_with_a_dense_layer", R"("architectures": ["Qwen3MoeForCausalLM"],
        "model_type": "qwen3_moe", "num_key_value_heads": 2, "attention_bias": true, "num_experts": 4, "num_experts_per_tok": 1,
        "moe_intermediate_size": 60, "mlp_only_layers": [1], "norm_topk_prob": false,
        "tie_word_embeddings": false})",
       [](DecoderConfig& config) {
         config.head_norms = config.qkv_bias = config.attention_out_bias = true;
         config.experts = {
             .count = 4, .per_token = 1, .normalized = false, .intermediate_size = 60, .dense_layers = {1}};
       }},
  };
  return all;
}

/// The least lead of a chosen expert's score over one that is not: what float32 must not turn around.
double least_lead(const DecoderConfig& config, const OracleTrace& trace) {
  double least = 1.0;
  for (const LayerTrace& layer : trace.layers) {
    for (std::int64_t r = 0; r < layer.scores.rows; ++r) {
      std::vector<double> scores(layer.scores.row(r), layer.scores.row(r) + config.experts.count);
      std::sort(scores.begin(), scores.end(), std::greater<>());
      const auto taken = static_cast<std::size_t>(config.experts.per_token);
      least = std::min(least, scores[taken - 1] - scores[taken]);
    }
  }
  return least;
}

/// A few times what float32 arithmetic does to these logits, which are of the order of 1.
constexpr double kTolerance = 5e-5;

class QwenModels : public ::testing::TestWithParam<Qwen> {};

TEST_P(QwenModels, AgreeWithTheOracle) {
  DecoderConfig config = common_meaning();
  GetParam().meaning(config);
  config.rotary.dim = config.head_dim;
  config.attention_scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(config.head_dim)));
  Hub hub;
  const Oracle oracle(config, make_weights(config, hub));
  const TemporaryDirectory directory;
  hub.write(directory.path() / "model.safetensors");
  std::ofstream(directory.path() / "config.json") << kCommonConfig << GetParam().config;

  std::mt19937 random(11);
  std::uniform_int_distribution<std::int32_t> token(0, 100);
  std::vector<std::int32_t> tokens(50);
  for (std::int32_t& id : tokens) id = token(random);
  const auto count = static_cast<std::int64_t>(tokens.size());
  const OracleTrace exact = oracle.forward(tokens, count);
  ASSERT_GT(least_lead(config, exact), 1e-4) << "take other weights";

  for (const DeviceCase& device_case : all_devices()) {
    SCOPED_TRACE(device_case.name());
    const auto device = device_case.create();
    const auto loaded = model::load_model(
        directory.path(), *device, {.weights = {}, .compute = core::DType::kF32, .cache = core::DType::kF32});
    const Rows found = device_logits(*device, *loaded.decoder, tokens, count);
    ASSERT_EQ(found.values.size(), exact.logits.values.size());
    double worst = 0.0;
    for (std::size_t i = 0; i < found.values.size(); ++i) {
      const double error = std::abs(found.values[i] - exact.logits.values[i]);
      ASSERT_TRUE(error < kTolerance)
          << "logit " << i << ": " << found.values[i] << " for " << exact.logits.values[i];
      worst = std::max(worst, error);
    }
    RecordProperty("worst on " + device_case.name(), std::to_string(worst));
  }
}

INSTANTIATE_TEST_SUITE_P(Models, QwenModels, ::testing::ValuesIn(models()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace peregrine::testing
