// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "decoding/sampler.h"
#include "generation/parameters.h"

namespace peregrine::engine {

using RequestId = std::uint64_t;

/// A request to generate: a group of `parameters.n` sequences that share a prompt, admitted, preempted and
/// cancelled together.
struct Request {
  RequestId id = 0;
  std::vector<std::int32_t> prompt_ids;  ///< Not empty.
  generation::Parameters parameters;
  /// Where `parameters.seed` is not set, the caller draws a seed and keeps it, so that a replay draws the
  /// same tokens.
  std::uint64_t seed = 0;
  /// On replay: what each sequence had generated before; empty, or one list per sequence.
  std::vector<std::vector<std::int32_t>> generated;
};

/// What happened to one sequence of a request in one step. Spans are valid during the call that hands them
/// over.
struct SequenceEvent {
  RequestId request = 0;
  std::int32_t sequence = 0;
  std::span<const decoding::SampledToken> tokens;  ///< New tokens, 0 or more; an end token is among them.
  std::optional<generation::FinishReason> finish;
  std::string_view error;  ///< Where finish is kError.
};

/// Receives events, on the engine's thread.
class EventSink {
 public:
  virtual ~EventSink() = default;
  /// All events of one step, at most one per sequence.
  virtual void on_step(std::span<const SequenceEvent> events) = 0;
};

}  // namespace peregrine::engine
