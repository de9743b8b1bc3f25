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
        judge(oracle, std::move(tokens), prompt_tokens, prompt_tokens - 1, all_ids(oracle), scheme.types));
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
    sequences.push_back(judge(oracle, {17, 400, 3, 77}, 4, 3, ids, kBFloat16.types));
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
