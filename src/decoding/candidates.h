// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "decoding/passes/passes.h"

namespace peregrine::decoding {

/// The weight of the most likely token. Probabilities are integers in units of 2^-40 of it, so that a sum is
/// the same in any order and over any subset that holds all non-zero terms; a vocabulary of 2^23 tokens
/// cannot overflow. A token less likely by more than that factor is never drawn.
inline constexpr std::uint64_t kUnitWeight = std::uint64_t{1} << 40;

/// The tokens that may still be drawn, in ascending order of id, with their logits (after temperature) and
/// unnormalized probabilities. All memory is made at construction. Not thread-safe.
class Candidates {
 public:
  explicit Candidates(std::size_t vocab_size);

  /// Takes the tokens whose logit is above minus infinity, divided by `temperature` (quotients beyond the
  /// range of float stay at its ends). For speed, tokens may be left out that are not among the `top_k` most
  /// likely (ties of the last one are kept), where it is above 0, or that are less than `min_p` times as
  /// likely as the most likely. `block_maxima` as by sanitize().
  void gather(std::span<const float> logits, std::span<const float> block_maxima, float temperature,
              std::size_t top_k, float min_p = 0.0f);

  /// The same as gather() of all, weigh() and cut_top_p(), without a list of the whole vocabulary.
  void gather_top_p(std::span<const float> logits, std::span<const float> block_maxima, float temperature,
                    float p);

  /// The same as gather_top_p() and draw(), without any list where the distribution allows. `sums` is room
  /// for a number per block.
  std::int32_t draw_top_p(std::span<const float> logits, std::span<const float> block_maxima,
                          float temperature, float p, std::uint64_t bits, std::span<std::uint64_t> sums);

  /// Computes weights and their total from the logits: after gather() and cut_top_k(), before the other cuts.
  void weigh();

  std::size_t size() const { return size_; }
  std::span<const std::int32_t> ids() const { return {ids_.data(), size_}; }
  std::span<const float> logits() const { return {logits_.data(), size_}; }
  std::span<const std::uint64_t> weights() const { return {weights_.data(), size_}; }
  float maximum() const { return maximum_; }      ///< The largest logit gathered.
  std::uint64_t total() const { return total_; }  ///< The sum of the weights.

  /// Keeps candidate i (an index, not an id) where `keep(i)`, called in ascending order. `with_weights` says
  /// whether there are weights to keep and to sum anew.
  template <typename Keep>
  void filter(bool with_weights, Keep keep) {
    const std::size_t count = size_;
    size_ = 0;
    total_ = 0;
    for (std::size_t start = 0; start < count; start += kPassBlock) {
      const std::size_t here = std::min(kPassBlock, count - start);
      std::array<std::uint8_t, kPassBlock> stays;
      for (std::size_t i = 0; i < here; ++i) stays[i] = keep(start + i) ? 1 : 0;
      move_up(stays, start, here, with_weights);
    }
  }

  /// Where a running sum over the candidates, from the highest key to the lowest, reaches a target.
  struct Boundary {
    std::uint32_t key = 0;    ///< The key at which it does.
    std::uint64_t above = 0;  ///< The sum over all candidates with a higher key.
  };

  /// One key per candidate, for the two functions below: set them, or let key_by_logit().
  std::span<std::uint32_t> keys() { return {keys_.data(), size_}; }
  void key_by_logit();
  /// The boundary over the weights. `target` is from 1 to total().
  Boundary weight_boundary(std::uint64_t target) { return boundary<true>(target, {}, size_, true); }
  /// The boundary over the number of candidates. `target` is from 1 to size().
  Boundary count_boundary(std::uint64_t target) { return boundary<false>(target, {}, size_, true); }
  /// The boundary over the weights, from the lowest distance (>= 0; in scratch()) to the `largest`. Its key
  /// is the complement of a distance's bits.
  Boundary distance_boundary(std::uint64_t target, float largest);

  /// Room for one number per candidate.
  std::span<float> scratch() { return {scratch_.data(), size_}; }

 private:
  void move_up(std::span<const std::uint8_t> stays, std::size_t start, std::size_t count, bool with_weights);
  /// The boundary among the first `pending` of pending_ (or of all), where the sum `found.above` is above
  /// them. Leaves those that have its key in pending_.
  template <bool kWeighted>
  Boundary boundary(std::uint64_t target, Boundary found, std::size_t pending, bool all);
  /// The boundary over the weights, from the lowest distance (in scratch_) to the `largest`; what lies in one
  /// bucket goes by key(i), the highest first, which must order as distances do but may tell apart more.
  template <typename Key>
  Boundary bucket_boundary(std::uint64_t target, float largest, Key key);
  /// The bucket of tables_ in which the running sum reaches the target; `above` becomes the sum before it.
  std::uint16_t bucket_at(std::uint64_t target, std::uint64_t& above) const;
  void clear_tables();
  /// Quotients within which the boundary of top-p probably lies.
  struct Bracket {
    float possible = 0;  ///< What is below it is cut.
    float sure = 0;      ///< What is above it stays.
  };
  Bracket estimate_top_p(std::span<const float> logits, std::span<const float> block_maxima,
                         float temperature, float p);
  float least_wanted(std::span<const float> block_maxima, float temperature, std::size_t top_k, float min_p);

  std::size_t size_ = 0;
  float maximum_ = 0;
  std::uint64_t total_ = 0;
  std::vector<std::int32_t> ids_;
  std::vector<float> logits_;
  std::vector<std::uint64_t> weights_;
  std::vector<std::uint32_t> keys_;
  std::vector<std::uint32_t> pending_;  ///< Indices that boundary() still has to tell apart.
  std::size_t found_ = 0;               ///< Those at its front that have the key that was found.
  std::vector<float> scratch_;
  std::vector<std::uint16_t> buckets_;
  std::vector<std::uint64_t> tables_;  ///< [kBuckets][kBucketTables]
  std::vector<std::uint64_t> histogram_;
};

/// A key that orders as the numbers do; -0 and +0 have the same key. Not for NaN.
std::uint32_t order_key(float value);

/// The weight at which a share of `total` is reached: ceil(share * total), from 1 to `total`.
std::uint64_t share_of(float share, std::uint64_t total);

// The cuts, in the order in which they are applied. Each leaves at least one candidate of weight above zero.

/// Keeps the k most likely tokens (A. Fan et al., arXiv:1805.04833, section 5.3). As in transformers, further
/// tokens with the same logit as the k-th are kept too.
void cut_top_k(Candidates& candidates, std::size_t k);

/// Keeps the smallest set of most likely tokens whose probability is at least p; of equal ones the lower ids;
/// always at least one, even for p = 0 (A. Holtzman et al., arXiv:1904.09751, section 3.1).
void cut_top_p(Candidates& candidates, float p);

/// Keeps the tokens that are at least `share` times as likely as the most likely (M. N. Nguyen et al.,
/// arXiv:2407.01082, section 3).
void cut_min_p(Candidates& candidates, float share);

/// Keeps the tokens whose surprise is nearest to the entropy, as many as are needed for a probability of at
/// least p, and those that are just as near as the last of them (C. Meister et al., arXiv:2202.00666, section
/// 4).
void cut_typical(Candidates& candidates, float p);

/// Keeps the tokens whose probability is at least `least`, and the most likely ones (J. Hewitt et al.,
/// arXiv:2210.15191, section 4.2).
void cut_epsilon(Candidates& candidates, float least);

/// The same with a bound that falls with the entropy: min(epsilon, sqrt(epsilon) * exp(-entropy))
/// (section 4.3).
void cut_eta(Candidates& candidates, float epsilon);

/// The logarithm of the sum of the exponentials of the candidates' logits, and the entropy of their
/// probabilities.
struct Spread {
  double log_total = 0;
  double entropy = 0;
};
Spread spread_of(const Candidates& candidates);

/// The id of the candidate drawn by `bits` (64 random bits) with probability proportional to its weight: the
/// first in ascending order of id at which the running sum of weights exceeds bits / 2^64 * total().
std::int32_t draw(const Candidates& candidates, std::uint64_t bits);

/// The same as gather() of all, weigh() and draw(), without a list of the whole vocabulary. `sums` is room
/// for a number per block.
std::int32_t draw_from_all(std::span<const float> logits, std::span<const float> block_maxima,
                           float temperature, std::uint64_t bits, std::span<std::uint64_t> sums);

}  // namespace peregrine::decoding
