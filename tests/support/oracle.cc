// SPDX-License-Identifier: Apache-2.0
#include "support/oracle.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <stdexcept>

namespace peregrine::testing {
namespace {

using model::PositionKind;
using model::ResidualOrder;
using model::RotaryConfig;
using model::RotaryScaling;

/// Four partial sums, because a single one would wait for each addition.
double dot(const float* a, const double* b, std::int64_t size) {
  double sums[4] = {};
  std::int64_t i = 0;
  for (; i + 4 <= size; i += 4) {
    for (int lane = 0; lane < 4; ++lane) sums[lane] += static_cast<double>(a[i + lane]) * b[i + lane];
  }
  for (; i < size; ++i) sums[0] += static_cast<double>(a[i]) * b[i];
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

Rows linear(const Rows& in, const OracleMatrix& weight, const std::vector<double>& bias) {
  if (weight.cols != in.cols) throw std::logic_error("oracle: a weight does not fit its input");
  Rows out(in.rows, weight.rows);
  for (std::int64_t n = 0; n < weight.rows; ++n) {
    for (std::int64_t r = 0; r < in.rows; ++r) {
      out.row(r)[n] =
          dot(weight.row(n), in.row(r), in.cols) + (bias.empty() ? 0.0 : bias[static_cast<std::size_t>(n)]);
    }
  }
  return out;
}

/// x[0, count), less its mean (layer norms only) and divided by its deviation.
void standardize(const model::DecoderConfig& config, double* x, std::int64_t count) {
  const auto width = static_cast<double>(count);
  double mean = 0.0;
  if (config.norm == ops::NormKind::kLayer) {
    for (std::int64_t i = 0; i < count; ++i) mean += x[i] / width;
  }
  double variance = 0.0;
  for (std::int64_t i = 0; i < count; ++i) variance += (x[i] - mean) * (x[i] - mean) / width;
  const double scale = 1.0 / std::sqrt(variance + static_cast<double>(config.norm_epsilon));
  for (std::int64_t i = 0; i < count; ++i) x[i] = (x[i] - mean) * scale;
}

Rows normalize(const model::DecoderConfig& config, const Rows& in, const std::vector<double>& weight,
               const std::vector<double>& bias) {
  Rows out = in;
  for (std::int64_t r = 0; r < in.rows; ++r) {
    standardize(config, out.row(r), in.cols);
    for (std::int64_t i = 0; i < in.cols; ++i) {
      const auto at = static_cast<std::size_t>(i);
      out.row(r)[i] = out.row(r)[i] * weight[at] + (bias.empty() ? 0.0 : bias[at]);
    }
  }
  return out;
}

Rows columns(const Rows& in, std::int64_t first, std::int64_t count) {
  Rows out(in.rows, count);
  for (std::int64_t r = 0; r < in.rows; ++r) std::copy_n(in.row(r) + first, count, out.row(r));
  return out;
}

/// Each head of head_dim columns normalized on its own.
void normalize_heads(const model::DecoderConfig& config, const std::vector<double>& weight, Rows& heads) {
  for (std::int64_t r = 0; r < heads.rows; ++r) {
    double* x = heads.row(r);
    for (std::int64_t i = 0; i < heads.cols; i += config.head_dim)
      standardize(config, x + i, config.head_dim);
    for (std::int64_t i = 0; i < heads.cols; ++i) x[i] *= weight[static_cast<std::size_t>(i)];
  }
}

/// Each head of head_dim columns rotated by its row's angles.
void rotate(const model::DecoderConfig& config, const OracleTrace& trace, Rows& heads) {
  const std::int64_t half = trace.cosines.cols;
  const bool halves = config.rotary.style == ops::RotaryStyle::kHalves;
  for (std::int64_t r = 0; r < heads.rows; ++r) {
    for (std::int64_t head = 0; head < heads.cols / config.head_dim; ++head) {
      double* x = heads.row(r) + head * config.head_dim;
      for (std::int64_t i = 0; i < half; ++i) {
        double& a = x[halves ? i : 2 * i];
        double& b = x[halves ? i + half : 2 * i + 1];
        const double c = trace.cosines.row(r)[i];
        const double s = trace.sines.row(r)[i];
        const double old = a;
        a = old * c - b * s;
        b = b * c + old * s;
      }
    }
  }
}

/// What is added to the score of the key at `position` for query head `head`.
double position_bias(const model::DecoderConfig& config, std::int64_t head, std::int64_t position) {
  if (config.positions != PositionKind::kAlibi) return 0.0;
  const double slope = config.alibi.slopes[static_cast<std::size_t>(head)];
  const auto where = static_cast<double>(position);
  // transformers' build_alibi_tensor multiplies bfloat16 tensors: both factors and the product are rounded.
  const double product = config.alibi.in_bfloat16
                             ? round_to_bfloat16(round_to_bfloat16(slope) * round_to_bfloat16(where))
                             : slope * where;
  return static_cast<double>(config.alibi.scale) * product;
}

/// exp(score - largest score of the row and head) for keys up to the row's position; 0 behind it.
Rows exponentials(const model::DecoderConfig& config, const Rows& queries, const Rows& keys) {
  const std::int64_t tokens = queries.rows;
  const std::int64_t group = config.heads / config.kv_heads;
  Rows out(tokens, config.heads * tokens);
  for (std::int64_t i = 0; i < tokens; ++i) {
    for (std::int64_t head = 0; head < config.heads; ++head) {
      double* scores = out.row(i) + head * tokens;
      const double* q = queries.row(i) + head * config.head_dim;
      for (std::int64_t j = 0; j <= i; ++j) {
        const double* k = keys.row(j) + head / group * config.head_dim;
        double sum = 0.0;
        for (std::int64_t c = 0; c < config.head_dim; ++c) sum += q[c] * k[c];
        scores[j] = static_cast<double>(config.attention_scale) * sum + position_bias(config, head, j);
      }
      const double largest = *std::max_element(scores, scores + i + 1);
      for (std::int64_t j = 0; j <= i; ++j) scores[j] = std::exp(scores[j] - largest);
    }
  }
  return out;
}

}  // namespace

const Rows& values_at(const OracleTrace& trace, std::int32_t layer, Place place) {
  if (place == Place::kFinalNorm) return trace.final_norm;
  const LayerTrace& at = trace.layers.at(static_cast<std::size_t>(layer));
  switch (place) {
    case Place::kNorm1:
      return at.norm1;
    case Place::kQkv:
      return at.qkv;
    case Place::kQuery:
      return at.queries;
    case Place::kKey:
      return at.keys;
    case Place::kValue:
      return at.values;
    case Place::kProbability:
      return at.probabilities;
    case Place::kAttention:
      return at.attention;
    case Place::kNorm2:
      return at.norm2;
    case Place::kUp:
      return at.up;
    case Place::kHidden:
      return at.hidden;
    case Place::kFinalNorm:
      break;
  }
  throw std::logic_error("oracle: unknown place");
}

std::vector<double> oracle_frequencies(const RotaryConfig& rotary, std::int64_t prompt_tokens) {
  const double dim = rotary.dim;
  const double trained = rotary.original_max_positions;
  double theta = rotary.theta;
  if (rotary.scaling == RotaryScaling::kDynamic && static_cast<double>(prompt_tokens) > trained) {
    // "NTK-aware": the base that stretches the lowest frequency by the excess of length.
    const double stretch =
        rotary.factor * static_cast<double>(prompt_tokens) / trained - (rotary.factor - 1.0);
    theta *= std::pow(stretch, dim / (dim - 2.0));
  }
  // yarn (Peng et al. 2023, section 3.2): which frequency turns `turns` times within the trained length.
  const auto turning = [&](double turns) {
    return dim * std::log(trained / (turns * 2.0 * std::numbers::pi)) / (2.0 * std::log(theta));
  };
  std::vector<double> frequencies;
  for (int i = 0; i < rotary.dim / 2; ++i) {
    const double plain = std::pow(theta, -2.0 * i / dim);
    double value = plain;
    if (rotary.scaling == RotaryScaling::kLinear) value = plain / rotary.factor;
    if (rotary.scaling == RotaryScaling::kYarn) {
      const double low = std::max(std::floor(turning(rotary.beta_fast)), 0.0);
      double high = std::min(std::ceil(turning(rotary.beta_slow)), dim - 1.0);
      if (low == high) high += 0.001;
      const double ramp = std::clamp((i - low) / (high - low), 0.0, 1.0);
      value = plain / rotary.factor * ramp + plain * (1.0 - ramp);
    }
    if (rotary.scaling == RotaryScaling::kLlama3) {
      const double turns = trained * plain / (2.0 * std::numbers::pi);
      const double smooth = std::clamp((turns - rotary.low_frequency_factor) /
                                           (rotary.high_frequency_factor - rotary.low_frequency_factor),
                                       0.0, 1.0);
      value = (1.0 - smooth) * plain / rotary.factor + smooth * plain;
    }
    frequencies.push_back(value);
  }
  return frequencies;
}

double oracle_rotary_factor(const RotaryConfig& rotary) {
  if (rotary.scaling != RotaryScaling::kYarn) return 1.0;
  if (rotary.attention_factor > 0.0) return rotary.attention_factor;
  return rotary.factor <= 1.0 ? 1.0 : 0.1 * std::log(rotary.factor) + 1.0;
}

double oracle_activation(ops::Activation activation, double x) {
  switch (activation) {
    case ops::Activation::kNone:
      return x;
    case ops::Activation::kGelu:
      return 0.5 * x * std::erfc(-x / std::numbers::sqrt2);
    case ops::Activation::kGeluTanh: {
      const double inner = std::sqrt(2.0 / std::numbers::pi) * (x + 0.044715 * x * x * x);
      return 0.5 * x * (1.0 + std::tanh(inner));
    }
    case ops::Activation::kSilu:
      return x / (1.0 + std::exp(-x));
    case ops::Activation::kRelu:
      return std::max(x, 0.0);
    case ops::Activation::kTanh:
      return std::tanh(x);
  }
  throw std::logic_error("oracle: unknown activation");
}

double oracle_activation_slope(ops::Activation activation, double x) {
  switch (activation) {
    case ops::Activation::kNone:
      return 1.0;
    case ops::Activation::kGelu:
      return 0.5 * std::erfc(-x / std::numbers::sqrt2) +
             x * std::exp(-0.5 * x * x) / std::sqrt(2.0 * std::numbers::pi);
    case ops::Activation::kGeluTanh: {
      const double root = std::sqrt(2.0 / std::numbers::pi);
      const double tangent = std::tanh(root * (x + 0.044715 * x * x * x));
      return 0.5 * (1.0 + tangent) +
             0.5 * x * (1.0 - tangent * tangent) * root * (1.0 + 3.0 * 0.044715 * x * x);
    }
    case ops::Activation::kSilu: {
      const double sigmoid = 1.0 / (1.0 + std::exp(-x));
      return sigmoid * (1.0 + x * (1.0 - sigmoid));
    }
    case ops::Activation::kRelu:
      return x > 0.0 ? 1.0 : 0.0;
    case ops::Activation::kTanh:
      return 1.0 - std::tanh(x) * std::tanh(x);
  }
  throw std::logic_error("oracle: unknown activation");
}

namespace {

/// The pass of one sequence: the trace under construction and what it is made from.
class Pass {
 public:
  Pass(const Oracle& oracle, const RoundingHook& hook, OracleTrace& trace)
      : oracle_(oracle), config_(oracle.config()), hook_(hook), trace_(trace) {}

  void angles(std::int64_t prompt_tokens) {
    if (config_.positions != PositionKind::kRotary) return;
    const std::vector<double> frequencies = oracle_frequencies(config_.rotary, prompt_tokens);
    const double factor = oracle_rotary_factor(config_.rotary);
    const auto tokens = static_cast<std::int64_t>(trace_.tokens.size());
    trace_.cosines = Rows(tokens, static_cast<std::int64_t>(frequencies.size()));
    trace_.sines = trace_.cosines;
    for (std::int64_t position = 0; position < tokens; ++position) {
      for (std::size_t i = 0; i < frequencies.size(); ++i) {
        const double angle = static_cast<double>(position) * frequencies[i];
        trace_.cosines.row(position)[i] = factor * std::cos(angle);
        trace_.sines.row(position)[i] = factor * std::sin(angle);
      }
    }
  }

  /// Adds the layer's attention and MLP to the residual stream `x`.
  void layer(std::int32_t index, Rows& x) {
    LayerTrace& now = trace_.layers[static_cast<std::size_t>(index)];
    const OracleLayer& weights = oracle_.layer(index);
    now.in = x;
    now.norm1 = normalize(config_, x, weights.norm1_weight, weights.norm1_bias);
    visit(index, Place::kNorm1, now.norm1);
    const Rows attention = this->attention(index, now);
    if (config_.residual == ResidualOrder::kSequential) {
      add(x, attention);
      now.mid = x;
    }
    if (config_.residual != ResidualOrder::kParallelOneNorm) {
      now.norm2 = normalize(config_, x, weights.norm2_weight, weights.norm2_bias);
      visit(index, Place::kNorm2, now.norm2);
    }
    const Rows mlp = this->mlp(index, now);
    if (config_.residual != ResidualOrder::kSequential) add(x, attention);
    add(x, mlp);
  }

  void visit(std::int32_t layer, Place place, Rows& values) const {
    if (hook_) hook_(layer, place, values);
  }

 private:
  static void add(Rows& target, const Rows& part) {
    for (std::size_t i = 0; i < target.values.size(); ++i) target.values[i] += part.values[i];
  }

  Rows attention(std::int32_t index, LayerTrace& now) const {
    const OracleLayer& weights = oracle_.layer(index);
    const std::int64_t q_width = std::int64_t{config_.heads} * config_.head_dim;
    const std::int64_t kv_width = std::int64_t{config_.kv_heads} * config_.head_dim;
    now.qkv = linear(now.norm1, weights.qkv, weights.qkv_bias);
    visit(index, Place::kQkv, now.qkv);
    now.queries = columns(now.qkv, 0, q_width);
    now.keys = columns(now.qkv, q_width, kv_width);
    if (config_.head_norms) {
      normalize_heads(config_, weights.query_norm, now.queries);
      normalize_heads(config_, weights.key_norm, now.keys);
    }
    if (config_.positions == PositionKind::kRotary) {
      rotate(config_, trace_, now.queries);
      rotate(config_, trace_, now.keys);
    }
    visit(index, Place::kQuery, now.queries);
    visit(index, Place::kKey, now.keys);
    now.values = columns(now.qkv, q_width + kv_width, kv_width);
    visit(index, Place::kValue, now.values);
    weigh_values(index, now);
    visit(index, Place::kAttention, now.attention);
    return linear(now.attention, weights.attention_out, weights.attention_out_bias);
  }

  /// Softmax and the sum over values. The exponentials are divided by their sum before the hook saw them.
  void weigh_values(std::int32_t index, LayerTrace& now) const {
    const std::int64_t tokens = now.queries.rows;
    const std::int64_t group = config_.heads / config_.kv_heads;
    now.probabilities = exponentials(config_, now.queries, now.keys);
    std::vector<double> sums;
    for (std::int64_t i = 0; i < tokens; ++i) {
      for (std::int64_t head = 0; head < config_.heads; ++head) {
        double sum = 0.0;
        for (std::int64_t j = 0; j <= i; ++j) sum += now.probabilities.row(i)[head * tokens + j];
        sums.push_back(sum);
      }
    }
    visit(index, Place::kProbability, now.probabilities);
    now.attention = Rows(tokens, now.queries.cols);
    for (std::int64_t i = 0; i < tokens; ++i) {
      for (std::int64_t head = 0; head < config_.heads; ++head) {
        const double sum = sums[static_cast<std::size_t>(i * config_.heads + head)];
        double* out = now.attention.row(i) + head * config_.head_dim;
        for (std::int64_t j = 0; j <= i; ++j) {
          double& probability = now.probabilities.row(i)[head * tokens + j];
          probability /= sum;
          const double* value = now.values.row(j) + head / group * config_.head_dim;
          for (std::int64_t c = 0; c < config_.head_dim; ++c) out[c] += probability * value[c];
        }
      }
    }
  }

  Rows mlp(std::int32_t index, LayerTrace& now) const {
    const OracleLayer& weights = oracle_.layer(index);
    const Rows& in = config_.residual == ResidualOrder::kParallelOneNorm ? now.norm1 : now.norm2;
    if (config_.experts.in_layer(index)) return experts(weights, in, now.scores);
    now.up = linear(in, weights.up, weights.up_bias);
    if (config_.gated_mlp) visit(index, Place::kUp, now.up);
    now.hidden = activated(now.up, config_.gated_mlp);
    visit(index, Place::kHidden, now.hidden);
    return linear(now.hidden, weights.down, weights.down_bias);
  }

  /// `up` activated, or, where `gated`, its left half activated times its right half.
  Rows activated(const Rows& up, bool gated) const {
    Rows out(up.rows, gated ? up.cols / 2 : up.cols);
    for (std::int64_t r = 0; r < up.rows; ++r) {
      for (std::int64_t i = 0; i < out.cols; ++i) {
        out.row(r)[i] =
            oracle_activation(config_.activation, up.row(r)[i]) * (gated ? up.row(r)[out.cols + i] : 1.0);
      }
    }
    return out;
  }

  /// The sum over a row's experts of weight * expert(row) (Jiang et al. 2024, section 2.1; Qwen2-MoE's shared
  /// expert as its authors' code has it).
  Rows experts(const OracleLayer& weights, const Rows& in, Rows& scores) const {
    const model::ExpertsConfig& config = config_.experts;
    scores = linear(in, weights.router, {});
    Rows out(in.rows, in.cols);
    for (std::int64_t r = 0; r < in.rows; ++r) {
      const double* score = scores.row(r);
      std::vector<double> shares = shares_of_experts(score);
      if (config.shared_intermediate_size > 0) shares.push_back(1.0 / (1.0 + std::exp(-score[config.count])));
      Rows row(1, in.cols);
      std::copy_n(in.row(r), in.cols, row.row(0));
      for (std::size_t expert = 0; expert < shares.size(); ++expert) {
        if (shares[expert] == 0.0) continue;
        const Rows hidden = activated(linear(row, weights.expert_up.at(expert), {}), true);
        const Rows result = linear(hidden, weights.expert_down.at(expert), {});
        for (std::int64_t i = 0; i < in.cols; ++i) out.row(r)[i] += shares[expert] * result.row(0)[i];
      }
    }
    return out;
  }

  /// The softmax of a row's scores, 0 for experts that are not among the best.
  std::vector<double> shares_of_experts(const double* score) const {
    const std::int32_t count = config_.experts.count;
    const double largest = *std::max_element(score, score + count);
    double all = 0.0;
    for (std::int32_t e = 0; e < count; ++e) all += std::exp(score[e] - largest);
    std::vector<double> shares(static_cast<std::size_t>(count), 0.0);
    double taken = 0.0;
    for (std::int32_t rank = 0; rank < config_.experts.per_token; ++rank) {
      std::int32_t best = -1;
      for (std::int32_t e = 0; e < count; ++e) {
        if (shares[static_cast<std::size_t>(e)] == 0.0 && (best < 0 || score[e] > score[best])) best = e;
      }
      shares[static_cast<std::size_t>(best)] = std::exp(score[best] - largest) / all;
      taken += shares[static_cast<std::size_t>(best)];
    }
    for (double& share : shares) share /= config_.experts.normalized ? taken : 1.0;
    return shares;
  }

  const Oracle& oracle_;
  const model::DecoderConfig& config_;
  const RoundingHook& hook_;
  OracleTrace& trace_;
};

}  // namespace

OracleTrace Oracle::forward(std::span<const std::int32_t> tokens, std::int64_t prompt_tokens,
                            const RoundingHook& hook) const {
  if (hook && config_.experts.count > 0) {
    throw std::logic_error("the oracle does not round models with experts");
  }
  OracleTrace trace;
  trace.tokens.assign(tokens.begin(), tokens.end());
  trace.layers.resize(weights_.layers.size());
  Pass pass(*this, hook, trace);
  pass.angles(prompt_tokens);

  Rows x(static_cast<std::int64_t>(tokens.size()), config_.hidden_size);
  for (std::size_t r = 0; r < tokens.size(); ++r) {
    const float* row = weights_.embedding.row(tokens[r]);
    for (std::int64_t i = 0; i < x.cols; ++i) {
      x.row(static_cast<std::int64_t>(r))[i] = static_cast<double>(config_.embedding_scale) * row[i];
    }
  }
  for (std::int32_t index = 0; index < config_.layers; ++index) pass.layer(index, x);
  trace.final_norm = normalize(config_, x, final_norm_weight(), final_norm_bias());
  trace.out = std::move(x);
  pass.visit(config_.layers, Place::kFinalNorm, trace.final_norm);
  trace.logits = linear(trace.final_norm, head(), weights_.head_bias);
  return trace;
}

}  // namespace peregrine::testing
