// SPDX-License-Identifier: Apache-2.0
#include "numerics/judge.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

namespace peregrine::testing {

Judged judge(const Oracle& oracle, std::vector<std::int32_t> tokens, std::int64_t prompt_tokens,
             std::int64_t first, const std::vector<std::int32_t>& ids, NarrowTypes types) {
  Judged judged;
  judged.tokens = std::move(tokens);
  judged.prompt_tokens = prompt_tokens;
  const OracleTrace trace = oracle.forward(judged.tokens, prompt_tokens);
  judged.exact = trace.logits;
  for (auto position = first; position < trace.logits.rows; ++position) {
    Checked checked;
    checked.position = position;
    const double* exact = trace.logits.row(position);
    const auto top = std::max_element(ids.begin(), ids.end(),
                                      [&](std::int32_t a, std::int32_t b) { return exact[a] < exact[b]; });
    checked.top = *top;
    checked.bounds =
        bound_logits(oracle, trace, position, ids, static_cast<std::size_t>(top - ids.begin()), types);
    checked.decided = true;
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const double lead = exact[*top] - exact[ids[i]];
      if (ids[i] != *top && lead <= checked.bounds.lead[i]) checked.decided = false;
    }
    judged.checked.push_back(std::move(checked));
  }
  return judged;
}

double Found::spread() const { return std::sqrt(squares / logits); }

void hold(const Judged& judged, const Rows& logits, Found& found) {
  ASSERT_EQ(logits.rows, judged.exact.rows);
  for (const Checked& checked : judged.checked) {
    const double* exact = judged.exact.row(checked.position);
    const double* narrow = logits.row(checked.position);
    const LogitBounds& bounds = checked.bounds;
    for (std::size_t i = 0; i < bounds.logits.size(); ++i) {
      const std::int32_t id = bounds.logits[i];
      const double error = std::abs(narrow[id] - exact[id]);
      // Not EXPECT_LE(error, bound): NaN must fail.
      EXPECT_TRUE(error <= bounds.error[i])
          << "logit " << id << " at position " << checked.position << ": " << narrow[id] << " for "
          << exact[id] << " +- " << bounds.error[i];
      found.error = std::max(found.error, error);
      found.closest = std::max(found.closest, error / bounds.error[i]);
      found.squares += error * error / (bounds.spread[i] * bounds.spread[i]);
      found.logits += 1.0;
    }
    const auto best =
        *std::max_element(bounds.logits.begin(), bounds.logits.end(),
                          [&](std::int32_t a, std::int32_t b) { return narrow[a] < narrow[b]; });
    if (checked.decided) {
      EXPECT_EQ(best, checked.top) << "greedy token at position " << checked.position;
    }
    found.same += best == checked.top ? 1 : 0;
  }
}

Report::Report(const std::vector<DeviceCase>& devices) {
  fmt::print("{:30}", "largest error of a logit");
  for (const DeviceCase& device : devices) fmt::print(" {:>15}", device.name());
  fmt::print(" {:>7} {:>7} {:>7} {:>7} {:>9} {:>9} {:>7}\n", "bound", "lead", "ratio", "spread", "positions",
             "decided", "same");
}

void Report::line(const std::string& model, const std::vector<Judged>& sequences,
                  const std::vector<Found>& devices) {
  std::vector<double> errors;
  std::vector<double> leads;
  std::size_t positions = 0;
  std::size_t decided = 0;
  for (const Judged& judged : sequences) {
    for (const Checked& checked : judged.checked) {
      errors.insert(errors.end(), checked.bounds.error.begin(), checked.bounds.error.end());
      leads.insert(leads.end(), checked.bounds.lead.begin(), checked.bounds.lead.end());
      ++positions;
      decided += checked.decided ? 1 : 0;
    }
  }
  double closest = 0.0;
  double spread = 0.0;
  std::size_t same = positions;
  fmt::print("{:30}", model);
  for (const Found& found : devices) {
    fmt::print(" {:15.4f}", found.error);
    closest = std::max(closest, found.closest);
    spread = std::max(spread, found.spread());
    same = std::min(same, found.same);
  }
  const double bound = *std::max_element(errors.begin(), errors.end());
  fmt::print(" {:7.4f} {:7.4f} {:7.2f} {:7.2f} {:9} {:8.0f}% {:6.0f}%\n", bound,
             *std::max_element(leads.begin(), leads.end()), closest, spread, positions,
             100.0 * static_cast<double>(decided) / static_cast<double>(positions),
             100.0 * static_cast<double>(same) / static_cast<double>(positions));
  positions_ += positions;
  decided_ += decided;
  EXPECT_GT(spread, kLeastSpread);
  EXPECT_LT(spread, kMostSpread);
}

std::vector<std::int32_t> all_ids(const Oracle& oracle) {
  std::vector<std::int32_t> ids(static_cast<std::size_t>(oracle.config().vocab_size));
  std::iota(ids.begin(), ids.end(), 0);
  return ids;
}

}  // namespace peregrine::testing
