// SPDX-License-Identifier: Apache-2.0
#include "engine/request_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "core/error.h"

namespace peregrine::engine {
namespace {

constexpr BatchLimits kLimits{.max_sequences = 4,
                              .prefill_tokens = 8,
                              .max_model_length = 100,
                              .kv_blocks = 10,
                              .steps_in_flight = 1,
                              .vocab_size = 50};

Request valid() {
  Request request;
  request.id = 1;
  request.prompt_ids = {1, 2, 3};
  request.parameters.max_new_tokens = 5;
  return request;
}

std::string refusal(const std::function<void(Request&)>& change) {
  Request request = valid();
  change(request);
  try {
    check_request(request, kLimits);
  } catch (const core::Error& error) {
    return std::string(core::to_string(error.kind())) + ": " + error.what();
  }
  return "accepted";
}

TEST(RequestCheck, CountsBlocks) {
  EXPECT_EQ(blocks_needed(16, 1, 4), 1) << "the first token needs no room of its own";
  EXPECT_EQ(blocks_needed(17, 1, 4), 2);
  EXPECT_EQ(blocks_needed(16, 2, 1), 2);
  EXPECT_EQ(blocks_needed(16, 17, 1), 2);
  EXPECT_EQ(blocks_needed(16, 18, 1), 3);
  EXPECT_EQ(blocks_needed(16, 2, 3), 1 + 3);
  EXPECT_EQ(blocks_needed(20, 2, 3), 1 + 3) << "the part-full block is copied";
  EXPECT_EQ(blocks_needed(40, 30, 2), 2 + 2 * 3);
}

TEST(RequestCheck, ReturnsWhatFitsTheContext) {
  EXPECT_EQ(check_request(valid(), kLimits), 5);
  Request request = valid();
  request.parameters.max_new_tokens = 2'000'000'000;
  EXPECT_EQ(check_request(request, kLimits), 97);
  request.prompt_ids.assign(99, 7);
  EXPECT_EQ(check_request(request, kLimits), 1);
}

TEST(RequestCheck, RefusalsNameTheNumbers) {
  using ::testing::AllOf;
  using ::testing::HasSubstr;
  EXPECT_THAT(refusal([](auto& r) { r.prompt_ids.clear(); }), HasSubstr("the prompt has no tokens"));
  EXPECT_THAT(
      refusal([](auto& r) { r.prompt_ids.assign(100, 1); }),
      AllOf(HasSubstr("the prompt has 100 tokens"), HasSubstr("a context of 100"), HasSubstr("at most 99")));
  EXPECT_THAT(refusal([](auto& r) { r.prompt_ids[2] = 50; }),
              HasSubstr("invalid_argument: prompt_ids[2] is 50; the model's token ids are 0 to 49"));
  EXPECT_THAT(refusal([](auto& r) { r.prompt_ids[0] = -1; }), HasSubstr("prompt_ids[0] is -1"));
  EXPECT_THAT(refusal([](auto& r) { r.parameters.n = 5; }), HasSubstr("n is 5; allowed is 1 to 4"));
  EXPECT_THAT(refusal([](auto& r) { r.parameters.n = 0; }), HasSubstr("n is 0"));
  EXPECT_THAT(refusal([](auto& r) { r.parameters.max_new_tokens = 0; }), HasSubstr("max_new_tokens is 0"));
  EXPECT_THAT(refusal([](auto& r) { r.parameters.num_beams = 5; }),
              HasSubstr("num_beams is 5; allowed is 1 to 4"));
  EXPECT_THAT(refusal([](auto& r) {
                r.parameters.num_beams = 2;
                r.parameters.n = 3;
              }),
              HasSubstr("n is 3; allowed is 1 to 2 (num_beams)"));
  EXPECT_THAT(refusal([](auto& r) { r.parameters.best_of = 9; }),
              HasSubstr("best_of is 9; allowed is 1 to 4"));
  EXPECT_THAT(refusal([](auto& r) { r.encoder_ids = {1}; }), HasSubstr("the model has none"));
  EXPECT_THAT(refusal([](auto& r) {
                r.prompt_ids.assign(40, 1);
                r.parameters.max_new_tokens = 50;
                r.parameters.n = 3;
              }),
              AllOf(HasSubstr("needs 14 KV blocks of 16 tokens"), HasSubstr("prompt of 40 tokens"),
                    HasSubstr("50 new tokens for each of 3 sequences"), HasSubstr("the cache has 10")));
  EXPECT_THAT(refusal([](auto& r) {
                r.generated = {{1}, {2}};
              }),
              HasSubstr("generated has tokens of 2 sequences; the request has n=1"));
  EXPECT_THAT(refusal([](auto& r) {
                r.generated = {{1, 2, 3, 4, 5, 6}};
              }),
              HasSubstr("generated has 6 tokens"));
  EXPECT_THAT(refusal([](auto& r) { r.generated = {{1, 77}}; }), HasSubstr("generated[1] is 77"));
}

}  // namespace
}  // namespace peregrine::engine
