// SPDX-License-Identifier: Apache-2.0
#include "engine/sequence.h"

#include <algorithm>
#include <utility>

namespace peregrine::engine {

Group::Group(BlockPool& pool, Request&& from, std::vector<float> rotary, std::int32_t most_tokens)
    : request(std::move(from)), frequencies(std::move(rotary)), limit(most_tokens) {
  sequences.reserve(static_cast<std::size_t>(request.parameters.n));
  for (std::int32_t index = 0; index < request.parameters.n; ++index) {
    Sequence& sequence = sequences.emplace_back(pool, index);
    if (!request.generated.empty()) {
      sequence.generated = std::move(request.generated[static_cast<std::size_t>(index)]);
    }
  }
  request.generated.clear();
}

std::int32_t Group::unfinished() const {
  return static_cast<std::int32_t>(
      std::count_if(sequences.begin(), sequences.end(), [](const Sequence& one) { return !one.finished; }));
}

void Group::append_tokens(const Sequence& sequence, std::int32_t begin, std::int32_t end,
                          std::vector<std::int32_t>& out) const {
  const std::int32_t prompt = prompt_size();
  const auto& ids = request.prompt_ids;
  if (begin < prompt) out.insert(out.end(), ids.begin() + begin, ids.begin() + std::min(end, prompt));
  if (end > prompt) {
    const auto first = sequence.generated.begin();
    out.insert(out.end(), first + (std::max(begin, prompt) - prompt), first + (end - prompt));
  }
}

void Group::choose_leader() {
  const Sequence* best = nullptr;
  for (const Sequence& one : sequences) {
    if (!one.finished && (best == nullptr || one.generated.size() < best->generated.size())) best = &one;
  }
  leader = best == nullptr ? 0 : best->index;
}

std::optional<generation::FinishReason> Group::finish_reason(std::span<const std::int32_t> generated) const {
  using generation::FinishReason;
  if (generated.empty()) return std::nullopt;
  const auto last_is_in = [&](const std::vector<std::int32_t>& ids) {
    return std::find(ids.begin(), ids.end(), generated.back()) != ids.end();
  };
  if (last_is_in(request.parameters.eos_token_ids)) return FinishReason::kEosToken;
  if (last_is_in(request.parameters.stop_token_ids)) return FinishReason::kStopSequence;
  if (static_cast<std::int32_t>(generated.size()) >= limit) return FinishReason::kLength;
  return std::nullopt;
}

}  // namespace peregrine::engine
