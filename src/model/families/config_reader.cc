// SPDX-License-Identifier: Apache-2.0
#include "model/families/config_reader.h"

#include <algorithm>
#include <boost/json/value.hpp>
#include <cmath>
#include <string>
#include <vector>

#include "core/error.h"

namespace peregrine::model {
namespace {

using core::ErrorKind;
using core::fail;
using core::JsonView;

constexpr double kMaxTheta = 1e15;
constexpr double kMaxFactor = 65536.0;

double number_in(const JsonView& value, double low, double high) {
  const double number = value.as_number();
  if (number < low || number > high)
    value.fail_expected(fmt::format("a number from {:g} to {:g}", low, high));
  return number;
}

/// rope_scaling, or rope_parameters as newer files call it.
std::optional<JsonView> find_rope(const JsonView& config) {
  auto rope = config.find("rope_scaling");
  if (!rope) rope = config.find("rope_parameters");
  if (rope && !rope->is_object()) rope->fail_expected("an object or null");
  return rope;
}

RotaryScaling read_scaling_type(const JsonView& rope) {
  auto type = rope.find("rope_type");
  if (!type) type = rope.find("type");
  if (!type) {
    if (const auto factor = rope.find("factor")) {
      fail(ErrorKind::kInvalidArgument, "{} is given, but 'rope_type' is missing beside it", factor->where());
    }
    return RotaryScaling::kNone;
  }
  const std::string_view name = type->as_string();
  if (name == "default") return RotaryScaling::kNone;
  if (name == "linear") return RotaryScaling::kLinear;
  if (name == "dynamic") return RotaryScaling::kDynamic;
  if (name == "yarn") return RotaryScaling::kYarn;
  if (name == "llama3") return RotaryScaling::kLlama3;
  if (name == "longrope" || name == "su") return RotaryScaling::kLongRope;
  fail(ErrorKind::kUnsupported, "{} is {}; supported are default, linear, dynamic, yarn, llama3 and longrope",
       type->where(), core::quoted(name));
}

/// Keys that change what a supported type computes, in ways that are not supported.
void refuse_scaling_keys(const JsonView& rope) {
  for (const std::string_view key : {"mscale", "mscale_all_dim", "truncate", "short_factor", "long_factor",
                                     "extrapolation_factor", "attn_factor", "mrope_section"}) {
    if (const auto value = rope.find(key)) {
      fail(ErrorKind::kUnsupported,
           "{} is not supported with this type of rotary scaling; remove it only if "
           "the model was trained without it",
           value->where());
    }
  }
}

void read_yarn(const JsonView& rope, RotaryConfig& rotary) {
  rotary.beta_fast = read_number(rope, "beta_fast", 1e-3, 1e6, 32.0);
  rotary.beta_slow = read_number(rope, "beta_slow", 1e-3, 1e6, 1.0);
  if (rotary.beta_fast <= rotary.beta_slow) {
    fail(ErrorKind::kInvalidArgument, "{}: beta_fast ({}) must be greater than beta_slow ({})", rope.where(),
         rotary.beta_fast, rotary.beta_slow);
  }
  rotary.attention_factor = read_number(rope, "attention_factor", 1e-3, 1e3, 0.0);
}

void read_llama3(const JsonView& rope, RotaryConfig& rotary) {
  rotary.low_frequency_factor = read_number(rope, "low_freq_factor", 1e-3, 1e6);
  rotary.high_frequency_factor = read_number(rope, "high_freq_factor", 1e-3, 1e6);
  if (rotary.high_frequency_factor <= rotary.low_frequency_factor) {
    fail(ErrorKind::kInvalidArgument, "{}: high_freq_factor ({}) must be greater than low_freq_factor ({})",
         rope.where(), rotary.high_frequency_factor, rotary.low_frequency_factor);
  }
}

std::vector<double> read_divisors(const JsonView& rope, std::string_view key, std::int32_t dim) {
  const JsonView list = rope.at(key);
  std::vector<double> out;
  for (const JsonView& item : list.items()) out.push_back(number_in(item, 1e-3, kMaxFactor));
  if (static_cast<std::int64_t>(out.size()) != dim / 2) {
    fail(ErrorKind::kInvalidArgument, "{} must have {} numbers, half the rotated width of a head; found {}",
         list.where(), dim / 2, out.size());
  }
  return out;
}

/// The length before the extension stands beside rope_scaling in Phi-3's files, within it in newer ones.
void read_longrope(const JsonView& config, const JsonView& rope, DecoderConfig& out) {
  for (const std::string_view key : {"short_mscale", "long_mscale", "mscale"}) {
    if (const auto value = rope.find(key)) {
      fail(ErrorKind::kUnsupported, "{} is not supported; longrope derives its attention factor",
           value->where());
    }
  }
  RotaryConfig& rotary = out.rotary;
  rotary.short_factors = read_divisors(rope, "short_factor", rotary.dim);
  rotary.long_factors = read_divisors(rope, "long_factor", rotary.dim);
  const char* key = "original_max_position_embeddings";
  const std::int64_t outside = read_int(config, {key}, 2, kMaxPositions, out.max_positions);
  rotary.original_max_positions = static_cast<std::int32_t>(read_int(rope, {key}, 2, kMaxPositions, outside));
  const double ratio = static_cast<double>(out.max_positions) / rotary.original_max_positions;
  rotary.factor = read_number(rope, "factor", 1.0, kMaxFactor, std::max(ratio, 1.0));
  rotary.attention_factor = read_number(rope, "attention_factor", 1e-3, 1e3, 0.0);
}

void read_scaling(const JsonView& config, const JsonView& rope, DecoderConfig& out) {
  RotaryConfig& rotary = out.rotary;
  if (rotary.scaling == RotaryScaling::kLongRope) return read_longrope(config, rope, out);
  refuse_scaling_keys(rope);
  rotary.factor = read_number(rope, "factor", 1.0, kMaxFactor);
  rotary.original_max_positions = static_cast<std::int32_t>(out.max_positions);
  const auto extend = [&out, &rotary] {
    const double extended = std::floor(rotary.original_max_positions * rotary.factor);
    out.max_positions = std::clamp(static_cast<std::int64_t>(extended), out.max_positions, kMaxPositions);
  };
  switch (rotary.scaling) {
    case RotaryScaling::kNone:
    case RotaryScaling::kLongRope:  // see above
      break;
    case RotaryScaling::kLinear:
      extend();
      break;
    case RotaryScaling::kDynamic:
      // The exponent is dim / (dim - 2).
      if (rotary.dim <= 2) {
        fail(ErrorKind::kInvalidArgument, "{}: dynamic scaling needs a rotary width above 2, found {}",
             rope.where(), rotary.dim);
      }
      extend();
      break;
    case RotaryScaling::kYarn:
      rotary.original_max_positions = static_cast<std::int32_t>(
          read_int(rope, {"original_max_position_embeddings"}, 1, kMaxPositions, out.max_positions));
      read_yarn(rope, rotary);
      extend();
      break;
    case RotaryScaling::kLlama3:
      rotary.original_max_positions =
          static_cast<std::int32_t>(read_int(rope, {"original_max_position_embeddings"}, 1, kMaxPositions));
      read_llama3(rope, rotary);
      break;
  }
}

}  // namespace

std::optional<JsonView> find_any(const JsonView& config, Keys keys) {
  std::optional<JsonView> out;
  for (const std::string_view key : keys) {
    auto value = config.find(key);
    if (!value) continue;
    if (out && out->value() != value->value()) {
      fail(ErrorKind::kInvalidArgument, "{} and '{}' are two names of one thing, but differ", out->where(),
           key);
    }
    if (!out) out = std::move(value);
  }
  return out;
}

std::int64_t read_int(const JsonView& config, Keys keys, std::int64_t low, std::int64_t high) {
  const auto value = find_any(config, keys);
  if (!value) fail(ErrorKind::kInvalidArgument, "{}: '{}' is missing", config.where(), *keys.begin());
  return value->as_int(low, high);
}

std::int64_t read_int(const JsonView& config, Keys keys, std::int64_t low, std::int64_t high,
                      std::int64_t absent) {
  const auto value = find_any(config, keys);
  return value ? value->as_int(low, high) : absent;
}

bool read_bool(const JsonView& config, std::string_view key, bool absent) {
  const auto value = config.find(key);
  return value ? value->as_bool() : absent;
}

double read_number(const JsonView& config, std::string_view key, double low, double high) {
  const JsonView value = config.at(key);
  return number_in(value, low, high);
}

double read_number(const JsonView& config, std::string_view key, double low, double high, double absent) {
  const auto value = config.find(key);
  return value ? number_in(*value, low, high) : absent;
}

float read_epsilon(const JsonView& config, std::string_view key, double absent) {
  return static_cast<float>(read_number(config, key, 1e-30, 1.0, absent));
}

ops::Activation read_activation(const JsonView& config, std::string_view key, std::string_view absent) {
  const auto value = config.find(key);
  const std::string_view name = value ? value->as_string() : absent;
  if (name == "gelu" || name == "gelu_python") return ops::Activation::kGelu;
  if (name == "gelu_new" || name == "gelu_fast" || name == "gelu_pytorch_tanh" || name == "gelu_accurate") {
    return ops::Activation::kGeluTanh;
  }
  if (name == "silu" || name == "swish") return ops::Activation::kSilu;
  if (name == "relu") return ops::Activation::kRelu;
  fail(ErrorKind::kUnsupported,
       "{}: '{}' is {}; supported are gelu, gelu_new, gelu_fast, gelu_pytorch_tanh, silu, swish and relu",
       config.where(), key, core::quoted(name));
}

void read_sizes(const JsonView& config, std::int64_t absent_max_positions, DecoderConfig& out) {
  refuse_quantized(config);
  out.vocab_size = read_int(config, {"vocab_size"}, 1, kMaxVocabulary);
  out.hidden_size = read_int(config, {"hidden_size", "n_embed", "n_embd", "d_model", "dim"}, 1, kMaxHidden);
  out.layers = static_cast<std::int32_t>(
      read_int(config, {"num_hidden_layers", "n_layer", "n_layers"}, 1, kMaxLayers));
  out.heads =
      static_cast<std::int32_t>(read_int(config, {"num_attention_heads", "n_head", "n_heads"}, 1, kMaxHeads));
  out.kv_heads = out.heads;
  out.max_positions = read_int(config, {"max_position_embeddings", "n_positions", "max_seq_len"}, 1,
                               kMaxPositions, absent_max_positions);
  const std::int64_t head_dim = read_int(config, {"head_dim"}, 1, kMaxHeadDim, out.head_dim);
  if (head_dim == 0) {
    if (out.hidden_size % out.heads != 0) {
      fail(ErrorKind::kInvalidArgument, "{}: hidden_size ({}) must be a multiple of num_attention_heads ({})",
           config.where(), out.hidden_size, out.heads);
    }
    if (out.hidden_size / out.heads > kMaxHeadDim) {
      fail(ErrorKind::kInvalidArgument,
           "{}: hidden_size / num_attention_heads must be at most {}, found {} / {}", config.where(),
           kMaxHeadDim, out.hidden_size, out.heads);
    }
  }
  out.head_dim = static_cast<std::int32_t>(head_dim != 0 ? head_dim : out.hidden_size / out.heads);
  out.attention_scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(out.head_dim)));
}

void read_rotary(const JsonView& config, std::string_view theta_key, DecoderConfig& out) {
  if (out.rotary.dim < 2 || out.rotary.dim % 2 != 0 || out.rotary.dim > out.head_dim) {
    fail(ErrorKind::kInvalidArgument,
         "{}: the rotated width of a head must be even, at least 2 and at most the head size, found {} of {}",
         config.where(), out.rotary.dim, out.head_dim);
  }
  out.positions = PositionKind::kRotary;
  out.rotary.theta = read_number(config, theta_key, 1.000001, kMaxTheta, out.rotary.theta);
  const auto rope = find_rope(config);
  if (!rope) return;
  out.rotary.theta = read_number(*rope, "rope_theta", 1.000001, kMaxTheta, out.rotary.theta);
  out.rotary.scaling = read_scaling_type(*rope);
  if (out.rotary.scaling != RotaryScaling::kNone) read_scaling(config, *rope, out);
}

void read_kv_heads(const JsonView& config, DecoderConfig& out) {
  out.kv_heads =
      static_cast<std::int32_t>(read_int(config, {"num_key_value_heads"}, 1, out.heads, out.heads));
  if (out.heads % out.kv_heads != 0) {
    fail(ErrorKind::kInvalidArgument, "{}: num_key_value_heads ({}) must divide num_attention_heads ({})",
         config.where(), out.kv_heads, out.heads);
  }
}

std::int32_t read_window(const JsonView& config, std::int32_t absent) {
  constexpr std::string_view kKey = "sliding_window";
  if (!config.value().as_object().contains(kKey)) return absent;
  return static_cast<std::int32_t>(read_int(config, {kKey}, 1, kMaxPositions, 0));
}

void refuse_quantized(const JsonView& config) {
  if (const auto quantized = config.find("quantization_config")) {
    fail(ErrorKind::kUnsupported,
         "{}: weights that are stored quantized are not supported; use the original model",
         quantized->where());
  }
}

void refuse_flag(const JsonView& config, std::string_view key) {
  if (read_bool(config, key, false)) {
    fail(ErrorKind::kUnsupported, "{}: '{}' is true; only false is supported", config.where(), key);
  }
}

}  // namespace peregrine::model
