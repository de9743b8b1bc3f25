// SPDX-License-Identifier: Apache-2.0
#include "support/rounding_bound.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>

#include "support/oracle_adjoint.h"

namespace peregrine::testing {
namespace {

constexpr double kUnit = 0x1p-8;

/// Adds up S^2 (see the header) over places.
class Variances {
 public:
  Variances(const Oracle& oracle, const OracleTrace& trace, std::size_t directions, std::size_t top,
            NarrowTypes types)
      : config_(oracle.config()), trace_(trace), types_(types), top_(static_cast<std::int64_t>(top)) {
    error.resize(directions);
    worst.resize(directions);
    lead.resize(directions);
  }

  void add(std::int32_t layer, Place place, std::int64_t first, const Adjoint& gradients) {
    if (!is_rounded(types_, place)) return;
    const Rows& values = values_at(trace_, layer, place);
    if (place == Place::kProbability) {
      add_probabilities(values, first, gradients);
      return;
    }
    const Rows steps = half_units(place, values, first, gradients.rows);
    const std::vector<std::vector<std::int64_t>> groups = alike(values, first, gradients.rows);
    for (const std::vector<std::int64_t>& group : groups) {
      for (std::int64_t d = 0; d < gradients.directions; ++d)
        add_group(group, values, first, steps, gradients, d);
    }
  }

  std::vector<double> error, worst, lead;

 private:
  /// The share of a row's size within which others round in much the same way.
  double alike_within() const { return types_.int8 || types_.int8_cache ? kInt8Alike : kUnit; }

  /// How far each value may be moved; 0 where it is not rounded after all.
  Rows half_units(Place place, const Rows& values, std::int64_t first, std::int64_t count) const {
    Rows steps(count, values.cols);
    for (std::int64_t r = 0; r < count; ++r) {
      const double* row = values.row(first + r);
      double largest = 0.0;
      for (std::int64_t i = 0; i < values.cols; ++i) largest = std::max(largest, std::abs(row[i]));
      for (std::int64_t i = 0; i < values.cols; ++i) {
        if (types_.int8) {
          steps.row(r)[i] = largest / 254.0;
        } else if (types_.int8_cache) {
          steps.row(r)[i] = half_scale(row, i);
        } else {
          steps.row(r)[i] = already_narrow(place, i) ? 0.0 : half_unit(row[i]);
        }
      }
    }
    return steps;
  }

  /// Half of the scale of the head that element `i` is in.
  double half_scale(const double* row, std::int64_t i) const {
    const std::int64_t head = i / config_.head_dim * config_.head_dim;
    double largest = 0.0;
    for (std::int64_t d = 0; d < config_.head_dim; ++d) largest = std::max(largest, std::abs(row[head + d]));
    return largest / 127.0 / 2.0;
  }

  /// With bfloat16 arithmetic the projection's output is bfloat16, so that values, and what the rotation
  /// leaves as it is, are stored exactly.
  bool already_narrow(Place place, std::int64_t col) const {
    if (!types_.compute) return false;
    if (place == Place::kValue) return true;
    if (place != Place::kQuery && place != Place::kKey) return false;
    return config_.positions != model::PositionKind::kRotary || col % config_.head_dim >= config_.rotary.dim;
  }

  static double distance(const Rows& values, std::int64_t a, std::int64_t b) {
    double apart = 0.0;
    double size = 0.0;
    for (std::int64_t i = 0; i < values.cols; ++i) {
      const double x = values.row(a)[i];
      const double y = values.row(b)[i];
      apart += (x - y) * (x - y);
      size += x * x;
    }
    return std::sqrt(apart / size);
  }

  /// Rows (counted from `first`) in groups whose members are closer than alike_within() to the group's first
  /// one.
  std::vector<std::vector<std::int64_t>> alike(const Rows& values, std::int64_t first,
                                               std::int64_t count) const {
    std::vector<std::vector<std::int64_t>> groups;
    for (std::int64_t r = 0; r < count; ++r) {
      const auto same = std::find_if(groups.begin(), groups.end(), [&](const auto& group) {
        return distance(values, first + group.front(), first + r) < alike_within();
      });
      if (same == groups.end()) {
        groups.push_back({r});
      } else {
        same->push_back(r);
      }
    }
    return groups;
  }

  void add_group(const std::vector<std::int64_t>& group, const Rows& values, std::int64_t first,
                 const Rows& steps, const Adjoint& gradients, std::int64_t d) {
    const std::int64_t front = group.front();
    const auto width = static_cast<std::size_t>(gradients.cols);
    // Derivatives of rows equal to the first, added up; then the sizes of all others.
    equal_.assign(gradients.at(front, d), gradients.at(front, d) + width);
    equal_top_.assign(gradients.at(front, top_), gradients.at(front, top_) + width);
    near_.assign(width, 0.0);
    near_lead_.assign(width, 0.0);
    for (std::size_t member = 1; member < group.size(); ++member) {
      const std::int64_t r = group[member];
      const bool equal = distance(values, first + front, first + r) < 1e-9;
      for (std::size_t i = 0; i < width; ++i) {
        const double g = gradients.at(r, d)[i];
        const double top = gradients.at(r, top_)[i];
        if (equal) {
          equal_[i] += g;
          equal_top_[i] += top;
        } else {
          near_[i] += std::abs(g) * steps.row(r)[i];
          near_lead_[i] += std::abs(g - top) * steps.row(r)[i];
        }
      }
    }
    double squares = 0.0;
    double sizes = 0.0;
    double lead_squares = 0.0;
    const double* step = steps.row(front);
    for (std::size_t i = 0; i < width; ++i) {
      const double one = std::abs(equal_[i]) * step[i] + near_[i];
      const double two = std::abs(equal_[i] - equal_top_[i]) * step[i] + near_lead_[i];
      squares += one * one;
      sizes += one;
      lead_squares += two * two;
    }
    const auto at = static_cast<std::size_t>(d);
    error[at] += squares;
    worst[at] += sizes;
    lead[at] += lead_squares;
  }

  /// Probabilities are rounded before the division by their sum, in units that are not known here: by u p at
  /// most. The sum may be of them as they were (derivative g_j) or as they are then (g_j less the mean of all
  /// g by p): a device may do either, so that for each row and head the larger one counts.
  void add_probabilities(const Rows& values, std::int64_t first, const Adjoint& gradients) {
    const std::int64_t keys = values.rows;
    for (std::int64_t r = 0; r < gradients.rows; ++r) {
      for (std::int64_t head = 0; head < config_.heads; ++head) {
        const double* p = values.row(first + r) + head * keys;
        const double* top = gradients.at(r, top_) + head * keys;
        for (std::int64_t d = 0; d < gradients.directions; ++d) {
          const double* g = gradients.at(r, d) + head * keys;
          const auto at = static_cast<std::size_t>(d);
          error[at] += larger(
              p, keys, [&](std::int64_t j) { return g[j]; }, &worst[at]);
          lead[at] += larger(
              p, keys, [&](std::int64_t j) { return g[j] - top[j]; }, nullptr);
        }
      }
    }
  }

  template <typename Gradient>
  static double larger(const double* p, std::int64_t keys, Gradient gradient, double* worst) {
    double mean = 0.0;
    for (std::int64_t j = 0; j < keys; ++j) mean += p[j] * gradient(j);
    double squares[2] = {};
    double sizes[2] = {};
    for (std::int64_t j = 0; j < keys; ++j) {
      const double shares[2] = {gradient(j) * kUnit * p[j], (gradient(j) - mean) * kUnit * p[j]};
      for (int i = 0; i < 2; ++i) {
        squares[i] += shares[i] * shares[i];
        sizes[i] += std::abs(shares[i]);
      }
    }
    if (worst != nullptr) *worst += std::max(sizes[0], sizes[1]);
    return std::max(squares[0], squares[1]);
  }

  const model::DecoderConfig& config_;
  const OracleTrace& trace_;
  NarrowTypes types_;
  std::int64_t top_;
  std::vector<double> equal_, equal_top_, near_, near_lead_;
};

}  // namespace

bool is_rounded(NarrowTypes types, Place place) {
  if (types.int8) {
    return place == Place::kNorm1 || place == Place::kNorm2 || place == Place::kAttention ||
           place == Place::kHidden || place == Place::kFinalNorm;
  }
  const bool cached = place == Place::kKey || place == Place::kValue;
  return types.compute || ((types.cache || types.int8_cache) && cached);
}

double half_unit(double value) {
  if (value == 0.0) return 0.0;
  return std::ldexp(1.0, std::ilogb(value * (1.0 + 1.0 / 32.0)) - 8);
}

LogitBounds bound_logits(const Oracle& oracle, const OracleTrace& trace, std::int64_t position,
                         std::span<const std::int32_t> logits, std::size_t top, NarrowTypes types) {
  if (types.int8_cache && (types.compute || types.cache || types.int8)) {
    throw std::invalid_argument("bound_logits: an int8 cache is analysed with float32 arithmetic");
  }
  if (types.compute && !types.cache && !types.int8) {
    // A float32 cache would keep rotated keys that this analysis takes as rounded; nobody runs that.
    throw std::invalid_argument("bound_logits: bfloat16 arithmetic is analysed with a bfloat16 cache");
  }
  Variances variances(oracle, trace, logits.size(), top, types);
  pull_back(oracle, trace, position, logits,
            [&](std::int32_t layer, Place place, std::int64_t first, const Adjoint& gradients) {
              variances.add(layer, place, first, gradients);
            });
  LogitBounds bounds;
  const double certain = (1.0 + kRemainder) * kLambda;
  bounds.logits.assign(logits.begin(), logits.end());
  bounds.worst = variances.worst;
  for (const double square : variances.error) {
    bounds.error.push_back(certain * std::sqrt(square));
    bounds.spread.push_back(std::sqrt(square / 3.0));
  }
  for (const double square : variances.lead) {
    bounds.lead.push_back(certain * std::sqrt(square));
  }
  return bounds;
}

namespace {

/// Scales each row and head so that the division by the sum of the values before becomes one by their own
/// sum.
void divide_by_own_sum(const Rows& before, Rows& values) {
  const std::int64_t keys = values.rows;
  for (std::int64_t at = 0; at < values.rows * values.cols; at += keys) {
    double* own = values.values.data() + at;
    const double* old = before.values.data() + at;
    const double ratio = std::accumulate(old, old + keys, 0.0) / std::accumulate(own, own + keys, 0.0);
    for (std::int64_t j = 0; j < keys; ++j) own[j] *= ratio;
  }
}

}  // namespace

RoundingHook bfloat16_rounding(NarrowTypes types, ProbabilitySum sum) {
  return [types, sum](std::int32_t, Place place, Rows& values) {
    if (!is_rounded(types, place)) return;
    const Rows before = values;
    for (double& value : values.values) value = round_to_bfloat16(value);
    if (place == Place::kProbability && sum == ProbabilitySum::kRounded) divide_by_own_sum(before, values);
  };
}

RoundingHook int8_rounding() {
  return [](std::int32_t, Place place, Rows& values) {
    if (!is_rounded({.int8 = true}, place)) return;
    for (std::int64_t r = 0; r < values.rows; ++r) {
      double* row = values.row(r);
      double largest = 0.0;
      for (std::int64_t i = 0; i < values.cols; ++i) largest = std::max(largest, std::abs(row[i]));
      for (std::int64_t i = 0; i < values.cols && largest > 0.0; ++i) {
        row[i] = std::nearbyint(row[i] / largest * 127.0) * largest / 127.0;
      }
    }
  };
}

}  // namespace peregrine::testing
