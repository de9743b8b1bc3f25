// SPDX-License-Identifier: Apache-2.0
#include "decoding/candidates.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

#include "decoding/random.h"
#include "decoding/softmax.h"

namespace peregrine::decoding {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kLargest = std::numeric_limits<float>::max();

// Keys are sorted by three digits of 11, 11 and 10 bits.
constexpr unsigned kDigitBits[] = {11, 11, 10};
constexpr std::size_t kHistogramSize = std::size_t{1} << 11;

/// Farther below the largest logit than this, weights are zero: exp(-29) is below 2^-41.
constexpr float kWeightless = 29.0f;
/// A logit's distance from the largest is known within some units in the last place of 100.
constexpr double kRoomForErrors = 0.01;

static_assert(kPassBlock == kBlockSize);

inline float divide(float logit, float temperature) {
  float quotient = logit / temperature;
  quotient = quotient < kLargest ? quotient : kLargest;
  return quotient > -kLargest ? quotient : -kLargest;
}

inline std::uint32_t key_of(float value) {
  const auto bits = std::bit_cast<std::int32_t>(value + 0.0f);  // -0 + 0 is +0.
  // All bits turn over in a negative number, only the sign in a positive one.
  return static_cast<std::uint32_t>(bits ^ (bits >> 31 | std::numeric_limits<std::int32_t>::min()));
}

}  // namespace

std::uint32_t order_key(float value) { return key_of(value); }

std::uint64_t share_of(float share, std::uint64_t total) {
  const double part = std::ceil(static_cast<double>(share) * static_cast<double>(total));
  return std::clamp<std::uint64_t>(static_cast<std::uint64_t>(part), 1, total);
}

Candidates::Candidates(std::size_t vocab_size)
    : ids_(vocab_size + kPassOverhang),
      logits_(vocab_size + kPassOverhang),
      weights_(vocab_size + kPassOverhang),
      keys_(vocab_size),
      pending_(vocab_size + 1),  // One is written behind those that are kept.
      scratch_(vocab_size),
      buckets_(vocab_size),
      tables_(kBuckets * kBucketTables),
      histogram_(kHistogramSize) {}

float Candidates::least_wanted(std::span<const float> block_maxima, float temperature, std::size_t top_k,
                               float min_p) {
  float least = -kInfinity;
  // At least k tokens are as large as the k-th largest block maximum, so none below it is among the k
  // largest.
  if (top_k > 0 && top_k <= block_maxima.size()) {
    const std::span<float> maxima(scratch_.data(), block_maxima.size());
    std::ranges::copy(block_maxima, maxima.begin());
    const auto kth = maxima.begin() + static_cast<std::ptrdiff_t>(top_k - 1);
    std::ranges::nth_element(maxima, kth, std::greater<>());
    least = *kth;
  }
  if (least > -kInfinity) least = divide(least, temperature);
  if (min_p > 0.0f) {
    // With room for the errors of exponentials, which decide in the end, and never rounded up.
    const double lowest =
        static_cast<double>(maximum_) + std::log(static_cast<double>(min_p)) - kRoomForErrors;
    auto rounded = static_cast<float>(std::max(lowest, -static_cast<double>(kLargest)));
    if (static_cast<double>(rounded) > lowest) rounded = std::nextafter(rounded, -kInfinity);
    least = std::max(least, rounded);
  }
  return least;
}

void Candidates::gather(std::span<const float> logits, std::span<const float> block_maxima, float temperature,
                        std::size_t top_k, float min_p) {
  maximum_ = divide(*std::ranges::max_element(block_maxima), temperature);
  const float least = least_wanted(block_maxima, temperature, top_k, min_p);
  const Passes& pass = passes();
  size_ = 0;
  for (std::size_t start = 0, block = 0; start < logits.size(); start += kBlockSize, ++block) {
    if (block_maxima[block] == -kInfinity || divide(block_maxima[block], temperature) < least) continue;
    size_ += pass.gather(logits.data() + start, std::min(kBlockSize, logits.size() - start),
                         static_cast<std::int32_t>(start), temperature, least, ids_.data() + size_,
                         logits_.data() + size_);
  }
}

void Candidates::weigh() { total_ = passes().weigh(logits_.data(), size_, maximum_, weights_.data()); }

void Candidates::gather_top_p(std::span<const float> logits, std::span<const float> block_maxima,
                              float temperature, float p) {
  maximum_ = divide(*std::ranges::max_element(block_maxima), temperature);
  const Passes& pass = passes();
  clear_tables();
  // Quotients, exponentials and buckets lie where their ids say. Blocks are left out that have no weight.
  const auto far = [&](std::size_t block, float most) {
    return maximum_ - divide(block_maxima[block], temperature) > most;
  };
  const auto count_of = [&](std::size_t start) { return std::min(kBlockSize, logits.size() - start); };
  for (std::size_t start = 0, block = 0; start < logits.size(); start += kBlockSize, ++block) {
    if (far(block, kWeightless)) continue;
    pass.spread(logits.data() + start, count_of(start), temperature, maximum_, logits_.data() + start,
                scratch_.data() + start, buckets_.data() + start, tables_.data());
  }
  total_ = std::accumulate(tables_.begin(), tables_.end(), std::uint64_t{0});
  const std::uint64_t target = share_of(p, total_);
  Boundary found;
  const std::uint16_t bucket = bucket_at(target, found.above);
  // What lies in the bucket in which the target is reached is told apart by its keys.
  std::size_t pending = 0;
  const float bucket_end = static_cast<float>(bucket + 1) / kBucketsPerUnit;
  for (std::size_t start = 0, block = 0; start < logits.size(); start += kBlockSize, ++block) {
    if (far(block, std::min(bucket_end, kWeightless))) continue;
    pending += pass.find(buckets_.data() + start, count_of(start), static_cast<std::uint32_t>(start), bucket,
                         pending_.data() + pending);
  }
  for (const std::uint32_t id : std::span(pending_).first(pending)) {
    keys_[id] = key_of(logits_[id]);
    pass.weigh(&logits_[id], 1, maximum_, &weights_[id]);
  }
  found = boundary<true>(target, found, pending, false);
  // A token is kept while those before it, the more likely ones and its equals of lower id, fall short.
  std::int32_t last = 0;
  for (std::size_t j = 0; j < found_ && found.above < target; ++j) {
    last = static_cast<std::int32_t>(pending_[j]);
    found.above += weights_[pending_[j]];
  }
  const float least = logits_[static_cast<std::size_t>(last)];
  size_ = 0;
  total_ = 0;
  for (std::size_t start = 0, block = 0; start < logits.size(); start += kBlockSize, ++block) {
    if (divide(block_maxima[block], temperature) < least || far(block, kWeightless)) continue;
    size_ += pass.take(logits_.data() + start, scratch_.data() + start, count_of(start),
                       static_cast<std::int32_t>(start), least, last, ids_.data() + size_,
                       logits_.data() + size_, weights_.data() + size_, &total_);
  }
}

void Candidates::move_up(std::span<const std::uint8_t> stays, std::size_t start, std::size_t count,
                         bool with_weights) {
  const auto list_at = [&](std::size_t at) {
    return Passes::List{ids_.data() + at, logits_.data() + at, with_weights ? weights_.data() + at : nullptr};
  };
  size_ += passes().compact(stays.data(), count, list_at(start), list_at(size_), &total_);
}

void Candidates::key_by_logit() {
  const float* __restrict logit = logits_.data();
  std::uint32_t* __restrict key = keys_.data();
  const std::size_t count = size_;
  for (std::size_t i = 0; i < count; ++i) key[i] = key_of(logit[i]);
}

void Candidates::clear_tables() { std::ranges::fill(tables_, 0); }

std::uint16_t Candidates::bucket_at(std::uint64_t target, std::uint64_t& above) const {
  above = 0;
  for (std::size_t bucket = 0; bucket + 1 < kBuckets; ++bucket) {
    const std::uint64_t* parts = tables_.data() + bucket * kBucketTables;
    const std::uint64_t sum = std::accumulate(parts, parts + kBucketTables, std::uint64_t{0});
    if (above + sum >= target) return static_cast<std::uint16_t>(bucket);
    above += sum;
  }
  return static_cast<std::uint16_t>(kBuckets - 1);
}

Candidates::Boundary Candidates::distance_boundary(std::uint64_t target) {
  const Passes& pass = passes();
  clear_tables();
  pass.spread_weights(scratch_.data(), weights_.data(), size_, buckets_.data(), tables_.data());
  Boundary found;
  const std::uint16_t bucket = bucket_at(target, found.above);
  const std::size_t pending = pass.find(buckets_.data(), size_, 0, bucket, pending_.data());
  for (const std::uint32_t i : std::span(pending_).first(pending)) {
    keys_[i] = ~std::bit_cast<std::uint32_t>(scratch_[i]);  // Nearest first.
  }
  return boundary<true>(target, found, pending, false);
}

template <bool kWeighted>
Candidates::Boundary Candidates::boundary(std::uint64_t target, Boundary found, std::size_t pending,
                                          bool all) {
  unsigned shift = 32;
  for (const unsigned bits : kDigitBits) {
    shift -= bits;
    const std::uint32_t mask = (std::uint32_t{1} << bits) - 1;
    std::ranges::fill(histogram_, 0);
    for (std::size_t j = 0; j < pending; ++j) {
      const std::size_t i = all ? j : pending_[j];
      histogram_[keys_[i] >> shift & mask] += kWeighted ? weights_[i] : 1;
    }
    std::uint32_t digit = mask;
    while (digit > 0 && found.above + histogram_[digit] < target) found.above += histogram_[digit--];
    found.key |= digit << shift;
    std::size_t kept = 0;
    for (std::size_t j = 0; j < pending; ++j) {
      const std::size_t i = all ? j : pending_[j];
      pending_[kept] = static_cast<std::uint32_t>(i);
      kept += (keys_[i] >> shift & mask) == digit ? 1 : 0;
    }
    pending = kept;
    all = false;
  }
  found_ = pending;
  return found;
}

template Candidates::Boundary Candidates::boundary<true>(std::uint64_t, Boundary, std::size_t, bool);
template Candidates::Boundary Candidates::boundary<false>(std::uint64_t, Boundary, std::size_t, bool);

Spread spread_of(const Candidates& candidates) {
  const auto logits = candidates.logits();
  const auto total = static_cast<double>(candidates.total());
  Spread spread{candidates.maximum() + std::log(total / static_cast<double>(kUnitWeight)), 0};
  const double sum =
      passes().weighted_surprise(logits.data(), candidates.weights().data(), logits.size(), spread.log_total);
  spread.entropy = sum / total;
  return spread;
}

namespace {

/// The index at which the running sum of weights exceeds `point`: first by blocks, then one by one.
std::size_t find_point(std::span<const std::uint64_t> weights, std::uint64_t point) {
  std::uint64_t sum = 0;
  std::size_t i = 0;
  for (; i + kBlockSize <= weights.size(); i += kBlockSize) {
    std::uint64_t block = 0;
    for (std::size_t j = 0; j < kBlockSize; ++j) block += weights[i + j];
    if (sum + block > point) break;
    sum += block;
  }
  while (i + 1 < weights.size() && (sum += weights[i]) <= point) ++i;
  return i;
}

}  // namespace

std::int32_t draw(const Candidates& candidates, std::uint64_t bits) {
  return candidates.ids()[find_point(candidates.weights(), scale_bits(bits, candidates.total()))];
}

std::int32_t draw_from_all(std::span<const float> logits, std::span<const float> block_maxima,
                           float temperature, std::uint64_t bits, std::span<std::uint64_t> sums) {
  const float maximum = divide(*std::ranges::max_element(block_maxima), temperature);
  const Passes& pass = passes();
  pass.weigh_blocks(logits.data(), logits.size(), temperature, maximum, sums.data());
  const std::span<const std::uint64_t> blocks = sums.first(block_maxima.size());
  const std::uint64_t total = std::accumulate(blocks.begin(), blocks.end(), std::uint64_t{0});
  std::uint64_t point = scale_bits(bits, total);
  std::size_t block = 0;
  while (blocks[block] <= point) point -= blocks[block++];
  const std::size_t start = block * kBlockSize;
  const std::size_t count = std::min(kBlockSize, logits.size() - start);
  std::array<float, kBlockSize> quotients;
  std::array<std::uint64_t, kBlockSize> weights;
  for (std::size_t i = 0; i < count; ++i) quotients[i] = divide(logits[start + i], temperature);
  pass.weigh(quotients.data(), count, maximum, weights.data());
  for (std::size_t i = 0; i < count; ++i) {
    if (logits[start + i] == -kInfinity) weights[i] = 0;
  }
  return static_cast<std::int32_t>(start + find_point(std::span(weights).first(count), point));
}

}  // namespace peregrine::decoding
