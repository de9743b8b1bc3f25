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

constexpr std::array<Shape, 6> kShapes = {{
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
}};

/// A short name and the names it has in config.json; the one that the shape uses is overridden.
struct Override {
  std::string_view name;
  std::array<std::string_view, 2> keys;
};

constexpr std::array<Override, 7> kOverrides = {{
    {"layers", {"num_hidden_layers", ""}},
    {"hidden", {"hidden_size", ""}},
    {"heads", {"num_attention_heads", ""}},
    {"kv_heads", {"num_key_value_heads", "num_kv_heads"}},
    {"intermediate", {"intermediate_size", "ffn_hidden_size"}},
    {"vocab", {"vocab_size", ""}},
    {"positions", {"max_position_embeddings", ""}},
}};

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
    for (const auto key : entry.keys) {
      if (!key.empty() && config.contains(key)) {
        config[key] = value;
        // A stored head size would contradict other heads; it follows from hidden and heads.
        if (name == "hidden" || name == "heads") config.erase("head_dim");
        return;
      }
    }
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
