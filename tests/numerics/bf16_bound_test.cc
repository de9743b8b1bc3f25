// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "model/load.h"
#include "numerics/judge.h"
#include "numerics/support.h"
#include "support/devices.h"
#include "support/golden.h"
#include "support/rounding_bound.h"
#include "support/test_data.h"

// bfloat16 weights, arithmetic and cache on every device and instruction set, against exact arithmetic on the
// same weights: each logit within its derived bound, and the same greedy token wherever the lead of the best
// logit over every other exceeds the bound on that lead. Prints the errors beside the bounds.

namespace peregrine::testing {
namespace {

constexpr NarrowTypes kNarrow = {.compute = true, .cache = true};

model::LoadOptions bfloat16_options() {
  return {.weights = core::DType::kBF16, .compute = core::DType::kBF16, .cache = core::DType::kBF16};
}

void run_golden(const std::string& fixture, bool with_greedy, const std::vector<DeviceCase>& devices,
                Report& report) {
  SCOPED_TRACE(fixture);
  const GoldenDecoder golden = read_golden_decoder(test_data() / "golden" / fixture);
  const Oracle oracle = golden_oracle(fixture, core::DType::kBF16);
  std::vector<Judged> sequences;
  for (std::size_t p = 0; p < golden.prompts.size(); ++p) {
    std::vector<std::int32_t> tokens = golden.prompts[p];
    const auto prompt_tokens = static_cast<std::int64_t>(tokens.size());
    const auto& new_ids = golden.greedy[p].new_ids;
    if (with_greedy) tokens.insert(tokens.end(), new_ids.begin(), new_ids.end() - 1);
    sequences.push_back(
        judge(oracle, std::move(tokens), prompt_tokens, prompt_tokens - 1, all_ids(oracle), kNarrow));
    if (!with_greedy) continue;
    for (std::size_t i = 0; i < new_ids.size(); ++i) {
      EXPECT_EQ(sequences.back().checked.at(i).top, new_ids[i]) << "exact arithmetic, prompt " << p;
    }
  }
  std::vector<Found> found;
  for (const DeviceCase& device_case : devices) {
    SCOPED_TRACE(device_case.name());
    const auto device = device_case.create();
    const auto loaded = model::load_model(test_data() / "golden" / fixture, *device, bfloat16_options());
    ASSERT_EQ(loaded.decoder->types().compute, core::DType::kBF16);
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
  for (const char* fixture : {"falcon_7b_bf16", "gpt_neox_bf16"}) run_golden(fixture, true, devices, report);
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
    if (!repeated) run_golden(fixture, false, devices, report);
  }
  EXPECT_GT(report.positions(), 60u);
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
    sequences.push_back(judge(oracle, {17, 400, 3, 77}, 4, 3, ids, kNarrow));
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
