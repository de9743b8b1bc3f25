// SPDX-License-Identifier: Apache-2.0
#include "model/random_models.h"

#include <array>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <charconv>
#include <cstdint>

#include "core/error.h"
#include "core/json.h"

namespace peregrine::model {
namespace {

using core::ErrorKind;
using core::fail;

struct Shape {
  std::string_view name;
  std::string_view config;
};

constexpr auto kShapes = std::to_array<Shape>({
    {"bert-base", R"({"architectures": ["BertModel"], "model_type": "bert", "torch_dtype": "float32",
      "vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
      "intermediate_size": 3072, "max_position_embeddings": 512, "type_vocab_size": 2, "layer_norm_eps": 1e-12,
      "hidden_act": "gelu"})"},
    {"falcon-7b",
     R"({"architectures": ["FalconForCausalLM"], "model_type": "falcon", "torch_dtype": "bfloat16",
      "vocab_size": 65024, "hidden_size": 4544, "num_hidden_layers": 32, "num_attention_heads": 71,
      "ffn_hidden_size": 18176, "max_position_embeddings": 2048, "multi_query": true, "parallel_attn": true,
      "new_decoder_architecture": false, "bias": false, "alibi": false, "layer_norm_epsilon": 1e-5,
      "tie_word_embeddings": true, "bos_token_id": 11, "eos_token_id": 11})"},
    {"falcon-40b",
     R"({"architectures": ["FalconForCausalLM"], "model_type": "falcon", "torch_dtype": "bfloat16",
      "vocab_size": 65024, "hidden_size": 8192, "num_hidden_layers": 60, "num_attention_heads": 128,
      "num_kv_heads": 8, "ffn_hidden_size": 32768, "max_position_embeddings": 2048, "parallel_attn": true,
      "new_decoder_architecture": true, "bias": false, "alibi": false, "layer_norm_epsilon": 1e-5,
      "tie_word_embeddings": true, "bos_token_id": 11, "eos_token_id": 11})"},
    {"llama-3.2-1b",
     R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16",
      "vocab_size": 128256, "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32,
      "num_key_value_heads": 8, "head_dim": 64, "intermediate_size": 8192, "max_position_embeddings": 131072,
      "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", "factor": 32.0,
      "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
      "hidden_act": "silu", "tie_word_embeddings": true, "bos_token_id": 128000, "eos_token_id": 128001})"},
    {"llama-3.1-8b",
     R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16",
      "vocab_size": 128256, "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
      "num_key_value_heads": 8, "intermediate_size": 14336, "max_position_embeddings": 131072,
      "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", "factor": 8.0,
      "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
      "hidden_act": "silu", "tie_word_embeddings": false, "bos_token_id": 128000, "eos_token_id": 128001})"},
    {"gpt-neox-20b", R"({"architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox",
      "torch_dtype": "float16", "vocab_size": 50432, "hidden_size": 6144, "num_hidden_layers": 44,
      "num_attention_heads": 64, "intermediate_size": 24576, "max_position_embeddings": 2048, "rotary_pct": 0.25,
      "rotary_emb_base": 10000, "layer_norm_eps": 1e-5, "hidden_act": "gelu_fast",
      "use_parallel_residual": true, "tie_word_embeddings": false, "bos_token_id": 0, "eos_token_id": 0})"},
    {"pythia-1b", R"({"architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox",
      "torch_dtype": "float16", "vocab_size": 50304, "hidden_size": 2048, "num_hidden_layers": 16,
      "num_attention_heads": 8, "intermediate_size": 8192, "max_position_embeddings": 2048, "rotary_pct": 0.25,
      "rotary_emb_base": 10000, "layer_norm_eps": 1e-5, "hidden_act": "gelu",
      "use_parallel_residual": true, "tie_word_embeddings": false, "bos_token_id": 0, "eos_token_id": 0})"},
    {"mixtral-8x7b", R"({"architectures": ["MixtralForCausalLM"], "model_type": "mixtral",
      "torch_dtype": "bfloat16", "vocab_size": 32000, "hidden_size": 4096, "num_hidden_layers": 32,
      "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336,
      "num_local_experts": 8, "num_experts_per_tok": 2, "max_position_embeddings": 32768,
      "rms_norm_eps": 1e-5, "rope_theta": 1000000.0, "sliding_window": null, "hidden_act": "silu",
      "tie_word_embeddings": false, "bos_token_id": 1, "eos_token_id": 2})"},
    {"qwen3-0.6b", R"({"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3",
      "torch_dtype": "bfloat16", "vocab_size": 151936, "hidden_size": 1024, "num_hidden_layers": 28,
      "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 3072,
      "max_position_embeddings": 40960, "rms_norm_eps": 1e-6, "rope_theta": 1000000, "attention_bias": false,
      "use_sliding_window": false, "hidden_act": "silu", "tie_word_embeddings": true,
      "bos_token_id": 151643, "eos_token_id": 151645})"},
    {"qwen1.5-moe-a2.7b", R"({"architectures": ["Qwen2MoeForCausalLM"], "model_type": "qwen2_moe",
      "torch_dtype": "bfloat16", "vocab_size": 151936, "hidden_size": 2048, "num_hidden_layers": 24,
      "num_attention_heads": 16, "num_key_value_heads": 16, "intermediate_size": 5632,
      "moe_intermediate_size": 1408, "shared_expert_intermediate_size": 5632, "num_experts": 60,
      "num_experts_per_tok": 4, "norm_topk_prob": false, "decoder_sparse_step": 1,
      "max_position_embeddings": 8192, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0,
      "use_sliding_window": false, "hidden_act": "silu", "tie_word_embeddings": false,
      "bos_token_id": 151643, "eos_token_id": 151643})"},
    {"t5-base", R"({"architectures": ["T5ForConditionalGeneration"], "model_type": "t5",
      "torch_dtype": "float32", "vocab_size": 32128, "d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 12,
      "num_decoder_layers": 12, "num_heads": 12, "n_positions": 512, "feed_forward_proj": "relu",
      "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128, "layer_norm_epsilon": 1e-6,
      "is_encoder_decoder": true, "tie_word_embeddings": true, "decoder_start_token_id": 0, "pad_token_id": 0,
      "eos_token_id": 1})"},
    {"flan-t5-small", R"({"architectures": ["T5ForConditionalGeneration"], "model_type": "t5",
      "torch_dtype": "float32", "vocab_size": 32128, "d_model": 512, "d_kv": 64, "d_ff": 1024, "num_layers": 8,
      "num_decoder_layers": 8, "num_heads": 6, "n_positions": 512, "feed_forward_proj": "gated-gelu",
      "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128, "layer_norm_epsilon": 1e-6,
      "is_encoder_decoder": true, "tie_word_embeddings": false, "decoder_start_token_id": 0, "pad_token_id": 0,
      "eos_token_id": 1})"},
    {"flan-t5-large", R"({"architectures": ["T5ForConditionalGeneration"], "model_type": "t5",
      "torch_dtype": "float32", "vocab_size": 32128, "d_model": 1024, "d_kv": 64, "d_ff": 2816, "num_layers": 24,
      "num_decoder_layers": 24, "num_heads": 16, "n_positions": 512, "feed_forward_proj": "gated-gelu",
      "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128, "layer_norm_epsilon": 1e-6,
      "is_encoder_decoder": true, "tie_word_embeddings": false, "decoder_start_token_id": 0, "pad_token_id": 0,
      "eos_token_id": 1})"},
});

/// A short name and the names it has in config.json; those that the shape uses are overridden (T5 counts the
/// layers of its encoder and of its decoder).
struct Override {
  std::string_view name;
  std::array<std::string_view, 3> keys;
};

constexpr auto kOverrides = std::to_array<Override>({
    {"layers", {"num_hidden_layers", "num_layers", "num_decoder_layers"}},
    {"hidden", {"hidden_size", "d_model"}},
    {"heads", {"num_attention_heads", "num_heads"}},
    {"kv_heads", {"num_key_value_heads", "num_kv_heads"}},
    {"intermediate", {"intermediate_size", "ffn_hidden_size", "d_ff"}},
    {"experts", {"num_local_experts", "num_experts"}},
    {"experts_per_token", {"num_experts_per_tok"}},
    {"expert_intermediate", {"moe_intermediate_size"}},
    {"shared_intermediate", {"shared_expert_intermediate_size"}},
    {"vocab", {"vocab_size"}},
    {"positions", {"max_position_embeddings", "n_positions"}},
});

template <typename Table>
std::string names_of(const Table& table) {
  std::string out;
  for (const auto& entry : table) out += (out.empty() ? "" : ", ") + std::string(entry.name);
  return out;
}

const Shape& find_shape(std::string_view name) {
  for (const auto& shape : kShapes) {
    if (shape.name == name) return shape;
  }
  fail(ErrorKind::kInvalidArgument, "random model {} is unknown; known are {}", core::quoted(name),
       names_of(kShapes));
}

std::int64_t parse_count(std::string_view key, std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 1) {
    fail(ErrorKind::kInvalidArgument, "random model: {} must be a positive integer, found {}", key,
         core::quoted(text));
  }
  return value;
}

void apply_override(std::string_view text, std::string_view shape, boost::json::object& config) {
  const std::size_t equals = text.find('=');
  const std::string_view name = text.substr(0, equals);
  for (const auto& entry : kOverrides) {
    if (entry.name != name || equals == std::string_view::npos) continue;
    const std::int64_t value = parse_count(name, text.substr(equals + 1));
    bool known = false;
    for (const auto key : entry.keys) {
      if (key.empty() || !config.contains(key)) continue;
      config[key] = value;
      known = true;
    }
    // A stored head size would contradict other heads; without it the family knows it.
    if (name == "hidden" || name == "heads") config.erase("head_dim");
    if (known) return;
    fail(ErrorKind::kInvalidArgument, "random model {} has no {} to override", shape, name);
  }
  fail(ErrorKind::kInvalidArgument, "random model: {} is not an override; write key=number with one of {}",
       core::quoted(text), names_of(kOverrides));
}

}  // namespace

std::string random_model_config(std::string_view spec) {
  const std::size_t colon = spec.find(':');
  const Shape& shape = find_shape(spec.substr(0, colon));
  boost::json::value config = core::parse_json(shape.config, shape.name);
  std::size_t begin = colon;  // of the separator before an override
  while (begin != std::string_view::npos) {
    const std::size_t end = spec.find(',', begin + 1);
    apply_override(spec.substr(begin + 1, end == std::string_view::npos ? end : end - begin - 1), shape.name,
                   config.get_object());
    begin = end;
  }
  return boost::json::serialize(config);
}

}  // namespace peregrine::model
