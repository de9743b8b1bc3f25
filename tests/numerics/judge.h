// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "support/devices.h"
#include "support/oracle.h"
#include "support/rounding_bound.h"

// Logits of devices held against exact ones, within derived bounds.

namespace peregrine::testing {

/// A position of a sequence, with what is to be held there.
struct Checked {
  std::int64_t position = 0;
  std::int32_t top = 0;  ///< The best token by exact arithmetic.
  LogitBounds bounds;
  bool decided = false;  ///< Whether no error within the bounds can change the token.
};

/// A sequence of tokens, exact values for it, and bounds at some positions.
struct Judged {
  std::vector<std::int32_t> tokens;
  std::int64_t prompt_tokens = 0;
  Rows exact;
  std::vector<Checked> checked;
};

/// Bounds for the logits `ids` at positions [first, end of tokens), where `types` are narrow.
Judged judge(const Oracle& oracle, std::vector<std::int32_t> tokens, std::int64_t prompt_tokens,
             std::int64_t first, const std::vector<std::int32_t>& ids, NarrowTypes types);

/// What a device showed over all judged sequences of a model.
struct Found {
  double error = 0.0;    ///< Largest error of a logit.
  double closest = 0.0;  ///< Largest error as a share of its bound.
  double squares = 0.0;  ///< Sum of the squared errors, each in units of its standard deviation...
  double logits = 0.0;   ///< ... over so many logits.
  std::size_t same = 0;  ///< Positions with the exact greedy token.

  /// Root mean square of the errors in units of their standard deviation: 1 where values round as assumed.
  double spread() const;
};

/// Fails the test where a logit is outside its bound, or a token that is decided is another one.
void hold(const Judged& judged, const Rows& logits, Found& found);

/// The table: one line for each model. Fails the test where the errors are not spread as they must be.
class Report {
 public:
  explicit Report(const std::vector<DeviceCase>& devices);

  void line(const std::string& model, const std::vector<Judged>& sequences,
            const std::vector<Found>& devices);

  std::size_t positions() const { return positions_; }
  std::size_t decided() const { return decided_; }

 private:
  std::size_t positions_ = 0;
  std::size_t decided_ = 0;
};

/// All token ids of a model.
std::vector<std::int32_t> all_ids(const Oracle& oracle);

}  // namespace peregrine::testing
