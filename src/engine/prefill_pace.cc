// SPDX-License-Identifier: Apache-2.0
#include "engine/prefill_pace.h"

#include <algorithm>

namespace peregrine::engine {
namespace {

/// Rows where nothing has been measured yet, and the fewest.
constexpr std::int32_t kUnknownRows = 64, kLeastRows = 16;
/// More than any step has.
constexpr double kMostRows = 1 << 20;
/// How much a new measurement counts beside those before it. One of few rows counts less: it is the small
/// difference of two times.
constexpr double kShare = 0.3;
constexpr double kTrustedRows = 32;

void average(double& value, double seen, double share) {
  value = value == 0 ? seen : value + share * (seen - value);
}

}  // namespace

void PrefillPace::note(double seconds, std::int32_t decodes, std::int32_t prompt_rows) {
  if (prompt_rows == 0) {
    if (decodes > 0) average(decode_seconds_, seconds, kShare);
    return;
  }
  const double beside = decodes > 0 ? decode_seconds_ : 0;
  if (decodes > 0 && beside == 0) return;  // Whose share is whose is not known.
  const auto rows = static_cast<double>(prompt_rows);
  // Never nothing, which would count as unknown.
  const double added = std::max(seconds - beside, 1e-3 * seconds) / rows;
  average(row_seconds_, added, kShare * std::min(1.0, rows / kTrustedRows));
}

std::int32_t PrefillPace::rows() const {
  if (row_seconds_ == 0) return kUnknownRows;
  const double fit = std::min((target_ - decode_seconds_) / row_seconds_, kMostRows);
  return std::max(kLeastRows, static_cast<std::int32_t>(fit));
}

}  // namespace peregrine::engine
