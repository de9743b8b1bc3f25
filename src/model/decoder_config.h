// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
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
  kPostNorm,          ///< x = norm1(x + attention(x)); x = norm2(x + mlp(x)) (Vaswani et al. 2017). OPT-350m.
  /// x = norm1(x); x += attention(x); x = norm2(x); x += mlp(x). BLOOM with transformers'
  /// "apply_residual_connection_post_layernorm".
  kNormedResidual,
  kSandwich,  ///< x += norm2(attention(norm1(x))); x += norm4(mlp(norm3(x))) (Ding et al. 2021). Gemma 2.
};

enum class PositionKind : std::uint8_t {
  kRotary,
  kAlibi,
  kLearned,   ///< A row of a table, added to the embedding (Radford et al. 2019). GPT-2, OPT.
  kRelative,  ///< A bias for each head and bucket of distances, the same in all layers (Raffel et al. 2020).
              ///< T5.
};

enum class RotaryScaling : std::uint8_t {
  kNone,
  kLinear,    ///< Frequencies divided by `factor`.
  kDynamic,   ///< NTK-aware: the base grows with the prompt's length once it exceeds the trained length.
  kYarn,      ///< Peng et al. 2023.
  kLlama3,    ///< Llama 3.1's smoothed interpolation.
  kLongRope,  ///< Ding et al. 2024: a divisor of its own for each frequency, one set for prompts up to the
              ///< trained length and one for longer ones. Phi-3.
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
  double attention_factor = 0.0;       ///< yarn, longrope; 0 = derived from `factor`.
  std::vector<double> short_factors;   ///< longrope: [dim / 2].
  std::vector<double> long_factors;    ///< longrope: [dim / 2].
};

struct AlibiConfig {
  std::vector<float> slopes;  ///< [heads], already rounded as the family rounds them.
  float scale = 1.0f;         ///< Applied to slope * position.
  bool in_bfloat16 = false;   ///< See ops::AttentionArgs.
};

struct LearnedPositionsConfig {
  std::int64_t rows = 0;    ///< Of the table.
  std::int32_t offset = 0;  ///< The row of position 0.
};

/// Distances share buckets: the small ones have one each, larger ones up to `max_distance` logarithmically
/// more, all beyond the last one (Raffel et al. 2020, section 2.1).
struct RelativePositionsConfig {
  std::int32_t buckets = 32;
  std::int32_t max_distance = 128;
};

/// A mixture of experts in the place of the MLP (Shazeer et al. 2017, Jiang et al. 2024).
struct ExpertsConfig {
  std::int32_t count = 0;              ///< 0: the MLP is dense.
  std::int32_t per_token = 0;          ///< Experts chosen for each token.
  bool normalized = true;              ///< The chosen experts' weights are divided by their sum.
  std::int64_t intermediate_size = 0;  ///< Of an expert.
  /// Where positive, the intermediate size of a further expert that every token takes, weighed by the sigmoid
  /// of a gate of its own. Qwen2-MoE.
  std::int64_t shared_intermediate_size = 0;
  std::vector<std::int32_t> dense_layers;  ///< Layers that have an MLP (intermediate_size) all the same.

  bool has_shared() const { return shared_intermediate_size > 0; }
  /// Experts that a layer has, and those that a token takes, the shared one included.
  std::int32_t all() const { return count + (has_shared() ? 1 : 0); }
  std::int32_t of_token() const { return per_token + (has_shared() ? 1 : 0); }

  bool in_layer(std::int32_t layer) const {
    return count > 0 && std::find(dense_layers.begin(), dense_layers.end(), layer) == dense_layers.end();
  }
};

/// Which layers have the sliding window.
enum class WindowLayers : std::uint8_t {
  kAll,
  kEven,  ///< Layers 0, 2, ...; the others see everything. Gemma 2.
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
  /// The context to serve where nobody says; 0: max_positions. For models whose positions have no end.
  std::int64_t usual_positions = 0;

  ops::NormKind norm = ops::NormKind::kLayer;
  float norm_epsilon = 1e-5f;
  float norm_weight_offset = 0.0f;  ///< Added to every stored norm weight: Gemma stores weight - 1.
  bool embedding_norm = false;      ///< A norm between the embedding and the first layer. BLOOM.
  bool final_norm = true;           ///< A norm before the output layer.
  float final_norm_scale = 1.0f;    ///< The final norm's weight is multiplied with it (T5 with a tied head).
  ResidualOrder residual = ResidualOrder::kSequential;

  PositionKind positions = PositionKind::kRotary;
  RotaryConfig rotary;
  AlibiConfig alibi;
  LearnedPositionsConfig learned;
  RelativePositionsConfig relative;
  /// Every layer attends to an encoder's output between its own attention and the MLP. T5's decoder.
  bool cross_attention = false;
  float attention_scale = 1.0f;
  bool attention_scale_by_layer = false;  ///< Layer i divides its scores by i + 1 as well. Stanford's GPT-2s.
  float attention_soft_cap = 0.0f;        ///< See ops::AttentionArgs; 0: none.
  std::int32_t window = 0;                ///< Positions that attention sees; 0: all.
  WindowLayers window_layers = WindowLayers::kAll;
  float qkv_clip = 0.0f;  ///< See ops::RotateAndStoreArgs; 0: none.
  /// Every head of the queries and of the keys has a norm (epsilon as the others) without bias.
  bool head_norms = false;

  ops::Activation activation = ops::Activation::kGelu;
  bool gated_mlp = false;  ///< The up projection has 2 * intermediate_size rows: gate, then up.
  ExpertsConfig experts;   ///< Their MLPs are gated.

  bool norm_bias = true;
  bool qkv_bias = false;
  bool attention_out_bias = false;
  bool mlp_up_bias = false;
  bool mlp_down_bias = false;
  bool head_bias = false;
  bool tied_head = false;  ///< The output layer is the token embedding.
  float embedding_scale = 1.0f;
  float logit_soft_cap = 0.0f;  ///< See ops::LinearArgs; 0: none.
  /// Where positive, the width of the token embedding and of the output layer; linear layers without bias
  /// lead to the hidden size and back. OPT-350m.
  std::int64_t embedding_size = 0;

  /// Width of the token embedding and of the output layer.
  std::int64_t embedding_width() const { return embedding_size > 0 ? embedding_size : hidden_size; }
};

}  // namespace peregrine::model
