// SPDX-License-Identifier: Apache-2.0
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "model/load.h"
#include "numerics/judge.h"
#include "numerics/support.h"
#include "support/devices.h"
#include "support/golden.h"
#include "support/test_data.h"

// Models with int8 weights. Quantizing the weights changes the model, once and for all: what that does to the
// logits is printed. Quantizing the rows that they are multiplied by is a rounding like any other: against
// exact arithmetic on the quantized weights each logit must be within its derived bound, and the greedy token
// the same wherever the lead of the best logit over every other exceeds the bound on that lead.

namespace peregrine::testing {
namespace {

constexpr NarrowTypes kInt8 = {.compute = false, .cache = false, .int8 = true};

model::LoadOptions int8_options() {
  model::LoadOptions options;
  options.compute = options.cache = core::DType::kF32;
  options.quantization = core::Quantization::kInt8;
  return options;
}

/// The whole effect of int8 on a model, weights and activations: against the same model in float32.
struct Effect {
  double squares = 0.0;  ///< Of the changes of logits...
  double logits = 0.0;   ///< ... over so many...
  double size = 0.0;     ///< ... and the sum of their squares, less their mean.
  double largest = 0.0;  ///< Change.
  std::size_t positions = 0;
  std::size_t same = 0;  ///< Positions with the greedy token of float32.

  void add(const Rows& before, const Rows& after, std::int64_t first) {
    for (std::int64_t r = first; r < before.rows; ++r) {
      double mean = 0.0;
      for (std::int64_t i = 0; i < before.cols; ++i)
        mean += before.row(r)[i] / static_cast<double>(before.cols);
      for (std::int64_t i = 0; i < before.cols; ++i) {
        const double change = after.row(r)[i] - before.row(r)[i];
        squares += change * change;
        size += (before.row(r)[i] - mean) * (before.row(r)[i] - mean);
        largest = std::max(largest, std::abs(change));
        logits += 1.0;
      }
      same += top_id(before, r) == top_id(after, r) ? 1 : 0;
      ++positions;
    }
  }

  void print(const std::string& model) const {
    fmt::print(
        "{:30} int8 for float32: logits off by {:.4f} (root mean square), {:.4f} at most, of {:.4f}; "
        "{} of {} greedy tokens the same\n",
        model, std::sqrt(squares / logits), largest, std::sqrt(size / logits), same, positions);
  }
};

void run_golden(const std::string& fixture, const std::vector<DeviceCase>& devices, Report& report) {
  SCOPED_TRACE(fixture);
  const GoldenDecoder golden = read_golden_decoder(test_data() / "golden" / fixture);
  const Oracle oracle = golden_oracle(fixture, core::DType::kI8);
  const Oracle before = golden_oracle(fixture, core::DType::kF32);
  std::vector<Judged> sequences;
  for (const auto& prompt : golden.prompts) {
    const auto tokens = static_cast<std::int64_t>(prompt.size());
    sequences.push_back(judge(oracle, prompt, tokens, 0, all_ids(oracle), kInt8));
  }
  std::vector<Found> found;
  Effect effect;
  for (const DeviceCase& device_case : devices) {
    SCOPED_TRACE(device_case.name());
    const auto device = device_case.create();
    const auto loaded = model::load_model(test_data() / "golden" / fixture, *device, int8_options());
    ASSERT_EQ(loaded.decoder->types().quantization, core::Quantization::kInt8);
    found.emplace_back();
    for (const Judged& judged : sequences) {
      const Rows logits = device_logits(*device, *loaded.decoder, judged.tokens, judged.prompt_tokens);
      hold(judged, logits, found.back());
      if (device_case.name() == devices.back().name()) {
        effect.add(before.forward(judged.tokens, judged.prompt_tokens).logits, logits, 0);
      }
    }
  }
  report.line(fixture, sequences, found);
  effect.print(fixture);
}

TEST(Int8Models, GoldenModelsStayWithinTheBound) {
  PEREGRINE_REQUIRE_TEST_DATA("golden");
  const auto devices = all_devices();
  Report report(devices);
  for (const char* fixture : {"falcon_7b", "falcon_40b", "falcon_rw_many_heads", "llama_gqa", "llama_tied",
                              "gpt_neox", "qwen2", "stablelm_parallel_qkln"}) {
    run_golden(fixture, devices, report);
  }
  EXPECT_GT(report.decided(), 0u) << "the bound decides no token";
}

TEST(Int8Models, RealWidthStaysWithinTheBound) {
  const auto devices = all_devices();
  Report report(devices);
  const std::string spec = "falcon-7b:layers=1,vocab=512";
  RandomModel model(spec, 5);
  std::vector<Judged> sequences;
  Rows before;
  {
    const Oracle oracle = model.oracle(core::DType::kI8);
    std::vector<std::int32_t> ids;  // all of them would take a minute
    for (std::int32_t id = 3; id < 512; id += 21) ids.push_back(id);
    sequences.push_back(judge(oracle, {17, 400, 3, 77}, 4, 3, ids, kInt8));
    before = model.oracle().forward(sequences[0].tokens, 4).logits;
  }
  std::vector<Found> found;
  Effect effect;
  for (const DeviceCase& device_case : devices) {
    SCOPED_TRACE(device_case.name());
    const auto device = device_case.create();
    const auto decoder = model.load(*device, {.weights = core::DType::kBF16,
                                              .compute = core::DType::kF32,
                                              .cache = core::DType::kF32,
                                              .quantization = core::Quantization::kInt8});
    found.emplace_back();
    const Rows logits = device_logits(*device, *decoder, sequences[0].tokens, 4);
    hold(sequences[0], logits, found.back());
    if (device_case.name() == devices.back().name()) effect.add(before, logits, 0);
  }
  report.line(spec, sequences, found);
  effect.print(spec);
}

}  // namespace
}  // namespace peregrine::testing
