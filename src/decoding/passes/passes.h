// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace peregrine::decoding {

/// Logits of one block: the passes work block by block.
inline constexpr std::size_t kPassBlock = 64;
/// Weights are summed in buckets, by their distance; what is farther than the last but one is in the last.
inline constexpr std::size_t kBuckets = 1024;
/// Each sum of a bucket is in as many parts, so that an addition need not wait for its neighbour's.
inline constexpr std::size_t kBucketTables = 4;
/// Elements that compacting passes may write behind the last one they keep.
inline constexpr std::size_t kPassOverhang = 16;

/// The passes over a whole vocabulary, compiled once for each instruction set from one source. All copies
/// give the same bits: each element is computed by the same operations, none fused, and each sum has one
/// order. (Sampling does not depend on the machine, and no device needs to know about it.)
///
/// A weight is exp(quotient - maximum) in units of 2^-40, rounded. A quotient is logit / temperature, kept
/// within the finite numbers. `count` is any number unless it says otherwise.
struct Passes {
  const char* name;

  /// See decoding::sanitize(). `nan` becomes true where there is one, else it stays.
  float (*sanitize)(float* logits, std::size_t count, float* block_maxima, bool* nan);
  /// See decoding::exponentials(); `out` may be `values`.
  void (*exponentials)(const float* values, std::size_t count, float maximum, float* out);
  /// The sum of the same: 16 float lanes over 256 values, then 16 double lanes.
  double (*sum_of_exponentials)(const float* values, std::size_t count, float maximum);
  /// values - log_total, computed in double; minus infinity stays, what would be below the lowest finite
  /// number is that.
  void (*subtract)(float* values, std::size_t count, double log_total);

  /// Appends ids (from first_id) and quotients of those logits above minus infinity whose quotient is at
  /// least `least`; returns how many. At most one block.
  std::size_t (*gather)(const float* logits, std::size_t count, std::int32_t first_id, float temperature,
                        float least, std::int32_t* ids, float* quotients);
  /// The weights of quotients; returns their sum.
  std::uint64_t (*weigh)(const float* quotients, std::size_t count, float maximum, std::uint64_t* weights);
  /// The sum of the weights of each block of logits; 0 for what is minus infinity.
  void (*weigh_blocks)(const float* logits, std::size_t count, float temperature, float maximum,
                       std::uint64_t* sums);

  /// The weights of all logits of a row: their sum to `total`; for each block the sum of those whose quotient
  /// is above `sure`; and of those from `possible` to `sure`, appended, ids, quotients and weights. Returns
  /// how many.
  std::size_t (*weigh_between)(const float* logits, std::size_t count, float temperature, float maximum,
                               float possible, float sure, std::uint64_t* sums, std::uint64_t* total,
                               std::int32_t* ids, float* quotients, std::uint64_t* weights);

  /// Quotients (minus infinity stays), exponentials and buckets (by distance from the maximum) of at most one
  /// block of logits; adds their weights to `tables` [kBuckets][kBucketTables].
  void (*spread)(const float* logits, std::size_t count, float temperature, float maximum,
                 float buckets_per_unit, float* quotients, float* exponentials, std::uint16_t* buckets,
                 std::uint64_t* tables);
  /// Buckets of distances (>= 0), and the sums of `weights` in them as above.
  void (*spread_weights)(const float* distances, const std::uint64_t* weights, std::size_t count,
                         float buckets_per_unit, std::uint16_t* buckets, std::uint64_t* tables);
  /// Appends the indices (from `first`) at which buckets[i] == bucket; returns how many.
  std::size_t (*find)(const std::uint16_t* buckets, std::size_t count, std::uint32_t first,
                      std::uint16_t bucket, std::uint32_t* indices);
  /// Appends ids, quotients and weights where the quotient is above `least`, or equals it and the id is at
  /// most last_id; adds the weights to `total` and returns how many. `out` may be at or before `quotients`.
  std::size_t (*take)(const float* quotients, const float* exponentials, std::size_t count,
                      std::int32_t first_id, float least, std::int32_t last_id, std::int32_t* ids, float* out,
                      std::uint64_t* weights, std::uint64_t* total);
  /// |log_total - logit - entropy|, computed in double, as float; returns the largest.
  float (*distances)(const float* logits, std::size_t count, double log_total, double entropy, float* out);
  /// The sum of weight * (log_total - logit), in eight lanes.
  double (*weighted_surprise)(const float* logits, const std::uint64_t* weights, std::size_t count,
                              double log_total);
  /// Moves those with keep[i] != 0 (1) of at most one block to the front of `to_*`, which lie at or before
  /// `ids`, `logits`, `weights`; returns how many. `weights` may be null; else their sum is added to `total`.
  struct List {
    std::int32_t* ids;
    float* logits;
    std::uint64_t* weights;
  };
  std::size_t (*compact)(const std::uint8_t* keep, std::size_t count, const List& from, const List& to,
                         std::uint64_t* total);
};

/// The fastest this processor can run.
const Passes& passes();

/// All that it can run, slowest first, null at the end. For tests.
const Passes* const* available_passes();

}  // namespace peregrine::decoding
