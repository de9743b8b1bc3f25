// SPDX-License-Identifier: Apache-2.0
#include "engine/sequence.h"

#include <algorithm>
#include <utility>

#include "core/checked.h"
#include "ops/device.h"

namespace peregrine::engine {

Group::Group(BlockPool& pool, Request&& from, std::vector<float> rotary, std::int32_t most_tokens,
             std::int64_t vocab_size, std::shared_ptr<const decoding::TokenBytes> bytes)
    : request(std::move(from)),
      frequencies(std::move(rotary)),
      limit(most_tokens),
      token_bytes(std::move(bytes)),
      cross_blocks(pool) {
  const std::int32_t count = request.parameters.computed_sequences();
  sequences.reserve(static_cast<std::size_t>(count));
  for (std::int32_t index = 0; index < count; ++index) {
    Sequence& sequence = sequences.emplace_back(pool, index);
    if (request.generated.empty()) continue;
    sequence.generated = std::move(request.generated[static_cast<std::size_t>(index)]);
    // What was asked for of the prompt had been reported before the first token.
    if (!sequence.generated.empty()) scored = prompt_size();
  }
  request.generated.clear();
  if (request.parameters.num_beams == 1) return;
  beams = std::make_shared<decoding::BeamSearch>(request.parameters, vocab_size, request.prompt_ids,
                                                 most_tokens, token_bytes.get(), request.encoder_ids);
  next_generated_.resize(sequences.size());
  for (Sequence& sequence : sequences) {
    sequence.idle = sequence.index > 0;
    next_blocks_.emplace_back(pool);
  }
}

void Group::reserve() {
  const std::int32_t blocks = core::ceil_div(prompt_size() + limit, ops::kBlockTokens);
  for (Sequence& sequence : sequences) {
    if (sequence.finished) continue;
    sequence.generated.reserve(static_cast<std::size_t>(limit));
    sequence.blocks.reserve(blocks);
  }
  for (BlockList& list : next_blocks_) list.reserve(blocks);
  for (auto& tokens : next_generated_) tokens.reserve(static_cast<std::size_t>(limit));
}

void Group::follow_beams() {
  const auto live = beams->beams();
  for (std::size_t i = 0; i < live.size(); ++i) {
    const Sequence& parent = sequences.at(static_cast<std::size_t>(live[i].parent));
    next_blocks_[i].share(parent.blocks);
    next_generated_[i].assign(parent.generated.begin(), parent.generated.end());
    next_generated_[i].push_back(live[i].token);
  }
  const std::int32_t computed = sequences.front().computed;  // the same for all live beams
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    Sequence& sequence = sequences[i];
    sequence.idle = i >= live.size();
    sequence.blocks.clear();
    sequence.computed = sequence.idle ? 0 : computed;
    sequence.shares_tail = !sequence.idle && computed % ops::kBlockTokens != 0;
    if (sequence.idle) continue;
    std::swap(sequence.blocks, next_blocks_[i]);
    std::swap(sequence.generated, next_generated_[i]);
  }
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
    if (one.active() && (best == nullptr || one.generated.size() < best->generated.size())) best = &one;
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
