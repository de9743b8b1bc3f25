// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace peregrine::engine {

/// How many rows of prompts a step may compute beside the decodes, so that whoever reads a stream waits for
/// its next token no longer than a target, however long the prompts are that others send (chunked prefill,
/// Agrawal et al. 2023, "SARATHI", with the size of the chunks measured instead of configured). Learns from
/// how long steps took. What is computed does not depend on it, only when. Not thread-safe.
class PrefillPace {
 public:
  /// `target`: seconds that a step which decodes should take at most.
  explicit PrefillPace(double target) : target_(target) {}

  /// A step with so many decoded rows and rows of prompts took `seconds`. Steps with neither say nothing.
  void note(double seconds, std::int32_t decodes, std::int32_t prompt_rows);

  /// Rows of prompts that fit beside the decodes; a few even where the decodes alone take too long, since
  /// prompts that never get on would be worse.
  std::int32_t rows() const;

 private:
  double target_;
  double decode_seconds_ = 0;  ///< Of a step that only decodes; 0: none was seen.
  double row_seconds_ = 0;     ///< That a row of a prompt adds; 0: none was seen.
};

}  // namespace peregrine::engine
