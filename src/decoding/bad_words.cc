// SPDX-License-Identifier: Apache-2.0
#include "decoding/bad_words.h"

#include <algorithm>
#include <limits>

namespace peregrine::decoding {
namespace {

constexpr float kForbidden = -std::numeric_limits<float>::infinity();

/// The token after which a word's last token is forbidden, if the earlier ones match too.
std::int32_t last_but_one(const std::vector<std::int32_t>& word) { return word[word.size() - 2]; }

}  // namespace

BadWords::BadWords(const std::vector<std::vector<std::int32_t>>& words,
                   std::span<const std::int32_t> eos_token_ids) {
  for (const auto& word : words) {
    if (word.size() > 1) {
      long_.push_back(word);
    } else if (word.size() == 1 && std::ranges::find(eos_token_ids, word[0]) == eos_token_ids.end()) {
      single_.push_back(word[0]);
    }
  }
  std::ranges::sort(long_, {}, last_but_one);
}

void BadWords::apply(std::span<float> logits, std::span<const std::int32_t> tokens) const {
  for (const std::int32_t id : single_) logits[static_cast<std::size_t>(id)] = kForbidden;
  if (tokens.empty()) return;
  auto next = std::ranges::lower_bound(long_, tokens.back(), {}, last_but_one);
  for (; next != long_.end() && last_but_one(*next) == tokens.back(); ++next) {
    const std::vector<std::int32_t>& word = *next;
    if (word.size() > tokens.size()) continue;
    const auto prefix = std::span(word).first(word.size() - 1);
    if (std::ranges::equal(prefix, tokens.last(prefix.size()))) {
      logits[static_cast<std::size_t>(word.back())] = kForbidden;
    }
  }
}

}  // namespace peregrine::decoding
