// SPDX-License-Identifier: Apache-2.0
#include "decoding/ngram_index.h"

#include <algorithm>
#include <limits>

namespace peregrine::decoding {
namespace {

// Any odd number with well spread bits; equality is always checked on the tokens themselves.
constexpr std::uint64_t kBase = 0x9E6C63D0876A9A35;

std::uint64_t digit(std::int32_t token) { return mix_bits(static_cast<std::uint64_t>(token)); }

}  // namespace

NgramIndex::NgramIndex(std::int32_t size, std::size_t tokens_expected)
    : prefix_(static_cast<std::size_t>(size) - 1) {
  for (std::size_t i = 1; i < prefix_; ++i) oldest_ *= kBase;
  groups_.reserve(tokens_expected);
  ngrams_.reserve(tokens_expected);
  group_index_.reserve(tokens_expected);
  ngram_index_.reserve(tokens_expected);
}

std::uint64_t NgramIndex::hash(std::span<const std::int32_t> prefix) {
  std::uint64_t hash = 0;
  for (const std::int32_t token : prefix) hash = hash * kBase + digit(token);
  return hash;
}

std::int32_t NgramIndex::find_group(std::span<const std::int32_t> text, std::span<const std::int32_t> prefix,
                                    std::uint64_t hash) const {
  return group_index_.find(mix_bits(hash), [&](std::int32_t group) {
    const auto position = static_cast<std::size_t>(groups_[static_cast<std::size_t>(group)].position);
    return std::ranges::equal(prefix, text.subspan(position - prefix_, prefix_));
  });
}

void NgramIndex::append(std::span<const std::int32_t> text) {
  const std::size_t position = text.size() - 1;
  const std::int32_t token = text.back();
  if (position >= prefix_) {  // `window_` is the prefix of the n-gram that ends here.
    std::int32_t group = find_group(text, text.subspan(position - prefix_, prefix_), window_);
    if (group < 0) {
      group = static_cast<std::int32_t>(groups_.size());
      groups_.push_back({static_cast<std::int32_t>(position), -1});
      group_index_.insert(mix_bits(window_), group);
    }
    const std::uint64_t hash =
        mix_bits(static_cast<std::uint64_t>(group) << 32 | static_cast<std::uint32_t>(token));
    const auto same = [&](std::int32_t i) {
      const Ngram& ngram = ngrams_[static_cast<std::size_t>(i)];
      return ngram.group == group && ngram.token == token;
    };
    if (ngram_index_.find(hash, same) < 0) {
      const auto index = static_cast<std::int32_t>(ngrams_.size());
      std::int32_t& last = groups_[static_cast<std::size_t>(group)].last;
      ngrams_.push_back({group, token, last});
      ngram_index_.insert(hash, index);
      last = index;
    }
  }
  if (prefix_ == 0) return;
  if (position >= prefix_) window_ -= digit(text[position - prefix_]) * oldest_;
  window_ = window_ * kBase + digit(token);
}

void NgramIndex::forbid(std::span<const std::int32_t> text, std::span<const std::int32_t> prefix,
                        std::uint64_t hash, std::span<float> logits) const {
  const std::int32_t group = find_group(text, prefix, hash);
  if (group < 0) return;
  for (std::int32_t i = groups_[static_cast<std::size_t>(group)].last; i >= 0;) {
    const Ngram& ngram = ngrams_[static_cast<std::size_t>(i)];
    logits[static_cast<std::size_t>(ngram.token)] = -std::numeric_limits<float>::infinity();
    i = ngram.previous;
  }
}

}  // namespace peregrine::decoding
