// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "decoding/beam_search.h"
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
  /// The last block is only part full, and others of the group may refer to it: copy it before writing where
  /// so.
  bool shares_tail = false;
  std::int32_t slot = -1;       ///< -1: not in the batch.
  std::uint64_t last_step = 0;  ///< Number of the last step that names it; 0: none.
  bool finished = false;
  /// A place for a beam that there is not at present: it holds a slot and nothing else.
  bool idle = false;

  bool active() const { return !finished && !idle; }
};

/// How far the text of an encoder-decoder request is.
enum class EncodeState : std::uint8_t {
  kNone,     ///< Not in the batch.
  kWaiting,  ///< Its blocks are there; it waits for its turn at the encoder.
  kRunning,  ///< In the batch that the encoder works at.
  kDone,  ///< Its cross-attention keys and values are in its blocks, or will be when the steps in flight have
          ///< run.
};

/// A request that is queued or running.
struct Group {
  /// `bytes` (may be null): see decoding::BeamSearch.
  Group(BlockPool& pool, Request&& from, std::vector<float> rotary, std::int32_t most_tokens,
        std::int64_t vocab_size, std::shared_ptr<const decoding::TokenBytes> bytes);

  Request request;
  std::vector<float> frequencies;  ///< Rotary, chosen from the prompt's length.
  std::int32_t limit = 0;  ///< Most tokens each sequence may have after the prompt, replayed ones included.
  std::vector<Sequence> sequences;
  /// The sequence that computes the prompt; the others refer to its blocks once they fork.
  std::int32_t leader = 0;
  /// Whether the step that computes the last prompt position has been planned: every sequence has its own
  /// blocks.
  bool forked = false;

  /// Of a group of beams; keeps what it found through preemption.
  std::shared_ptr<decoding::BeamSearch> beams;
  std::shared_ptr<const decoding::TokenBytes> token_bytes;  ///< What `beams` refers to.

  // Of an encoder-decoder request: the KV blocks of its text, for all sequences.
  EncodeState encode = EncodeState::kNone;
  BlockList cross_blocks;

  std::uint64_t last_step = 0;  ///< Number of the last step that names any of its blocks; 0: none.

  /// Tokens of the prompt whose log-probabilities were planned, where they are wanted.
  std::int32_t scored = 0;

  std::int32_t prompt_size() const { return static_cast<std::int32_t>(request.prompt_ids.size()); }
  std::int32_t known_length(const Sequence& sequence) const {
    return prompt_size() + static_cast<std::int32_t>(sequence.generated.size());
  }
  /// Tokens, those being drawn included.
  std::int32_t length(const Sequence& sequence) const { return known_length(sequence) + sequence.pending; }
  /// Whether a further token may be drawn.
  bool may_grow(const Sequence& sequence) const { return length(sequence) - prompt_size() < limit; }
  /// Sequences that take room.
  std::int32_t unfinished() const;
  /// Positions that prefill computes: of a beam not the last known one, which is computed together with the
  /// other beams'.
  std::int32_t prefill_end(const Sequence& sequence) const {
    return beams && !sequence.generated.empty() ? length(sequence) - 1 : length(sequence);
  }
  bool scores_prompt() const { return request.parameters.prompt_logprobs && request.encoder_ids.empty(); }

  /// Room for all that the sequences may come to hold, so that steps allocate nothing.
  void reserve();

  /// After a step of the search: every live beam takes the blocks and tokens of the one it goes on from.
  void follow_beams();

  /// Appends tokens [begin, end) of a sequence, all known, to `out`.
  void append_tokens(const Sequence& sequence, std::int32_t begin, std::int32_t end,
                     std::vector<std::int32_t>& out) const;

  /// Picks the leader: the unfinished sequence with the fewest tokens, so that where any has none yet, the
  /// leader's computation ends at the prompt's last position, whose logits all such sequences draw from.
  void choose_leader();

  /// Why a sequence ends with the last token of `generated`; nothing where it goes on.
  std::optional<generation::FinishReason> finish_reason(std::span<const std::int32_t> generated) const;

 private:
  // Kept for their memory.
  std::vector<BlockList> next_blocks_;
  std::vector<std::vector<std::int32_t>> next_generated_;
};

}  // namespace peregrine::engine
