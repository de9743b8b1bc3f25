// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ops/arguments.h"

// The small set of choices in which decoder-only families differ. A family (model/families/) fills a
// DecoderConfig from config.json; the executor (model/decoder.h) runs any of them.

namespace peregrine::model {

/// How attention and MLP join the residual stream of a layer.
enum class ResidualOrder : std::uint8_t {
  kSequential,  ///< x += attention(norm1(x)); x += mlp(norm2(x)). Llama, GPT-NeoX without parallel residual,
                ///< Falcon-RW.
  kParallelOneNorm,   ///< n = norm1(x); x += attention(n) + mlp(n). Falcon-7B, Falcon-11B, GPT-J.
  kParallelTwoNorms,  ///< x += attention(norm1(x)) + mlp(norm2(x)). Falcon-40B, GPT-NeoX.
};

enum class PositionKind : std::uint8_t { kRotary, kAlibi };

enum class RotaryScaling : std::uint8_t {
  kNone,
  kLinear,   ///< Frequencies divided by `factor`.
  kDynamic,  ///< NTK-aware: the base grows with the prompt's length once it exceeds the trained length.
  kYarn,     ///< Peng et al. 2023.
  kLlama3,   ///< Llama 3.1's smoothed interpolation.
};

struct RotaryConfig {
  std::int32_t dim = 0;  ///< Rotated width of a head, even, <= head_dim.
  ops::RotaryStyle style = ops::RotaryStyle::kHalves;
  double theta = 10000.0;
  RotaryScaling scaling = RotaryScaling::kNone;
  double factor = 1.0;
  std::int32_t original_max_positions =
      0;                               ///< The length the model was trained for, where the scaling needs it.
  double low_frequency_factor = 1.0;   ///< llama3.
  double high_frequency_factor = 4.0;  ///< llama3.
  double beta_fast = 32.0;             ///< yarn.
  double beta_slow = 1.0;              ///< yarn.
  double attention_factor = 0.0;       ///< yarn; 0 = derived from `factor`.
};

struct AlibiConfig {
  std::vector<float> slopes;  ///< [heads], already rounded as the family rounds them.
  float scale = 1.0f;         ///< Applied to slope * position.
  bool in_bfloat16 = false;   ///< See ops::AttentionArgs.
};

struct DecoderConfig {
  std::string family;  ///< "falcon", "llama", ...: for messages.
  std::int64_t vocab_size = 0;
  std::int64_t hidden_size = 0;
  std::int32_t layers = 0;
  std::int32_t heads = 0;
  std::int32_t kv_heads = 0;
  std::int32_t head_dim = 0;
  std::int64_t intermediate_size = 0;
  std::int64_t max_positions = 0;  ///< Longest context the model is meant for.

  ops::NormKind norm = ops::NormKind::kLayer;
  float norm_epsilon = 1e-5f;
  ResidualOrder residual = ResidualOrder::kSequential;

  PositionKind positions = PositionKind::kRotary;
  RotaryConfig rotary;
  AlibiConfig alibi;
  float attention_scale = 1.0f;

  ops::Activation activation = ops::Activation::kGelu;
  bool gated_mlp = false;  ///< The up projection has 2 * intermediate_size rows: gate, then up.

  bool norm_bias = true;
  bool qkv_bias = false;
  bool attention_out_bias = false;
  bool mlp_up_bias = false;
  bool mlp_down_bias = false;
  bool head_bias = false;
  bool tied_head = false;  ///< The output layer is the token embedding.
  float embedding_scale = 1.0f;
};

}  // namespace peregrine::model
