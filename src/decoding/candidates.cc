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
    : ids_(vocab_size),
      logits_(vocab_size),
      weights_(vocab_size),
      keys_(vocab_size),
      pending_(vocab_size),
      scratch_(vocab_size),
      histogram_(kHistogramSize) {}

void Candidates::gather(std::span<const float> logits, std::span<const float> block_maxima, float temperature,
                        std::size_t top_k) {
  // At least k tokens are as large as the k-th largest block maximum, so none below it is among the k
  // largest.
  float least = -kInfinity;
  if (top_k > 0 && top_k <= block_maxima.size()) {
    const std::span<float> maxima(scratch_.data(), block_maxima.size());
    std::ranges::copy(block_maxima, maxima.begin());
    const auto kth = maxima.begin() + static_cast<std::ptrdiff_t>(top_k - 1);
    std::ranges::nth_element(maxima, kth, std::greater<>());
    least = *kth;
  }
  if (least > -kInfinity) least = divide(least, temperature);
  size_ = 0;
  maximum_ = -kLargest;
  for (std::size_t start = 0, block = 0; start < logits.size(); start += kBlockSize, ++block) {
    if (block_maxima[block] == -kInfinity) continue;
    const float best = divide(block_maxima[block], temperature);
    if (best < least) continue;
    maximum_ = std::max(maximum_, best);
    gather_block(logits, start, temperature, least);
  }
}

void Candidates::gather_block(std::span<const float> logits, std::size_t start, float temperature,
                              float least) {
  std::array<float, kBlockSize> quotients;
  const std::size_t count = std::min(kBlockSize, logits.size() - start);
  const float* from = logits.data() + start;
  std::uint32_t wanted = 0;
  for (std::size_t i = 0; i < count; ++i) quotients[i] = divide(from[i], temperature);
  // Minus infinity has become the lowest finite number, so it is told by the logit.
  for (std::size_t i = 0; i < count; ++i)
    wanted += ((quotients[i] >= least) & (from[i] > -kInfinity)) ? 1 : 0;
  if (wanted == count) {  // The usual block without top_k: plain copies.
    std::copy_n(quotients.data(), count, logits_.data() + size_);
    std::iota(ids_.data() + size_, ids_.data() + size_ + count, static_cast<std::int32_t>(start));
    size_ += count;
    return;
  }
  for (std::size_t i = 0; i < count; ++i) {
    if (quotients[i] < least || from[i] == -kInfinity) continue;
    ids_[size_] = static_cast<std::int32_t>(start + i);
    logits_[size_++] = quotients[i];
  }
}

void Candidates::weigh() {
  exponentials(logits(), maximum_, scratch());
  // A sum with 2^12 rounds to multiples of 2^-40, and leaves their number in the low bits of the mantissa.
  constexpr double kRound = 4096.0;
  const float* __restrict exponential = scratch_.data();
  std::uint64_t* __restrict weight = weights_.data();
  std::uint64_t total = 0;
  const std::size_t count = size_;
  for (std::size_t i = 0; i < count; ++i) {
    const double rounded = static_cast<double>(exponential[i]) + kRound;
    weight[i] = std::bit_cast<std::uint64_t>(rounded) - std::bit_cast<std::uint64_t>(kRound);
    total += weight[i];
  }
  total_ = total;
}

void Candidates::key_by_logit() {
  const float* __restrict logit = logits_.data();
  std::uint32_t* __restrict key = keys_.data();
  const std::size_t count = size_;
  for (std::size_t i = 0; i < count; ++i) key[i] = key_of(logit[i]);
}

template <bool kWeighted>
Candidates::Boundary Candidates::boundary(std::uint64_t target) {
  Boundary found;
  unsigned shift = 32;
  std::size_t pending = size_;  // Candidates whose keys agree with the digits found so far; all, at first.
  for (const unsigned bits : kDigitBits) {
    const bool all = shift == 32;
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
  }
  return found;
}

template Candidates::Boundary Candidates::boundary<true>(std::uint64_t);
template Candidates::Boundary Candidates::boundary<false>(std::uint64_t);

Spread spread_of(const Candidates& candidates) {
  const auto logits = candidates.logits();
  const auto weights = candidates.weights();
  const auto total = static_cast<double>(candidates.total());
  Spread spread{candidates.maximum() + std::log(total / static_cast<double>(kUnitWeight)), 0};
  for (std::size_t i = 0; i < logits.size(); ++i) {
    spread.entropy += static_cast<double>(weights[i]) / total * (spread.log_total - logits[i]);
  }
  return spread;
}

std::int32_t draw(const Candidates& candidates, std::uint64_t bits) {
  const std::uint64_t point = scale_bits(bits, candidates.total());
  const auto weights = candidates.weights();
  std::uint64_t sum = 0;
  std::size_t i = 0;
  while (i + 1 < weights.size() && (sum += weights[i]) <= point) ++i;
  return candidates.ids()[i];
}

}  // namespace peregrine::decoding
