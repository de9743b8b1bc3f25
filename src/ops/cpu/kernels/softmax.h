// SPDX-License-Identifier: Apache-2.0
// Part of a kernel source: from the products of one query vector with the keys of a segment to its
// probabilities.
#pragma once

namespace peregrine::ops::cpu::PEREGRINE_ISA {
namespace {

/// alibi_scale * (slope * position) for 16 positions from `position` on.
PEREGRINE_INLINE Vector position_bias(const AttentionTask& task, float slope, std::int64_t position) {
  alignas(64) float lanes[16];
  for (int i = 0; i < 16; ++i) lanes[i] = static_cast<float>(position + i);
  Vector at = load(lanes);
  Vector factor = splat(slope);
  if (task.slopes_in_bfloat16) {
    at = bf16_lanes(at);
    factor = bf16_lanes(factor);
  }
  Vector product = mul(factor, at);
  if (task.slopes_in_bfloat16) product = bf16_lanes(product);
  return mul(splat(task.slope_scale), product);
}

/// Biases of 16 keys in a row, the first at the query's position plus `distance`. `bias` is that of distance
/// 0.
PEREGRINE_INLINE Vector distance_bias(const float* bias, std::int64_t limit, std::int64_t distance) {
  if (distance >= limit) return splat(bias[limit]);
  if (distance + 15 <= -limit) return splat(bias[-limit]);
  if (distance >= -limit && distance + 15 <= limit) return load(bias + distance);
  alignas(64) float lanes[16];
  for (int i = 0; i < 16; ++i) {
    const std::int64_t at = distance + i;
    lanes[i] = bias[at < -limit ? -limit : at > limit ? limit : at];
  }
  return load(lanes);
}

/// What is added to a query vector's scores.
struct Bias {
  const float* slope;     ///< Null: none.
  const float* distance;  ///< The bias of distance 0; null: none.
  std::int64_t position;  ///< Of the query.
};

/// The positions [begin, valid) of a segment that a query vector may see; none where valid is 0.
struct Visible {
  std::int64_t begin;
  std::int64_t valid;
};

/// A segment of a sequence.
struct Segment {
  std::int64_t start;              ///< Its first position.
  const std::byte* const* pieces;  ///< Of its blocks, as far as any query vector sees them.
};

/// Turns the products of one query vector with the keys into scores, those it does not see minus infinity;
/// returns the highest.
template <bool kScaled>
inline float make_scores(const AttentionTask& task, const Segment& segment, float* scores, Visible visible,
                         const Bias& bias) {
  Vector top = splat(-kInfinity);
  const Vector scale = splat(task.scale);
  const auto scaled = [&](std::int64_t i) PEREGRINE_LAMBDA {
    Vector score = load(scores + i);
    if constexpr (kScaled) score = mul(score, load(segment.pieces[i / kCacheBlock] + task.scale_bytes));
    return mul(score, scale);
  };
  const auto keep = [&](std::int64_t i, Vector score) PEREGRINE_LAMBDA {
    top = max(score, top);  // a score that is no number leaves the maximum as it is
    store(scores + i, score);
  };
  std::int64_t i = 0;
  const bool plain = task.soft_cap <= 0 && bias.slope == nullptr && bias.distance == nullptr;
  if (plain && visible.begin == 0) {
    for (; i + 16 <= visible.valid; i += 16) keep(i, scaled(i));
  }
  for (; i < visible.valid; i += 16) {
    Vector score = scaled(i);
    if (task.soft_cap > 0) score = soft_cap(task.soft_cap, score);
    const std::int64_t position = segment.start + i;
    if (bias.slope != nullptr) score = add(score, position_bias(task, *bias.slope, position));
    if (bias.distance != nullptr) {
      score = add(score, distance_bias(bias.distance, task.distance_limit, position - bias.position));
    }
    if (visible.valid - i < 16) score = select(first_lanes(visible.valid - i), score, splat(-kInfinity));
    if (i < visible.begin) score = select(first_lanes(visible.begin - i), splat(-kInfinity), score);
    keep(i, score);
  }
  return max_lanes(top);
}

/// Writes what each value weighs: the probability relative to the highest score, with an 8-bit cache times
/// the value's scale. Returns the sum of the probabilities. Positions before the visible ones weigh exactly
/// 0, which leaves every sum as it was.
template <bool kScaled, Number kStored>
inline float make_weights(const AttentionTask& task, const Segment& segment, const float* scores,
                          Visible visible, float highest, std::byte* weights) {
  constexpr std::int64_t kSize = kStored == Number::kF32 ? 4 : 2;
  const bool round = task.query_type == Number::kBF16;
  const Vector top = splat(highest);
  Vector sum = zero();
  for (std::int64_t i = 0; i < visible.valid; i += 16) {
    Vector p = exp_below(sub(load(scores + i), top));
    if (round) p = bf16_lanes(p);
    sum = add(sum, p);
    if constexpr (kScaled) {
      const std::byte* scales = segment.pieces[i / kCacheBlock] + task.scale_bytes;
      p = mul(p, load(scales + kCacheBlock * sizeof(float)));
      // The scale of a value that is not seen may be no number.
      if (i < visible.begin) p = select(first_lanes(visible.begin - i), zero(), p);
    }
    store_as(kStored, weights + i * kSize, p);
  }
  return sum_lanes(sum);
}

}  // namespace
}  // namespace peregrine::ops::cpu::PEREGRINE_ISA
