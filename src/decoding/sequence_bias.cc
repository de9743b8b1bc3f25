// SPDX-License-Identifier: Apache-2.0
#include "decoding/sequence_bias.h"

#include <algorithm>
#include <map>

namespace peregrine::decoding {

using generation::SequenceBias;

namespace {

/// The token after which the last one has its bias, if the earlier ones match too.
std::int32_t last_but_one(const SequenceBias& bias) { return bias.ids[bias.ids.size() - 2]; }

}  // namespace

SequenceBiases::SequenceBiases(const std::vector<SequenceBias>& biases) {
  std::map<std::vector<std::int32_t>, float> last;
  for (const SequenceBias& bias : biases) last[bias.ids] = bias.bias;
  for (const auto& [ids, bias] : last) {
    if (!ids.empty()) (ids.size() == 1 ? single_ : long_).push_back({ids, bias});
  }
  std::ranges::stable_sort(long_, {}, last_but_one);
}

void SequenceBiases::apply(std::span<float> logits, std::span<const std::int32_t> tokens) const {
  for (const SequenceBias& one : single_) logits[static_cast<std::size_t>(one.ids[0])] += one.bias;
  if (tokens.empty()) return;
  auto next = std::ranges::lower_bound(long_, tokens.back(), {}, last_but_one);
  for (; next != long_.end() && last_but_one(*next) == tokens.back(); ++next) {
    if (next->ids.size() > tokens.size()) continue;
    const auto prefix = std::span(next->ids).first(next->ids.size() - 1);
    if (std::ranges::equal(prefix, tokens.last(prefix.size()))) {
      logits[static_cast<std::size_t>(next->ids.back())] += next->bias;
    }
  }
}

}  // namespace peregrine::decoding
