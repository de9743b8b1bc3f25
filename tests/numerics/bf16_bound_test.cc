// SPDX-License-Identifier: Apache-2.0
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "model/load.h"
#include "numerics/support.h"
#include "support/devices.h"
#include "support/golden.h"
#include "support/rounding_bound.h"
#include "support/test_data.h"

// bfloat16 weights, arithmetic and cache, and float32 with a cache in 8 bits, on every device and instruction
// set, against exact arithmetic on the same weights: each logit within its derived bound, and the same greedy
// token wherever the lead of the best logit over every other exceeds the bound on that lead. Prints the
// errors beside the bounds.

namespace peregrine::testing {
namespace {

/// How a model is computed, and what that rounds.
struct Scheme {
  NarrowTypes types;
  core::DType weights, compute, cache;

  model::LoadOptions options() const { return {.weights = weights, .compute = compute, .cache = cache}; }
};

constexpr Scheme kBFloat16 = {
    {.compute = true, .cache = true}, core::DType::kBF16, core::DType::kBF16, core::DType::kBF16};
constexpr Scheme kInt8Cache = {{.compute = false, .cache = false, .int8_cache = true},
                               core::DType::kF32,
                               core::DType::kF32,
                               core::DType::kI8};

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

/// Bounds for the logits `ids` at positions [first, end of tokens).
Judged judge(const Oracle& oracle, std::vector<std::int32_t> tokens, std::int64_t prompt_tokens,
             std::int64_t first, const std::vector<std::int32_t>& ids, const Scheme& scheme) {
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
        bound_logits(oracle, trace, position, ids, static_cast<std::size_t>(top - ids.begin()), scheme.types);
    checked.decided = true;
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const double lead = exact[*top] - exact[ids[i]];
      if (ids[i] != *top && lead <= checked.bounds.lead[i]) checked.decided = false;
    }
    judged.checked.push_back(std::move(checked));
  }
  return judged;
}

/// What a device showed over all judged sequences of a model.
struct Found {
  double error = 0.0;    ///< Largest error of a logit.
  double closest = 0.0;  ///< Largest error as a share of its bound.
  double squares = 0.0;  ///< Sum of the squared errors, each in units of its standard deviation...
  double logits = 0.0;   ///< ... over so many logits.
  std::size_t same = 0;  ///< Positions with the exact greedy token.

  /// Root mean square of the errors in units of their standard deviation: 1 where values round as assumed.
  double spread() const { return std::sqrt(squares / logits); }
};

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

/// The table: one line for each model.
class Report {
 public:
  explicit Report(const std::vector<DeviceCase>& devices) {
    fmt::print("{:30}", "largest error of a logit");
    for (const DeviceCase& device : devices) fmt::print(" {:>15}", device.name());
    fmt::print(" {:>7} {:>7} {:>7} {:>7} {:>9} {:>9} {:>7}\n", "bound", "lead", "ratio", "spread",
               "positions", "decided", "same");
  }

  void line(const std::string& model, const std::vector<Judged>& sequences,
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

  std::size_t positions() const { return positions_; }
  std::size_t decided() const { return decided_; }

 private:
  std::size_t positions_ = 0;
  std::size_t decided_ = 0;
};

std::vector<std::int32_t> all_ids(const Oracle& oracle) {
  std::vector<std::int32_t> ids(static_cast<std::size_t>(oracle.config().vocab_size));
  std::iota(ids.begin(), ids.end(), 0);
  return ids;
}

void run_golden(const std::string& fixture, bool with_greedy, const Scheme& scheme,
                const std::vector<DeviceCase>& devices, Report& report) {
  SCOPED_TRACE(fixture);
  const GoldenDecoder golden = read_golden_decoder(test_data() / "golden" / fixture);
  const Oracle oracle = golden_oracle(fixture, scheme.weights);
  std::vector<Judged> sequences;
  for (std::size_t p = 0; p < golden.prompts.size(); ++p) {
    std::vector<std::int32_t> tokens = golden.prompts[p];
    const auto prompt_tokens = static_cast<std::int64_t>(tokens.size());
    const auto& new_ids = golden.greedy[p].new_ids;
    if (with_greedy) tokens.insert(tokens.end(), new_ids.begin(), new_ids.end() - 1);
    sequences.push_back(
        judge(oracle, std::move(tokens), prompt_tokens, prompt_tokens - 1, all_ids(oracle), scheme));
    if (!with_greedy) continue;
    for (std::size_t i = 0; i < new_ids.size(); ++i) {
      EXPECT_EQ(sequences.back().checked.at(i).top, new_ids[i]) << "exact arithmetic, prompt " << p;
    }
  }
  std::vector<Found> found;
  for (const DeviceCase& device_case : devices) {
    SCOPED_TRACE(device_case.name());
    const auto device = device_case.create();
    const auto loaded = model::load_model(test_data() / "golden" / fixture, *device, scheme.options());
    ASSERT_EQ(loaded.decoder->types().compute, scheme.compute);
    ASSERT_EQ(loaded.decoder->types().cache, scheme.cache);
    found.emplace_back();
    for (const Judged& judged : sequences) {
      hold(judged, device_logits(*device, *loaded.decoder, judged.tokens, judged.prompt_tokens),
           found.back());
    }
  }
  report.line(fixture, sequences, found);
}

// The fixtures stored as bfloat16, at every step of their greedy continuations.
TEST(Bfloat16, StoredModelsStayWithinTheBound) {
  PEREGRINE_REQUIRE_TEST_DATA("golden");
  const auto devices = all_devices();
  Report report(devices);
  for (const char* fixture : {"falcon_7b_bf16", "gpt_neox_bf16"})
    run_golden(fixture, true, kBFloat16, devices, report);
  EXPECT_GT(report.decided(), 0u) << "the bound decides no token";
}

// Every other kind of model, its float32 weights rounded to bfloat16, at the end of each prompt.
TEST(Bfloat16, RoundedModelsStayWithinTheBound) {
  PEREGRINE_REQUIRE_TEST_DATA("golden");
  const auto devices = all_devices();
  Report report(devices);
  for (const std::string& fixture : golden_fixtures({"falcon", "llama", "gpt_neox", "qwen2", "stablelm"})) {
    // The same weights in other files.
    const bool repeated = fixture.ends_with("_sharded") || fixture.ends_with("_bin") ||
                          fixture.ends_with("_hub_layout") || fixture.ends_with("_bf16") ||
                          fixture.ends_with("_fp16");
    if (!repeated) run_golden(fixture, false, kBFloat16, devices, report);
  }
  EXPECT_GT(report.positions(), 60u);
  EXPECT_GT(report.decided(), 0u) << "the bound decides no token";
}

// A model of each kind of heads and positions with its cache in 8 bits, at every step of its continuations.
TEST(Int8Cache, ModelsStayWithinTheBound) {
  PEREGRINE_REQUIRE_TEST_DATA("golden");
  const auto devices = all_devices();
  Report report(devices);
  for (const char* fixture : {"falcon_7b", "falcon_40b", "llama_gqa", "gpt_neox"}) {
    run_golden(fixture, true, kInt8Cache, devices, report);
  }
  EXPECT_GT(report.decided(), 0u) << "the bound decides no token";
}

void run_random(const std::string& spec, const std::vector<DeviceCase>& devices, Report& report) {
  SCOPED_TRACE(spec);
  RandomModel model(spec, 5);
  std::vector<Judged> sequences;
  {
    const Oracle oracle = model.oracle();  // up to 0.8 GB, not needed once it has judged
    std::vector<std::int32_t> ids;         // all of them would take a minute
    for (std::int32_t id = 3; id < 512; id += 21) ids.push_back(id);
    sequences.push_back(judge(oracle, {17, 400, 3, 77}, 4, 3, ids, kBFloat16));
  }
  std::vector<Found> found;
  for (const DeviceCase& device_case : devices) {
    SCOPED_TRACE(device_case.name());
    const auto device = device_case.create();
    const auto decoder = model.load(*device);
    found.emplace_back();
    hold(sequences[0], device_logits(*device, *decoder, sequences[0].tokens, 4), found.back());
  }
  report.line(spec, sequences, found);
}

// One layer of real width: sums of 4,544 and 18,176 terms, where float32 accumulation counts most; norms of
// heads of 128.
TEST(Bfloat16, RealWidthStaysWithinTheBound) {
  const auto devices = all_devices();
  Report report(devices);
  for (const char* spec : {"falcon-7b:layers=1,vocab=512", "qwen3-0.6b:layers=1,vocab=512"}) {
    run_random(spec, devices, report);
  }
}

}  // namespace
}  // namespace peregrine::testing
