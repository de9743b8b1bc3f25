// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "core/dtype.h"
#include "model/decoder_config.h"
#include "model/family.h"
#include "weights/tensor_source.h"

// A decoder-only forward pass in float64, written from the definitions of the operations (ops/arguments.h)
// and of the families' mathematics, and sharing nothing with the devices. It is what the devices are judged
// by: its own error (about 1e-13) is far below anything that they round.

namespace peregrine::testing {

/// A row-major matrix of float64.
struct Rows {
  Rows() = default;
  Rows(std::int64_t rows, std::int64_t cols)
      : rows(rows), cols(cols), values(static_cast<std::size_t>(rows * cols), 0.0) {}

  double* row(std::int64_t r) { return values.data() + r * cols; }
  const double* row(std::int64_t r) const { return values.data() + r * cols; }

  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::vector<double> values;
};

/// A weight matrix [rows, cols]; float32 holds every stored type exactly.
struct OracleMatrix {
  const float* row(std::int64_t r) const { return values.data() + r * cols; }

  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::vector<float> values;
};

/// Weights of one layer, as the slots of model/slots.h lay them out. A vector that the model lacks is empty.
struct OracleLayer {
  std::vector<double> norm1_weight, norm1_bias;  ///< Before attention.
  std::vector<double> norm2_weight, norm2_bias;  ///< Before the MLP, where it has a norm of its own.
  std::vector<double> query_norm, key_norm;      ///< Of the heads, one after the other.
  OracleMatrix qkv, attention_out, up, down;
  std::vector<double> qkv_bias, attention_out_bias, up_bias, down_bias;
  OracleMatrix router;                               ///< Only in a layer of experts.
  std::vector<OracleMatrix> expert_up, expert_down;  ///< By expert, the shared one last.
};

/// Weights of a whole model.
struct OracleWeights {
  OracleMatrix embedding, head;  ///< No head where it is tied.
  std::vector<double> final_norm_weight, final_norm_bias, head_bias;
  std::vector<OracleLayer> layers;
};

/// Reads the weights named by the family's slots. `matrices` is the type that matrices are stored in: their
/// values are rounded to it, or to multiples of their row's scale where it is int8 (but for routers); norms
/// and biases are kept as they are in `source`.
OracleWeights read_oracle_weights(const model::DecoderConfig& config, const model::Family& family,
                                  weights::TensorSource& source, core::DType matrices);

/// The values of a forward pass that are rounded when arithmetic is narrower than float32, in the order in
/// which they arise. The residual stream and the logits are not among them: they are float32 always.
enum class Place : std::uint8_t {
  kNorm1,        ///< [T, hidden] output of the norm before attention.
  kQkv,          ///< [T, (heads + 2 kv_heads) * head_dim] output of the fused projection.
  kQuery,        ///< [T, heads * head_dim] after rotation.
  kKey,          ///< [T, kv_heads * head_dim] after rotation, as stored.
  kValue,        ///< [T, kv_heads * head_dim] as stored.
  kProbability,  ///< [T, heads * T] exp(score - largest score), before the division by their sum.
  kAttention,    ///< [T, heads * head_dim] output of attention.
  kNorm2,        ///< [T, hidden]
  kUp,           ///< [T, 2 * intermediate] of a gated MLP: gate and up before the activation.
  kHidden,       ///< [T, intermediate] input of the down projection.
  kFinalNorm,    ///< [T, hidden] input of the output layer; its layer is that of the number of layers.
};
inline constexpr int kPlaces = 11;

/// May replace the values at a place, as a narrower arithmetic would.
using RoundingHook = std::function<void(std::int32_t layer, Place place, Rows& values)>;

/// Every value of one layer's pass over T tokens.
struct LayerTrace {
  Rows in;     ///< [T, hidden] residual stream before the layer.
  Rows norm1;  ///< See Place for the shapes of these.
  Rows qkv;
  Rows queries;
  Rows keys;
  Rows values;
  Rows probabilities;  ///< [T, heads * T], rows of each head sum to 1.
  Rows attention;
  Rows mid;    ///< [T, hidden] residual stream between attention and MLP (kSequential only).
  Rows norm2;  ///< Empty for kParallelOneNorm.
  Rows up;     ///< [T, intermediate or 2 * intermediate]; empty in a layer of experts, as hidden.
  Rows hidden;
  Rows scores;  ///< [T, experts, and the shared one's gate]: of the router; only in a layer of experts.
};

struct OracleTrace {
  std::vector<std::int32_t> tokens;
  Rows cosines, sines;  ///< [T, rotary.dim / 2], times the attention factor; empty without rotary positions.
  std::vector<LayerTrace> layers;
  Rows out;  ///< [T, hidden] residual stream after the last layer.
  Rows final_norm;
  Rows logits;  ///< [T, vocab]
};

/// The values at a place of a trace. kProbability is divided by its sum there.
const Rows& values_at(const OracleTrace& trace, std::int32_t layer, Place place);

/// A model in float64. Immutable after construction.
class Oracle {
 public:
  /// Throws std::invalid_argument where the config has a choice that the oracle does not know.
  Oracle(const model::DecoderConfig& config, OracleWeights weights);

  /// The pass over one sequence from position 0. `prompt_tokens` chooses the rotary frequencies where they
  /// depend on the length of the prompt. `hook`, where given, sees and may change the values at each place;
  /// not for models with experts, as rounding may choose others.
  OracleTrace forward(std::span<const std::int32_t> tokens, std::int64_t prompt_tokens,
                      const RoundingHook& hook = {}) const;

  const model::DecoderConfig& config() const { return config_; }
  const OracleLayer& layer(std::int32_t index) const {
    return weights_.layers[static_cast<std::size_t>(index)];
  }
  const std::vector<double>& final_norm_weight() const { return weights_.final_norm_weight; }
  const std::vector<double>& final_norm_bias() const { return weights_.final_norm_bias; }
  /// [vocab, hidden], which is the embedding where the head is tied.
  const OracleMatrix& head() const { return config_.tied_head ? weights_.embedding : weights_.head; }

 private:
  model::DecoderConfig config_;
  OracleWeights weights_;
};

/// Inverse frequencies [rotary.dim / 2] for a prompt of this length, in float64.
std::vector<double> oracle_frequencies(const model::RotaryConfig& rotary, std::int64_t prompt_tokens);
/// What cosines and sines are multiplied by (yarn), 1 otherwise.
double oracle_rotary_factor(const model::RotaryConfig& rotary);

/// The activation and its derivative at x.
double oracle_activation(ops::Activation activation, double x);
double oracle_activation_slope(ops::Activation activation, double x);

/// Rounds to bfloat16, to nearest, ties to even, straight from float64.
double round_to_bfloat16(double value);

}  // namespace peregrine::testing
