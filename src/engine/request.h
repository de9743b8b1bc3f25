// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "decoding/sampler.h"
#include "generation/encode.h"
#include "generation/parameters.h"

namespace peregrine::engine {

using RequestId = std::uint64_t;

/// A request to generate: a group of parameters.computed_sequences() sequences that share a prompt, admitted,
/// preempted and cancelled together.
struct Request {
  RequestId id = 0;
  std::vector<std::int32_t> prompt_ids;  ///< Not empty. Of an encoder-decoder: what its answer begins with.
  std::vector<std::int32_t> encoder_ids = {};  ///< The text of an encoder-decoder model; empty for others.
  generation::Parameters parameters;
  /// Where `parameters.seed` is not set, the caller draws a seed and keeps it, so that a replay draws the
  /// same tokens.
  std::uint64_t seed = 0;
  /// On replay: what each sequence had generated before; empty, or one list per sequence. Beams begin anew.
  std::vector<std::vector<std::int32_t>> generated;
};

/// What happened to one sequence of a request in one step. Spans are valid during the call that hands them
/// over.
struct SequenceEvent {
  RequestId request = 0;
  std::int32_t sequence = 0;
  std::span<const decoding::SampledToken> tokens;  ///< New tokens, 0 or more; an end token is among them.
  std::optional<generation::FinishReason> finish;
  std::string_view error;           ///< Where finish is kError.
  std::optional<float> score = {};  ///< Of a hypothesis of a beam search, which comes whole.
  /// Tokens of the prompt from position prompt_start with their log-probabilities, where they were asked for;
  /// in pieces, with sequence 0. After a preemption or replay they may come again.
  std::span<const decoding::SampledToken> prompt = {};
  std::int32_t prompt_start = 0;
};

/// A text for an encoder that stands alone.
struct EncodeRequest {
  RequestId id = 0;
  generation::EncodeKind kind = generation::EncodeKind::kEmbed;
  std::vector<std::int32_t> ids;                             ///< Not empty.
  std::vector<std::int32_t> token_types;                     ///< Empty, or one for each id.
  generation::Pooling pooling = generation::Pooling::kMean;  ///< kEmbed.
  bool normalize = true;                                     ///< kEmbed: to length 1 (Euclidean).
};

/// Receives events, on the engine's thread.
class EventSink {
 public:
  virtual ~EventSink() = default;
  /// All events of one step, at most one per sequence.
  virtual void on_step(std::span<const SequenceEvent> events) = 0;
};

}  // namespace peregrine::engine
