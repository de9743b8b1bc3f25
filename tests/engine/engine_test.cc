// SPDX-License-Identifier: Apache-2.0
// The engine with real decoders, mostly on the reference device. The sweep over all fixtures and devices is
// in tests/golden.

#include "engine/engine.h"

#include <gtest/gtest.h>

#include <optional>

#include "core/error.h"
#include "engine/score.h"
#include "generation/parameter_set.h"
#include "model/load.h"
#include "support/collect.h"
#include "support/golden.h"
#include "support/test_data.h"

namespace peregrine::engine {
namespace {

using ::peregrine::testing::Answers;
using ::peregrine::testing::Collector;
using ::peregrine::testing::run_to_end;

class EngineTest : public ::testing::Test {
 protected:
  void load(const std::string& fixture, const char* device = "reference") {
    const auto folder = peregrine::testing::test_data() / "golden" / fixture;
    golden_ = peregrine::testing::read_golden_decoder(folder);
    model_.reset();  // before the device that holds it
    device_ = ops::create_device(device, {.threads = 2, .isa = ""});
    model_ = model::load_model(
        folder, *device_,
        {.weights = {}, .compute = core::DType::kF32, .cache = core::DType::kF32, .progress = {}});
  }

  const model::Decoder& decoder() const { return *model_->decoder; }

  Request request(RequestId id, std::size_t prompt, std::int32_t new_tokens) const {
    Request request;
    request.id = id;
    request.prompt_ids = golden_.prompts[prompt];
    request.parameters.max_new_tokens = new_tokens;
    return request;
  }

  peregrine::testing::GoldenDecoder golden_;
  std::unique_ptr<ops::Device> device_;
  std::optional<model::LoadedModel> model_;
};

TEST_F(EngineTest, GreedyTokensAndLogProbabilities) {
  PEREGRINE_REQUIRE_TEST_DATA("golden");
  for (const char* fixture : {"falcon_7b", "llama_gqa", "gpt_neox", "falcon_rw"}) {
    load(fixture);
    EngineOptions options;
    options.max_rolling_batch_prefill_tokens = 7;
    options.steps_in_flight = 2;
    Engine engine(*device_, decoder(), options);
    std::vector<Request> requests;
    for (std::size_t p = 0; p < golden_.prompts.size(); ++p) requests.push_back(request(p, p, 24));
    const Answers answers = run_to_end(engine, requests);
    for (std::size_t p = 0; p < golden_.prompts.size(); ++p) {
      EXPECT_EQ(answers.at(p)[0].ids, golden_.greedy[p].new_ids) << fixture << ", prompt " << p;
      for (std::size_t i = 0; i < answers.at(p)[0].logprobs.size(); ++i) {
        EXPECT_NEAR(answers.at(p)[0].logprobs[i], golden_.greedy[p].logprobs[i], 1e-4f) << fixture;
      }
    }
    EXPECT_EQ(engine.stats().kv_blocks_used, 0);
  }
}

TEST_F(EngineTest, GenerateCases) {
  PEREGRINE_REQUIRE_TEST_DATA("golden");
  load("falcon_7b");
  std::vector<Request> requests;
  for (std::size_t i = 0; i < golden_.cases.size(); ++i) {
    const auto& one = golden_.cases[i];
    generation::ParameterSet set;
    for (const auto& [name, value] : one.parameters) ASSERT_TRUE(set.set(name, value, true)) << name;
    requests.push_back(request(i, one.prompt, 1));
    requests.back().parameters = set.resolve(model_->directory.info(), decoder().config().vocab_size);
  }
  Engine engine(*device_, decoder(), {});
  const Answers answers = run_to_end(engine, requests);
  for (std::size_t i = 0; i < golden_.cases.size(); ++i) {
    EXPECT_EQ(answers.at(i)[0].ids, golden_.cases[i].new_ids[0]) << golden_.cases[i].name;
  }
}

class EngineOnDevice : public EngineTest, public ::testing::WithParamInterface<const char*> {};

TEST_P(EngineOnDevice, ForkedSampledGroupsArePreemptedAndReplayedWithoutATrace) {
  PEREGRINE_REQUIRE_TEST_DATA("golden");
  load("falcon_40b", GetParam());
  std::vector<Request> requests;
  for (std::size_t i = 0; i < 6; ++i) {
    requests.push_back(request(i, i % golden_.prompts.size(), 20));
    requests.back().parameters.do_sample = true;
    requests.back().parameters.n = 1 + static_cast<std::int32_t>(i % 3);
    requests.back().parameters.top_n_tokens = 2;
    requests.back().seed = 40 + i;
  }
  Answers alone;
  for (const Request& one : requests) {
    Engine engine(*device_, decoder(), {});
    alone.merge(run_to_end(engine, {one}));
  }
  EngineOptions few;
  few.kv_blocks = 12;
  few.max_rolling_batch_prefill_tokens = 8;
  for (const std::int32_t in_flight : {1, 2, 3}) {
    few.steps_in_flight = in_flight;
    Engine engine(*device_, decoder(), few);
    EXPECT_EQ(run_to_end(engine, requests), alone) << in_flight << " steps in flight";
    EXPECT_GT(engine.stats().preemptions, 0u);
  }
  EXPECT_NE(alone.at(2)[0].ids, alone.at(2)[1].ids) << "sequences of a group draw their own numbers";
  for (std::size_t kept : {1u, 7u, 20u}) {
    Request again = requests[2];
    for (std::size_t s = 0; s < 3; ++s) {
      const auto& ids = alone.at(2)[s].ids;
      const std::size_t count = s == 1 ? 0 : std::min(kept, ids.size());
      again.generated.emplace_back(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(count));
    }
    Engine engine(*device_, decoder(), few);
    const Answers rest = run_to_end(engine, {again});
    for (std::size_t s = 0; s < 3; ++s) {
      std::vector<std::int32_t> ids = again.generated[s];
      ids.insert(ids.end(), rest.at(2)[s].ids.begin(), rest.at(2)[s].ids.end());
      EXPECT_EQ(ids, alone.at(2)[s].ids) << "kept " << kept << ", sequence " << s;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, EngineOnDevice, ::testing::Values("reference", "cpu"));

TEST_F(EngineTest, ContextEndsWithLengthAndRefusalsHaveNumbers) {
  PEREGRINE_REQUIRE_TEST_DATA("golden");
  load("llama_gqa");
  EngineOptions options;
  options.max_model_length = 30;
  Engine engine(*device_, decoder(), options);
  Request longest = request(1, 0, 1'000'000);
  const Answers answers = run_to_end(engine, {longest});
  EXPECT_EQ(answers.at(1)[0].ids.size(), 30 - longest.prompt_ids.size());
  EXPECT_EQ(answers.at(1)[0].finish, generation::FinishReason::kLength);
  longest.prompt_ids.assign(30, 1);
  EXPECT_THROW(engine.submit(longest), core::Error);
  EXPECT_TRUE(engine.idle());
  EXPECT_FALSE(engine.cancel(1));
  const MemoryPlan& plan = engine.memory_plan();
  EXPECT_EQ(plan.weight_bytes, decoder().weight_bytes());
  EXPECT_EQ(plan.kv_blocks, 32 * 2);
  EXPECT_EQ(plan.kv_cache_bytes, plan.kv_block_bytes * 64);
  EXPECT_GT(plan.buffer_bytes, 0u);
  EXPECT_EQ(plan.max_model_length, 30);
  options.max_model_length = decoder().config().max_positions + 1;
  EXPECT_THROW(Engine(*device_, decoder(), options), core::Error);
}

TEST_F(EngineTest, DestroyedWithStepsInFlight) {
  PEREGRINE_REQUIRE_TEST_DATA("golden");
  load("falcon_7b");
  EngineOptions options;
  options.steps_in_flight = 4;
  Engine engine(*device_, decoder(), options);
  Collector collector;
  collector.expect(1, 2);
  Request two = request(1, 2, 20);
  two.parameters.n = 2;
  engine.submit(two);
  engine.step(collector);
  engine.step(collector);
  EXPECT_TRUE(engine.cancel(1));
}

TEST_F(EngineTest, LogitsOfATextInAnyChunking) {
  PEREGRINE_REQUIRE_TEST_DATA("golden");
  load("gpt_neox");
  const auto& ids = golden_.prompts[golden_.all_logits_prompt];
  const auto vocab = static_cast<std::size_t>(decoder().config().vocab_size);
  const std::vector<float> all = compute_logits(*device_, decoder(), ids, true);
  ASSERT_EQ(all.size(), ids.size() * vocab);
  for (std::size_t row = 0; row < ids.size(); ++row) {
    for (std::size_t i = 0; i < vocab; ++i) {
      ASSERT_NEAR(all[row * vocab + i], golden_.all_logits[row][i], 2e-4f) << "position " << row;
    }
  }
  EXPECT_EQ(compute_logits(*device_, decoder(), ids, true, 1), all);
  EXPECT_EQ(compute_logits(*device_, decoder(), ids, true, 5), all);
  const std::vector<float> last(all.end() - static_cast<std::ptrdiff_t>(vocab), all.end());
  EXPECT_EQ(compute_logits(*device_, decoder(), ids, false, 3), last);
  EXPECT_THROW(compute_logits(*device_, decoder(), {}, true), core::Error);
  EXPECT_THROW(compute_logits(*device_, decoder(), ids, true, 0), core::Error);
  const std::vector<std::int32_t> wrong = {1, static_cast<std::int32_t>(vocab)};
  EXPECT_THROW(compute_logits(*device_, decoder(), wrong, true), core::Error);
}

}  // namespace
}  // namespace peregrine::engine
