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

/// As the passes have it: a sum with 2^12 rounds to multiples of 2^-40, and leaves their number in the
/// mantissa.
inline std::uint64_t weight_of(float exponential) {
  constexpr double kRound = 4096.0;
  const double rounded = static_cast<double>(exponential) + kRound;
  return std::bit_cast<std::uint64_t>(rounded) - std::bit_cast<std::uint64_t>(kRound);
}

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

/// Buckets for each unit of distance, so that they reach as far as `range`, or as there are weights.
float buckets_for(float range) {
  float reach = 32.0f;  // A power of two: the end of a bucket is exact.
  while (reach > 1.0f / 64 && reach / 2 >= range) reach /= 2;
  return static_cast<float>(kBuckets) / reach;
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
  const auto [lowest, highest] = std::ranges::minmax(block_maxima);
  maximum_ = divide(highest, temperature);
  const Passes& pass = passes();
  clear_tables();
  // The maxima of blocks lie closer together than logits do: as if normal, by a factor of two to three.
  const float scale = buckets_for(4 * (maximum_ - divide(lowest, temperature)));
  // Quotients, exponentials and buckets lie where their ids say. Blocks are left out that have no weight.
  const auto far = [&](std::size_t block, float most) {
    return maximum_ - divide(block_maxima[block], temperature) > most;
  };
  const auto count_of = [&](std::size_t start) { return std::min(kBlockSize, logits.size() - start); };
  for (std::size_t start = 0, block = 0; start < logits.size(); start += kBlockSize, ++block) {
    if (far(block, kWeightless)) continue;
    pass.spread(logits.data() + start, count_of(start), temperature, maximum_, scale, logits_.data() + start,
                scratch_.data() + start, buckets_.data() + start, tables_.data());
  }
  total_ = std::accumulate(tables_.begin(), tables_.end(), std::uint64_t{0});
  const std::uint64_t target = share_of(p, total_);
  Boundary found;
  const std::uint16_t bucket = bucket_at(target, found.above);
  // What lies in the bucket in which the target is reached is told apart by its keys.
  std::size_t pending = 0;
  const float bucket_end = bucket + 1 == kBuckets ? kWeightless : static_cast<float>(bucket + 1) / scale;
  for (std::size_t start = 0, block = 0; start < logits.size(); start += kBlockSize, ++block) {
    if (far(block, std::min(bucket_end, kWeightless))) continue;
    pending += pass.find(buckets_.data() + start, count_of(start), static_cast<std::uint32_t>(start), bucket,
                         pending_.data() + pending);
  }
  for (const std::uint32_t id : std::span(pending_).first(pending)) {
    keys_[id] = key_of(logits_[id]);
    weights_[id] = weight_of(scratch_[id]);
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

template <typename Key>
Candidates::Boundary Candidates::bucket_boundary(std::uint64_t target, float largest, Key key) {
  const Passes& pass = passes();
  clear_tables();
  pass.spread_weights(scratch_.data(), weights_.data(), size_, buckets_for(largest), buckets_.data(),
                      tables_.data());
  Boundary found;
  const std::uint16_t bucket = bucket_at(target, found.above);
  const std::size_t pending = pass.find(buckets_.data(), size_, 0, bucket, pending_.data());
  for (const std::uint32_t i : std::span(pending_).first(pending)) keys_[i] = key(i);
  return boundary<true>(target, found, pending, false);
}

Candidates::Boundary Candidates::distance_boundary(std::uint64_t target, float largest) {
  // Nearest first.
  return bucket_boundary(target, largest,
                         [&](std::uint32_t i) { return ~std::bit_cast<std::uint32_t>(scratch_[i]); });
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

Candidates::Bracket Candidates::estimate_top_p(std::span<const float> logits,
                                               std::span<const float> block_maxima, float temperature,
                                               float p) {
  // Likely tokens are the largest of their blocks, and all of these count. Of the others, those of one block
  // of 16 count for all.
  constexpr std::size_t kStride = 16;
  const Passes& pass = passes();
  const auto [lowest, highest] = std::ranges::minmax(block_maxima);
  maximum_ = divide(highest, temperature);
  const float scale = buckets_for(4 * (maximum_ - divide(lowest, temperature)));
  clear_tables();
  for (std::size_t block = kStride / 2; block < block_maxima.size() - 1; block += kStride) {
    const std::size_t start = block * kBlockSize;
    pass.spread(logits.data() + start, kBlockSize, temperature, maximum_, scale, logits_.data() + start,
                scratch_.data() + start, buckets_.data() + start, tables_.data());
  }
  for (std::uint64_t& sum : tables_) sum *= kStride;
  const std::size_t blocks = block_maxima.size();
  for (std::size_t i = 0; i < blocks; ++i) logits_[i] = divide(block_maxima[i], temperature);
  pass.weigh(logits_.data(), blocks, maximum_, weights_.data());
  for (std::size_t i = 0; i < blocks; ++i) scratch_[i] = maximum_ - logits_[i];
  pass.spread_weights(scratch_.data(), weights_.data(), blocks, scale, buckets_.data(), tables_.data());
  for (std::size_t block = kStride / 2; block < blocks - 1; block += kStride) {
    tables_[buckets_[block] * kBucketTables] -= kStride * weights_[block];  // The four parts together matter.
  }
  const std::uint64_t total = std::accumulate(tables_.begin(), tables_.end(), std::uint64_t{0});
  // As wide as costs little: until about every twelfth token lies between.
  const auto sum_of = [&](std::size_t bucket) {
    const std::uint64_t* parts = tables_.data() + bucket * kBucketTables;
    return static_cast<double>(std::accumulate(parts, parts + kBucketTables, std::uint64_t{0}));
  };
  std::uint64_t ignored = 0;
  std::size_t near = std::min<std::size_t>(bucket_at(share_of(p, total), ignored), kBuckets - 2), far = near;
  const double step = std::exp(1.0 / static_cast<double>(scale));
  double near_tokens = std::exp(static_cast<double>(near) / static_cast<double>(scale)) / kUnitWeight;
  double far_tokens = near_tokens;  // In a unit of weight, where the bucket is.
  double left = static_cast<double>(logits.size()) / 12 - sum_of(near) * near_tokens;
  while (left > 0 && (near > 0 || far + 2 < kBuckets)) {
    if (near > 0) left -= sum_of(--near) * (near_tokens /= step);
    if (far + 2 < kBuckets) left -= sum_of(++far) * (far_tokens *= step);
  }
  return {maximum_ - static_cast<float>(far + 1) / scale, maximum_ - static_cast<float>(near) / scale};
}

std::int32_t Candidates::draw_top_p(std::span<const float> logits, std::span<const float> block_maxima,
                                    float temperature, float p, std::uint64_t bits,
                                    std::span<std::uint64_t> sums) {
  constexpr std::size_t kWorthwhile = 8192;
  const auto with_list = [&] {
    gather_top_p(logits, block_maxima, temperature, p);
    return draw(*this, bits);
  };
  if (logits.size() < kWorthwhile) return with_list();
  const auto [possible, sure] = estimate_top_p(logits, block_maxima, temperature, p);
  std::uint64_t total = 0;
  size_ = passes().weigh_between(logits.data(), logits.size(), temperature, maximum_, possible, sure,
                                 sums.data(), &total, ids_.data(), logits_.data(), weights_.data());
  const auto blocks = sums.first(block_maxima.size());
  const std::uint64_t above = std::accumulate(blocks.begin(), blocks.end(), std::uint64_t{0});
  const std::uint64_t here = std::accumulate(weights().begin(), weights().end(), std::uint64_t{0});
  const std::uint64_t target = share_of(p, total);
  if (above >= target || above + here < target) return with_list();

  // Of the candidates, which are only what lies between now, those stay that reach what is left to reach.
  const std::uint64_t left = target - above;
  for (std::size_t i = 0; i < size_; ++i) scratch_[i] = sure - logits_[i];
  // Distances may be equal where quotients are not, so the keys are those of quotients.
  Boundary found =
      bucket_boundary(left, sure - possible, [&](std::uint32_t i) { return key_of(logits_[i]); });
  float least = -kInfinity;
  std::int32_t last = 0;
  for (std::size_t j = 0; j < found_ && found.above < left; ++j) {
    last = ids_[pending_[j]];
    least = logits_[pending_[j]];
    found.above += weights_[pending_[j]];
  }
  total_ = above;
  for (std::size_t i = 0; i < size_; ++i) {
    // Without branches: what stays is as good as random.
    const auto above_it = static_cast<std::uint64_t>(logits_[i] > least);
    const auto equal = static_cast<std::uint64_t>(logits_[i] == least);
    const std::uint64_t stays = above_it | (equal & static_cast<std::uint64_t>(ids_[i] <= last));
    const std::uint64_t weight = weights_[i] & (0 - stays);
    sums[static_cast<std::size_t>(ids_[i]) / kBlockSize] += weight;
    total_ += weight;
  }
  std::uint64_t point = scale_bits(bits, total_);
  std::size_t block = 0;
  while (blocks[block] <= point) point -= blocks[block++];
  const std::size_t start = block * kBlockSize;
  size_ = passes().gather(logits.data() + start, std::min(kBlockSize, logits.size() - start),
                          static_cast<std::int32_t>(start), temperature, least, ids_.data(), logits_.data());
  weigh();
  filter(true, [&](std::size_t i) { return logits_[i] > least || ids_[i] <= last; });
  return ids_[find_point(weights(), point)];
}

Spread spread_of(const Candidates& candidates) {
  const auto logits = candidates.logits();
  const auto total = static_cast<double>(candidates.total());
  Spread spread{candidates.maximum() + std::log(total / static_cast<double>(kUnitWeight)), 0};
  const double sum =
      passes().weighted_surprise(logits.data(), candidates.weights().data(), logits.size(), spread.log_total);
  spread.entropy = sum / total;
  return spread;
}

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
