// SPDX-License-Identifier: Apache-2.0
#include "support/oracle_adjoint.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace peregrine::testing {
namespace {

using model::ResidualOrder;

/// to[in] += sum over out of from[out] * weight[out][in], for every row and direction.
void pull_linear(const OracleMatrix& weight, const Adjoint& from, Adjoint& to) {
  const std::int64_t width = weight.cols;
  // So many rows of the weight, widened to float64, as stay in the first-level cache (32 KiB).
  const std::int64_t tile = std::clamp<std::int64_t>(4096 / width / 4 * 4, 4, 64);
  std::vector<double> wide(static_cast<std::size_t>(tile * width));
  for (std::int64_t first = 0; first < weight.rows; first += tile) {
    const std::int64_t count = std::min(tile, weight.rows - first);
    std::copy_n(weight.row(first), count * width, wide.begin());
    std::fill(wide.begin() + count * width, wide.end(), 0.0);
    for (std::int64_t at = 0; at < from.rows * from.directions; ++at) {
      const double* factors = from.values.data() + at * from.cols + first;
      double* __restrict target = to.values.data() + at * width;
      for (std::int64_t n = 0; n < count; n += 4) {
        double f[4] = {};
        std::copy_n(factors + n, std::min<std::int64_t>(4, count - n), f);
        if (f[0] == 0.0 && f[1] == 0.0 && f[2] == 0.0 && f[3] == 0.0) continue;
        const double* __restrict w = wide.data() + n * width;
        for (std::int64_t i = 0; i < width; ++i) {
          target[i] +=
              (f[0] * w[i] + f[1] * w[i + width]) + (f[2] * w[i + 2 * width] + f[3] * w[i + 3 * width]);
        }
      }
    }
  }
}

/// A vector less its mean (layer norms only) and divided by its deviation, for the pull through that.
struct Standardized {
  Standardized(const model::DecoderConfig& config, const double* x, std::int64_t count)
      : centred(config.norm == ops::NormKind::kLayer), unit(x, x + count) {
    const auto width = static_cast<double>(count);
    double mean = 0.0;
    double variance = 0.0;
    for (std::int64_t i = 0; centred && i < count; ++i) mean += x[i] / width;
    for (std::int64_t i = 0; i < count; ++i) variance += (x[i] - mean) * (x[i] - mean) / width;
    scale = 1.0 / std::sqrt(variance + static_cast<double>(config.norm_epsilon));
    for (double& value : unit) value = (value - mean) * scale;
  }

  /// Adds to `to` the derivatives by the vector, where `g` are those by unit * weight.
  void pull(const double* weight, const double* g, double* to) const {
    const auto width = static_cast<double>(unit.size());
    double sum = 0.0;
    double along = 0.0;
    for (std::size_t i = 0; i < unit.size(); ++i) {
      sum += g[i] * weight[i] / width;
      along += g[i] * weight[i] * unit[i] / width;
    }
    for (std::size_t i = 0; i < unit.size(); ++i) {
      to[i] += scale * (g[i] * weight[i] - (centred ? sum : 0.0) - unit[i] * along);
    }
  }

  bool centred;
  double scale = 0.0;
  std::vector<double> unit;
};

/// Adds to `to` (rows from `first` on belong to rows 0.. of `from`) the pull of a norm that read `in`.
void pull_norm(const model::DecoderConfig& config, const Rows& in, const std::vector<double>& weight,
               const Adjoint& from, std::int64_t first, Adjoint& to) {
  for (std::int64_t r = 0; r < from.rows; ++r) {
    const Standardized row(config, in.row(first + r), in.cols);
    for (std::int64_t d = 0; d < from.directions; ++d) {
      row.pull(weight.data(), from.at(r, d), to.at(first + r, d));
    }
  }
}

/// Rows [first, ...) of an adjoint.
Adjoint rows_from(const Adjoint& all, std::int64_t first) {
  Adjoint out(all.rows - first, all.directions, all.cols);
  std::copy(all.at(first, 0), all.values.data() + all.values.size(), out.values.begin());
  return out;
}

void add_rows(const Adjoint& part, std::int64_t first, Adjoint& to) {
  double* target = to.at(first, 0);
  for (std::size_t i = 0; i < part.values.size(); ++i) target[i] += part.values[i];
}

/// The pull through one layer. `out` holds derivatives by the residual stream after the layer, of rows
/// 0..position; rows before `first_` are zero (in the last layer only one row has any influence).
class LayerPull {
 public:
  LayerPull(const Oracle& oracle, const OracleTrace& trace, std::int32_t index, std::int64_t first,
            const PlaceVisitor& visit)
      : config_(oracle.config()),
        weights_(oracle.layer(index)),
        trace_(trace),
        now_(trace.layers[static_cast<std::size_t>(index)]),
        index_(index),
        first_(first),
        visit_(visit) {}

  /// Derivatives by the residual stream before the layer.
  Adjoint run(const Adjoint& out) const {
    const Adjoint active = rows_from(out, first_);
    Adjoint in = out;
    const Adjoint mlp_in = mlp(active);
    if (config_.residual == ResidualOrder::kSequential) {
      visit_(index_, Place::kNorm2, first_, mlp_in);
      Adjoint mid = out;
      pull_norm(config_, now_.mid, weights_.norm2_weight, mlp_in, first_, mid);
      const Adjoint norm1 = attention(rows_from(mid, first_), out.rows);
      visit_(index_, Place::kNorm1, 0, norm1);
      in = mid;
      pull_norm(config_, now_.in, weights_.norm1_weight, norm1, 0, in);
      return in;
    }
    Adjoint norm1 = attention(active, out.rows);
    if (config_.residual == ResidualOrder::kParallelOneNorm) {
      add_rows(mlp_in, first_, norm1);
    } else {
      visit_(index_, Place::kNorm2, first_, mlp_in);
      pull_norm(config_, now_.in, weights_.norm2_weight, mlp_in, first_, in);
    }
    visit_(index_, Place::kNorm1, 0, norm1);
    pull_norm(config_, now_.in, weights_.norm1_weight, norm1, 0, in);
    return in;
  }

 private:
  /// By the MLP's input, for rows from `first_` on.
  Adjoint mlp(const Adjoint& out) const {
    Adjoint hidden(out.rows, out.directions, weights_.down.cols);
    pull_linear(weights_.down, out, hidden);
    visit_(index_, Place::kHidden, first_, hidden);
    Adjoint up(out.rows, out.directions, now_.up.cols);
    const std::int64_t width = hidden.cols;
    for (std::int64_t r = 0; r < out.rows; ++r) {
      const double* x = now_.up.row(first_ + r);
      for (std::int64_t i = 0; i < width; ++i) {
        const double slope = oracle_activation_slope(config_.activation, x[i]);
        const double active = config_.gated_mlp ? oracle_activation(config_.activation, x[i]) : 0.0;
        for (std::int64_t d = 0; d < out.directions; ++d) {
          const double g = hidden.at(r, d)[i];
          up.at(r, d)[i] = g * slope * (config_.gated_mlp ? x[width + i] : 1.0);
          if (config_.gated_mlp) up.at(r, d)[width + i] = g * active;
        }
      }
    }
    if (config_.gated_mlp) visit_(index_, Place::kUp, first_, up);
    Adjoint in(out.rows, out.directions, weights_.up.cols);
    pull_linear(weights_.up, up, in);
    return in;
  }

  /// By the first norm's output, for rows 0..rows-1, from the attention block's output of rows `first_` on.
  Adjoint attention(const Adjoint& out, std::int64_t rows) const {
    Adjoint attended(out.rows, out.directions, weights_.attention_out.cols);
    pull_linear(weights_.attention_out, out, attended);
    visit_(index_, Place::kAttention, first_, attended);
    const std::int64_t kv_width = now_.keys.cols;
    Adjoint queries(rows, out.directions, now_.queries.cols);
    Adjoint keys(rows, out.directions, kv_width);
    Adjoint values(rows, out.directions, kv_width);
    Adjoint probabilities(out.rows, out.directions, now_.probabilities.cols);
    for (std::int64_t r = 0; r < out.rows; ++r) {
      for (std::int64_t head = 0; head < config_.heads; ++head) {
        softmax(r, head, attended, probabilities, queries, keys, values);
      }
    }
    visit_(index_, Place::kProbability, first_, probabilities);
    visit_(index_, Place::kValue, 0, values);
    visit_(index_, Place::kKey, 0, keys);
    visit_(index_, Place::kQuery, first_, rows_from(queries, first_));

    unrotate(queries);
    unrotate(keys);
    if (config_.head_norms) {
      pull_head_norms(0, weights_.query_norm, queries);
      pull_head_norms(queries.cols, weights_.key_norm, keys);
    }
    Adjoint qkv(rows, out.directions, now_.qkv.cols);
    for (std::int64_t at = 0; at < rows * out.directions; ++at) {
      double* target = qkv.values.data() + at * qkv.cols;
      target = std::copy_n(queries.values.data() + at * queries.cols, queries.cols, target);
      target = std::copy_n(keys.values.data() + at * kv_width, kv_width, target);
      std::copy_n(values.values.data() + at * kv_width, kv_width, target);
    }
    visit_(index_, Place::kQkv, 0, qkv);
    Adjoint in(rows, out.directions, weights_.qkv.cols);
    pull_linear(weights_.qkv, qkv, in);
    return in;
  }

  /// One row (first_ + r) and head: out = sum p_j v_j, p = softmax(s), s_j = scale * (q . k_j) + constant.
  void softmax(std::int64_t r, std::int64_t head, const Adjoint& attended, Adjoint& probabilities,
               Adjoint& queries, Adjoint& keys, Adjoint& values) const {
    const std::int64_t row = first_ + r;
    const std::int64_t width = config_.head_dim;
    const std::int64_t q_at = head * width;
    const std::int64_t kv_at = head / (config_.heads / config_.kv_heads) * width;
    const double* p = now_.probabilities.row(row) + head * now_.probabilities.rows;
    for (std::int64_t d = 0; d < attended.directions; ++d) {
      const double* g = attended.at(r, d) + q_at;
      double* by_p = probabilities.at(r, d) + head * now_.probabilities.rows;
      double mean = 0.0;
      for (std::int64_t j = 0; j <= row; ++j) {
        const double* v = now_.values.row(j) + kv_at;
        double* by_v = values.at(j, d) + kv_at;
        double sum = 0.0;
        for (std::int64_t c = 0; c < width; ++c) {
          sum += g[c] * v[c];
          by_v[c] += p[j] * g[c];
        }
        by_p[j] = sum;
        mean += p[j] * sum;
      }
      double* by_q = queries.at(row, d) + q_at;
      for (std::int64_t j = 0; j <= row; ++j) {
        const double by_score = static_cast<double>(config_.attention_scale) * p[j] * (by_p[j] - mean);
        const double* k = now_.keys.row(j) + kv_at;
        const double* q = now_.queries.row(row) + q_at;
        double* by_k = keys.at(j, d) + kv_at;
        for (std::int64_t c = 0; c < width; ++c) {
          by_q[c] += by_score * k[c];
          by_k[c] += by_score * q[c];
        }
      }
    }
  }

  /// From derivatives by normalized heads to those by the heads, which begin at `column` of qkv.
  void pull_head_norms(std::int64_t column, const std::vector<double>& weight, Adjoint& adjoint) const {
    const std::int64_t width = config_.head_dim;
    std::vector<double> by_head(static_cast<std::size_t>(width));
    for (std::int64_t r = 0; r < adjoint.rows; ++r) {
      for (std::int64_t at = 0; at < adjoint.cols; at += width) {
        const Standardized head(config_, now_.qkv.row(r) + column + at, width);
        for (std::int64_t d = 0; d < adjoint.directions; ++d) {
          std::fill(by_head.begin(), by_head.end(), 0.0);
          head.pull(weight.data() + at, adjoint.at(r, d) + at, by_head.data());
          std::copy(by_head.begin(), by_head.end(), adjoint.at(r, d) + at);
        }
      }
    }
  }

  /// The transpose of the rotation of every head.
  void unrotate(Adjoint& adjoint) const {
    const std::int64_t half = trace_.cosines.cols;
    const bool halves = config_.rotary.style == ops::RotaryStyle::kHalves;
    for (std::int64_t r = 0; r < adjoint.rows && half > 0; ++r) {
      const double* cosines = trace_.cosines.row(r);
      const double* sines = trace_.sines.row(r);
      for (std::int64_t d = 0; d < adjoint.directions; ++d) {
        for (std::int64_t head = 0; head < adjoint.cols / config_.head_dim; ++head) {
          double* g = adjoint.at(r, d) + head * config_.head_dim;
          for (std::int64_t i = 0; i < half; ++i) {
            double& a = g[halves ? i : 2 * i];
            double& b = g[halves ? i + half : 2 * i + 1];
            const double old = a;
            a = old * cosines[i] + b * sines[i];
            b = b * cosines[i] - old * sines[i];
          }
        }
      }
    }
  }

  const model::DecoderConfig& config_;
  const OracleLayer& weights_;
  const OracleTrace& trace_;
  const LayerTrace& now_;
  std::int32_t index_;
  std::int64_t first_;
  const PlaceVisitor& visit_;
};

}  // namespace

void pull_back(const Oracle& oracle, const OracleTrace& trace, std::int64_t position,
               std::span<const std::int32_t> logits, const PlaceVisitor& visit) {
  const model::DecoderConfig& config = oracle.config();
  if (config.experts.count > 0) throw std::invalid_argument("no derivatives of models with experts");
  Adjoint final_norm(1, static_cast<std::int64_t>(logits.size()), config.hidden_size);
  for (std::size_t d = 0; d < logits.size(); ++d) {
    std::copy_n(oracle.head().row(logits[d]), config.hidden_size,
                final_norm.at(0, static_cast<std::int64_t>(d)));
  }
  visit(config.layers, Place::kFinalNorm, position, final_norm);

  Adjoint stream(position + 1, final_norm.directions, config.hidden_size);
  pull_norm(config, trace.out, oracle.final_norm_weight(), final_norm, position, stream);
  for (std::int32_t index = config.layers - 1; index >= 0; --index) {
    const std::int64_t first = index == config.layers - 1 ? position : 0;
    stream = LayerPull(oracle, trace, index, first, visit).run(stream);
  }
}

}  // namespace peregrine::testing
