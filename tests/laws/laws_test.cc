// SPDX-License-Identifier: Apache-2.0
#include "laws/laws.h"

#include <gtest/gtest.h>

#include <ostream>
#include <string>

#include "support/golden.h"
#include "support/test_data.h"

namespace peregrine {
namespace {

using testing::DeviceCase;
using testing::expect_same;
using testing::LawBench;

/// Weights, arithmetic and cache of one type, as far as a test is concerned.
struct Types {
  const char* name;
  std::optional<core::DType> weights;
  core::DType compute;
  core::Quantization quantization = core::Quantization::kNone;
  std::optional<core::DType> cache = std::nullopt;  ///< Nothing: as the arithmetic.
};

constexpr Types kFloat32{"float32", std::nullopt, core::DType::kF32};
constexpr Types kBFloat16{"bfloat16", core::DType::kBF16, core::DType::kBF16};
constexpr Types kInt8{"int8", std::nullopt, core::DType::kF32, core::Quantization::kInt8};
constexpr Types kInt8BFloat16{"int8_bfloat16", core::DType::kBF16, core::DType::kBF16,
                              core::Quantization::kInt8};
constexpr Types kInt8Cache{"int8_cache", core::DType::kBF16, core::DType::kBF16, core::Quantization::kNone,
                           core::DType::kI8};

model::LoadOptions load_options(const Types& types) {
  return {.weights = types.weights,
          .compute = types.compute,
          .cache = types.cache.value_or(types.compute),
          .quantization = types.quantization,
          .progress = {},
          .random_seed = 3};
}

struct LawCase {
  std::string model;  ///< A golden fixture, or a random shape where it has a colon.
  DeviceCase device;
  Types types;
};

void PrintTo(const LawCase& law, std::ostream* out) {
  *out << law.model << " on " << law.device.name() << " in " << law.types.name;
}

testing::ModelLoader loader_of(const LawCase& law) {
  return [&law](ops::Device& device) {
    if (law.model.find(':') != std::string::npos)
      return model::load_random_model(law.model, device, load_options(law.types));
    return model::load_model(testing::test_data() / "golden" / law.model, device, load_options(law.types));
  };
}

std::string name_of(const ::testing::TestParamInfo<LawCase>& info) {
  std::string name = info.param.model + "_" + info.param.device.name() + "_" + info.param.types.name;
  for (char& c : name) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
  }
  return name;
}

engine::EngineOptions with_prefill(std::int32_t tokens, std::int32_t in_flight = 1) {
  engine::EngineOptions options;
  options.max_rolling_batch_prefill_tokens = tokens;
  options.steps_in_flight = in_flight;
  return options;
}

/// Every law on small models: each family, each device, both arithmetics.
class SmallModelLaws : public ::testing::TestWithParam<LawCase> {};

TEST_P(SmallModelLaws, AllHold) {
  PEREGRINE_REQUIRE_TEST_DATA("golden");
  const LawBench bench(GetParam().device, loader_of(GetParam()));
  // 33 + 23 tokens stay within the shortest fixture's context.
  const auto requests = bench.mixed_requests(16, {1, 5, 16, 33, 2, 17, 31}, 23);
  const auto expected = bench.alone(requests, with_prefill(512));

  expect_same(bench.together(requests, with_prefill(512)), expected, "alone = among 16");
  expect_same(bench.together(requests, with_prefill(1)), expected, "prefill chunk 1 = all");
  expect_same(bench.together(requests, with_prefill(7)), expected, "prefill chunk 7 = all");
  expect_same(bench.together(requests, with_prefill(64, 2)), expected, "two steps in flight = one");
  expect_same(bench.together(requests, with_prefill(7, 3)), expected, "three steps in flight = one");
  expect_same(bench.preempted(requests, with_prefill(16)), expected, "preempted = not");
  expect_same(bench.preempted(requests, with_prefill(16, 3)), expected,
              "preempted with steps in flight = not");
  engine::EngineOptions few_blocks = with_prefill(32);
  few_blocks.kv_blocks = 17;  // the largest group needs 16; preemption all the time
  expect_same(bench.together(requests, few_blocks), expected, "few blocks = many");
  expect_same(bench.beside_cancelled(requests, with_prefill(24, 2)), expected,
              "a cancelled neighbour changes nothing");
  expect_same(bench.replayed(requests, expected, with_prefill(20)), expected, "replayed = undisturbed");

  const LawBench single_thread(GetParam().device, loader_of(GetParam()), 1);
  expect_same(single_thread.together(requests, with_prefill(512)), expected, "threads 1 = 2");
}

std::vector<LawCase> small_cases() {
  std::vector<LawCase> cases;
  for (const DeviceCase& device : testing::all_devices()) {
    for (const char* model : {"falcon_7b", "falcon_40b", "falcon_rw_many_heads", "llama_gqa",
                              "llama_rope_dynamic", "gpt_neox", "mixtral", "t5_v1_0", "t5_v1_1"}) {
      for (const Types& types : {kFloat32, kBFloat16}) cases.push_back({model, device, types});
    }
    for (const char* model : {"falcon_7b", "llama_gqa", "mixtral", "t5_v1_1"}) {
      for (const Types& types : {kInt8, kInt8BFloat16}) cases.push_back({model, device, types});
    }
    cases.push_back({"falcon_7b_fp16", device, kFloat32});
    cases.push_back({"llama_gqa", device, kInt8Cache});
    cases.push_back(
        {"t5_v1_1",
         device,
         {"int8_cache", std::nullopt, core::DType::kF32, core::Quantization::kNone, core::DType::kI8}});
    // A shared expert, more of the others.
    cases.push_back(
        {"qwen1.5-moe-a2.7b:layers=2,vocab=211,hidden=64,heads=4,kv_heads=2,experts=9,"
         "expert_intermediate=40,shared_intermediate=56",
         device, kBFloat16});
    cases.push_back({"gpt_neox_bf16", device, {"bfloat16_weights", std::nullopt, core::DType::kF32}});
  }
  return cases;
}
INSTANTIATE_TEST_SUITE_P(Models, SmallModelLaws, ::testing::ValuesIn(small_cases()), name_of);

/// The laws on matrices of real width, where cache blocking, tiles of rows and several attention segments
/// come in.
class RealWidthLaws : public ::testing::TestWithParam<LawCase> {};

TEST_P(RealWidthLaws, LongPromptInAnyChunking) {
  const LawBench bench(GetParam().device, loader_of(GetParam()));
  auto requests = bench.mixed_requests(1, {1100}, 3);
  const auto expected = bench.alone(requests, with_prefill(2048));
  expect_same(bench.alone(requests, with_prefill(257)), expected, "chunk 257 = all");
  expect_same(bench.alone(requests, with_prefill(33)), expected, "chunk 33 = all");
  expect_same(bench.alone(requests, with_prefill(7)), expected, "chunk 7 = all");
}

TEST_P(RealWidthLaws, BatchesOfManySizes) {
  const LawBench bench(GetParam().device, loader_of(GetParam()));
  const auto requests = bench.mixed_requests(16, {3, 130, 40, 1, 17}, 5);
  const auto expected = bench.alone(requests, with_prefill(512));
  expect_same(bench.together(requests, with_prefill(512, 2)), expected, "alone = among 16");
  expect_same(bench.together(requests, with_prefill(2)), expected, "chunk 2 = all");
  expect_same(bench.preempted(requests, with_prefill(257)), expected, "preempted = not");
  expect_same(bench.beside_cancelled(requests, with_prefill(128)), expected,
              "a cancelled neighbour changes nothing");
  const LawBench single_thread(GetParam().device, loader_of(GetParam()), 1);
  expect_same(single_thread.together(requests, with_prefill(512)), expected, "threads 1 = 2");
}

TEST_P(RealWidthLaws, TokenByTokenPrefill) {
  const LawBench bench(GetParam().device, loader_of(GetParam()));
  const auto requests = bench.mixed_requests(1, {150}, 2);  // crosses a segment border
  expect_same(bench.alone(requests, with_prefill(1)), bench.alone(requests, with_prefill(512)),
              "chunk 1 = all");
}

std::vector<LawCase> real_width_cases() {
  // Falcon-7B's width and heads (71 queries on one key-value head), its feed-forward part narrowed to keep
  // the test short.
  const std::string falcon = "falcon-7b:layers=2,vocab=1031,intermediate=4544";
  std::vector<LawCase> cases;
  for (const std::string& isa : ops::available_isas()) {
    cases.push_back({falcon, {"cpu", isa}, {"bfloat16", core::DType::kBF16, core::DType::kBF16}});
    if (isa == "avx2" || isa == "avx512") {
      cases.push_back({falcon, {"cpu", isa}, {"float32", core::DType::kF32, core::DType::kF32}});
    }
    // int8 is multiplied in two ways: by dot products of bytes, and widened.
    if (isa == "avx2" || isa == ops::available_isas().back()) {
      cases.push_back({falcon, {"cpu", isa}, kInt8BFloat16});
    }
  }
  cases.push_back({falcon, {"cpu", ops::available_isas().back()}, kInt8Cache});
  const std::string experts = "mixtral-8x7b:layers=1,vocab=1031,intermediate=1024";
  for (const Types& types : {kBFloat16, kInt8BFloat16}) {
    cases.push_back({experts, {"cpu", ops::available_isas().back()}, types});
  }
  // Its long text goes through the encoder in as many pieces as the budget of prompt tokens asks for.
  const std::string t5 = "flan-t5-large:layers=2,vocab=1031";
  for (const Types& types : {kFloat32, kBFloat16, kInt8}) {
    cases.push_back({t5, {"cpu", ops::available_isas().back()}, types});
  }
  return cases;
}
INSTANTIATE_TEST_SUITE_P(Random, RealWidthLaws, ::testing::ValuesIn(real_width_cases()), name_of);

}  // namespace
}  // namespace peregrine
