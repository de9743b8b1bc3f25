// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "engine/block_pool.h"
#include "engine/request.h"

namespace peregrine::engine {

/// One of a group's sequences. Positions count from the first prompt token.
struct Sequence {
  explicit Sequence(BlockPool& pool, std::int32_t number) : index(number), blocks(pool) {}

  std::int32_t index = 0;
  std::vector<std::int32_t> generated;  ///< Tokens known after the prompt.
  /// Tokens being drawn by steps in flight; they follow `generated`.
  std::int32_t pending = 0;
  /// Positions whose keys and values are in `blocks`, or will be when the steps in flight have run.
  std::int32_t computed = 0;
  BlockList blocks;
  /// The last prompt block is only part full, and the group's leader writes into it: copy it before writing.
  bool shares_tail = false;
  std::int32_t slot = -1;       ///< -1: not in the batch.
  std::uint64_t last_step = 0;  ///< Number of the last step that names it; 0: none.
  bool finished = false;
};

/// A request that is queued or running.
struct Group {
  Group(BlockPool& pool, Request&& from, std::vector<float> rotary, std::int32_t most_tokens);

  Request request;
  std::vector<float> frequencies;  ///< Rotary, chosen from the prompt's length.
  std::int32_t limit = 0;  ///< Most tokens each sequence may have after the prompt, replayed ones included.
  std::vector<Sequence> sequences;
  /// The sequence that computes the prompt; the others refer to its blocks once they fork.
  std::int32_t leader = 0;
  /// Whether the step that computes the last prompt position has been planned: every sequence has its own
  /// blocks.
  bool forked = false;

  std::int32_t prompt_size() const { return static_cast<std::int32_t>(request.prompt_ids.size()); }
  std::int32_t known_length(const Sequence& sequence) const {
    return prompt_size() + static_cast<std::int32_t>(sequence.generated.size());
  }
  /// Tokens, those being drawn included.
  std::int32_t length(const Sequence& sequence) const { return known_length(sequence) + sequence.pending; }
  /// Whether a further token may be drawn.
  bool may_grow(const Sequence& sequence) const { return length(sequence) - prompt_size() < limit; }
  std::int32_t unfinished() const;

  /// Appends tokens [begin, end) of a sequence, all known, to `out`.
  void append_tokens(const Sequence& sequence, std::int32_t begin, std::int32_t end,
                     std::vector<std::int32_t>& out) const;

  /// Picks the leader: the unfinished sequence with the fewest tokens, so that where any has none yet, the
  /// leader's computation ends at the prompt's last position, whose logits all such sequences draw from.
  void choose_leader();

  /// Why a sequence ends with the last token of `generated`; nothing where it goes on.
  std::optional<generation::FinishReason> finish_reason(std::span<const std::int32_t> generated) const;
};

}  // namespace peregrine::engine
