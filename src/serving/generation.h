// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "generation/parameters.h"
#include "generation/sampled_token.h"

namespace peregrine::serving {

/// What a dialect asks of a model.
struct GenerationRequest {
  std::string request_id;                      ///< The client's, for logs.
  std::vector<std::int32_t> prompt_ids;        ///< Not empty. An encoder-decoder's answer begins with these.
  generation::Parameters parameters;           ///< Resolved; where no seed is set, one is drawn and kept.
  std::vector<std::int32_t> encoder_ids = {};  ///< The text of an encoder-decoder model; empty for others.
};

/// What one sequence of a request received since the last look.
struct SequenceUpdate {
  std::int32_t sequence = 0;
  /// Log-probabilities of the prompt's tokens from its second, where they were asked for: the next ones, each
  /// once.
  std::vector<generation::SampledToken> prompt;
  std::vector<generation::SampledToken> tokens;  ///< 0 or more; an end token is among them.
  std::optional<generation::FinishReason> finish;
  std::string error;           ///< Where finish is kError.
  std::optional<float> score;  ///< Of a hypothesis of a beam search, which comes whole.
};

/// When things happened to a request, on the steady clock.
struct Timing {
  double queued_seconds = 0;       ///< From submission until it went to the host.
  double first_token_seconds = 0;  ///< From submission until the first token; 0 where there is none yet.
};

/// A request on its way: tokens wait here until they are taken, however slowly that happens (a few bytes for
/// each, at most max_new_tokens of them), and the engine is never held up. Destroying it cancels what has not
/// ended. Used by one thread at a time, which need not be always the same.
class Generation {
 public:
  virtual ~Generation() = default;

  /// Appends to `out` what came since the last call, at most one update for each sequence. Returns true once
  /// every sequence has ended and all was taken. Throws Error where the request as a whole failed (the model
  /// was unloaded, the host refused it, ...); every later call throws the same.
  virtual bool take(std::vector<SequenceUpdate>& out) = 0;

  virtual Timing timing() const = 0;
};

}  // namespace peregrine::serving
