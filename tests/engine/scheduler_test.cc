// SPDX-License-Identifier: Apache-2.0
#include "engine/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "core/error.h"

namespace peregrine::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

BatchLimits limits(std::int32_t in_flight = 1) {
  return {.max_sequences = 4,
          .prefill_tokens = 10,
          .max_model_length = 100,
          .kv_blocks = 20,
          .steps_in_flight = in_flight,
          .vocab_size = 1000};
}

/// A scheduler, and a device that draws the tokens 100, 101, 102, ...
class SchedulerTest : public ::testing::Test {
 protected:
  void start(const BatchLimits& with) {
    scheduler_.emplace(with);
    model::StepLimits limits;
    limits.rows = 200;
    limits.sequences = 32;
    plan_.reserve(limits);
  }

  void submit(RequestId id, std::int32_t prompt, std::int32_t new_tokens, std::int32_t n = 1,
              std::vector<std::vector<std::int32_t>> generated = {}) {
    Request request;
    request.id = id;
    for (std::int32_t i = 0; i < prompt; ++i) request.prompt_ids.push_back(i + 1);
    request.parameters.max_new_tokens = new_tokens;
    request.parameters.n = n;
    request.parameters.eos_token_ids = {999};
    request.parameters.stop_token_ids = {998};
    request.generated = std::move(generated);
    scheduler_->submit(std::move(request), {});
  }

  bool plan() {
    const bool planned = scheduler_->plan(plan_);
    if (planned) drawn_.push_back(plan_.samples.size());
    scheduler_->check();
    return planned;
  }

  /// Collects the oldest step; each sample draws `token`, or the next number.
  std::vector<SequenceEvent> collect(std::int32_t token = -1) {
    results_.clear();
    for (std::size_t i = 0; i < drawn_.front(); ++i) {
      results_.push_back({{token < 0 ? next_++ : token, -1.0f}, {}});
    }
    drawn_.erase(drawn_.begin());
    std::vector<SequenceEvent> events;
    scheduler_->take_results({results_, {}}, events);
    scheduler_->check();
    return events;
  }

  std::vector<std::int32_t> tokens(std::size_t sequence) const {
    const auto span = plan_.sequences.at(sequence).tokens;
    return {span.begin(), span.end()};
  }

  std::int32_t used() const { return scheduler_->stats().kv_blocks_used; }

  std::optional<Scheduler> scheduler_;
  StepPlan plan_;
  std::vector<std::size_t> drawn_;
  std::vector<decoding::SampledToken> results_;
  std::int32_t next_ = 100;
};

TEST_F(SchedulerTest, PromptIsComputedInChunksThenDecoded) {
  start(limits());
  submit(1, 23, 3);
  ASSERT_TRUE(plan());
  EXPECT_THAT(tokens(0), SizeIs(10));
  EXPECT_EQ(plan_.sequences[0].start, 0);
  EXPECT_EQ(plan_.sequences[0].logit_rows, 0);
  EXPECT_THAT(plan_.openings, SizeIs(1));
  EXPECT_THAT(plan_.samples, IsEmpty());
  EXPECT_EQ(used(), 1);
  EXPECT_THAT(collect(), IsEmpty());
  ASSERT_TRUE(plan());
  EXPECT_EQ(plan_.sequences[0].start, 10);
  EXPECT_THAT(plan_.openings, IsEmpty());
  collect();
  ASSERT_TRUE(plan());
  EXPECT_THAT(tokens(0), ElementsAre(21, 22, 23));
  EXPECT_EQ(plan_.sequences[0].logit_rows, 1);
  EXPECT_THAT(collect(), SizeIs(1));
  ASSERT_TRUE(plan());
  EXPECT_THAT(tokens(0), ElementsAre(100));
  EXPECT_EQ(plan_.sequences[0].start, 23);
  EXPECT_FALSE(collect()[0].finish);
  ASSERT_TRUE(plan());
  const auto events = collect();
  ASSERT_THAT(events, SizeIs(1));
  EXPECT_EQ(events[0].tokens[0].token.id, 102);
  EXPECT_EQ(events[0].finish, generation::FinishReason::kLength);
  EXPECT_TRUE(scheduler_->idle());
  EXPECT_EQ(used(), 0);
  EXPECT_EQ(scheduler_->stats().prefill_tokens, 23u);
  EXPECT_EQ(scheduler_->stats().decode_tokens, 2u);
}

TEST_F(SchedulerTest, DecodesNeverWaitForPrompts) {
  start(limits());
  submit(1, 4, 50);
  plan();
  collect();
  submit(2, 60, 5);
  submit(3, 12, 5);
  for (int step = 0; step < 6; ++step) {
    ASSERT_TRUE(plan());
    EXPECT_THAT(tokens(0), ElementsAre(100 + step)) << "the decode comes first, in every step";
    EXPECT_EQ(plan_.sequences[1].start, 10 * step);
    EXPECT_THAT(tokens(1), SizeIs(10)) << "the budget is the prompts' alone";
    if (step < 5) {
      EXPECT_THAT(plan_.sequences, SizeIs(2));
      EXPECT_THAT(collect(), SizeIs(1));
    }
  }
  EXPECT_THAT(plan_.samples, SizeIs(2));
}

TEST_F(SchedulerTest, PromptsBesideDecodesAreLimited) {
  start(limits());
  scheduler_->set_prefill_beside_decodes(3);
  submit(1, 10, 50);
  ASSERT_TRUE(plan());
  EXPECT_EQ(plan_.decode_rows, 0);
  EXPECT_EQ(plan_.prompt_rows, 10) << "nobody waits for a token";
  collect();
  submit(2, 7, 5);
  for (const std::int32_t rows : {3, 3, 1}) {
    ASSERT_TRUE(plan());
    EXPECT_THAT(tokens(0), SizeIs(1));
    EXPECT_THAT(tokens(1), SizeIs(static_cast<std::size_t>(rows)));
    EXPECT_EQ(plan_.decode_rows, 1);
    EXPECT_EQ(plan_.prompt_rows, rows);
    collect();
  }
  ASSERT_TRUE(plan());
  EXPECT_EQ(plan_.decode_rows, 2);
  EXPECT_EQ(plan_.prompt_rows, 0);
}

TEST_F(SchedulerTest, BudgetGoesToPromptsInOrderOfArrival) {
  start(limits());
  submit(1, 4, 5);
  submit(2, 4, 5);
  submit(3, 4, 5);
  ASSERT_TRUE(plan());
  ASSERT_THAT(plan_.sequences, SizeIs(3));
  EXPECT_THAT(tokens(2), ElementsAre(1, 2));
  EXPECT_THAT(plan_.samples, SizeIs(2));
  collect();
  ASSERT_TRUE(plan());
  ASSERT_THAT(plan_.sequences, SizeIs(3));
  EXPECT_THAT(tokens(0), ElementsAre(100));
  EXPECT_THAT(tokens(1), ElementsAre(101));
  EXPECT_THAT(tokens(2), ElementsAre(3, 4));
}

TEST_F(SchedulerTest, NextStepNamesTheTokenBeingDrawn) {
  start(limits(3));
  submit(1, 4, 3);
  ASSERT_TRUE(plan());
  const std::int32_t slot = plan_.samples[0].slot;
  ASSERT_TRUE(plan());
  EXPECT_THAT(tokens(0), ElementsAre(model::token_of_slot(slot)));
  EXPECT_EQ(plan_.sequences[0].start, 4);
  ASSERT_TRUE(plan());
  EXPECT_THAT(tokens(0), ElementsAre(model::token_of_slot(slot)));
  EXPECT_EQ(plan_.sequences[0].start, 5);
  EXPECT_FALSE(plan()) << "three tokens were asked for";
  collect();
  EXPECT_FALSE(plan()) << "the length is known ahead: nothing is launched in vain";
  collect();
  EXPECT_EQ(used(), 1);
  EXPECT_EQ(collect()[0].finish, generation::FinishReason::kLength);
  EXPECT_EQ(used(), 0);
  EXPECT_EQ(scheduler_->stats().decode_tokens, 2u);
}

TEST_F(SchedulerTest, RowsBehindAnEndTokenAreThrownAway) {
  start(limits(2));
  submit(1, 4, 30);
  plan();
  plan();
  const auto events = collect(999);
  ASSERT_THAT(events, SizeIs(1));
  EXPECT_EQ(events[0].finish, generation::FinishReason::kEosToken);
  EXPECT_EQ(scheduler_->stats().running, 0);
  EXPECT_FALSE(scheduler_->idle()) << "a step is in flight";
  EXPECT_EQ(used(), 1) << "and uses the block";
  EXPECT_THAT(collect(), IsEmpty());
  EXPECT_EQ(used(), 0);
  EXPECT_TRUE(scheduler_->idle());
}

TEST_F(SchedulerTest, StopTokenHasItsOwnReason) {
  start(limits());
  submit(1, 4, 30);
  plan();
  EXPECT_EQ(collect(998)[0].finish, generation::FinishReason::kStopSequence);
}

TEST_F(SchedulerTest, GroupSharesThePromptAndCopiesThePartFullBlock) {
  start(limits());
  submit(1, 20, 5, 3);
  plan();
  EXPECT_THAT(plan_.openings, SizeIs(3));
  EXPECT_THAT(plan_.sequences, SizeIs(1)) << "the prompt is computed once";
  collect();
  plan();
  EXPECT_THAT(plan_.samples, SizeIs(3)) << "all draw from the same row";
  for (const StepSample& sample : plan_.samples) EXPECT_EQ(sample.logit_row, 0);
  EXPECT_EQ(used(), 2);
  EXPECT_THAT(collect(), SizeIs(3));
  plan();
  ASSERT_THAT(plan_.sequences, SizeIs(3));
  EXPECT_THAT(plan_.copies, SizeIs(4)) << "the leader keeps the original";
  EXPECT_EQ(plan_.copies[0], plan_.copies[2]);
  EXPECT_EQ(plan_.copies[0], plan_.sequences[0].blocks[1]);
  EXPECT_EQ(plan_.copies[1], plan_.sequences[1].blocks[1]);
  EXPECT_EQ(plan_.sequences[0].blocks[0], plan_.sequences[2].blocks[0]);
  EXPECT_EQ(used(), 1 + 3);
  collect();
  EXPECT_EQ(scheduler_->stats().prefill_tokens, 20u);
}

TEST_F(SchedulerTest, GroupWithFullBlocksCopiesNothing) {
  start(limits());
  submit(1, 16, 5, 2);
  plan();
  collect();
  plan();
  collect();
  plan();
  EXPECT_THAT(plan_.copies, IsEmpty());
  EXPECT_EQ(used(), 1 + 2);
}

TEST_F(SchedulerTest, CopySourceStaysUntilTheCopyHasRun) {
  start(limits(2));
  submit(1, 4, 2, 2);  // the leader ends with its second token
  plan();
  collect();
  plan();
  const std::int32_t source = plan_.copies.at(0);
  EXPECT_EQ(scheduler_->blocks().references(source), 2) << "the leader's, and the copying step's";
  collect();
  EXPECT_EQ(used(), 0);
}

TEST_F(SchedulerTest, YoungestGroupIsPreemptedAndComesBackFirst) {
  BatchLimits few = limits();
  few.kv_blocks = 4;
  few.prefill_tokens = 100;
  start(few);
  submit(1, 16, 20);
  submit(2, 16, 20);
  plan();
  collect();  // each has a full block
  submit(3, 3, 2);
  plan();  // each takes its second: none is left
  EXPECT_THAT(plan_.sequences, SizeIs(2));
  EXPECT_EQ(used(), 4);
  for (int i = 0; i < 15; ++i) {
    collect();
    plan();
    ASSERT_THAT(plan_.sequences, SizeIs(2));
  }
  EXPECT_EQ(scheduler_->stats().preemptions, 0u);
  collect();
  ASSERT_TRUE(plan());  // the third block of the first request
  EXPECT_EQ(scheduler_->stats().preemptions, 1u);
  EXPECT_THAT(plan_.sequences, SizeIs(1));
  EXPECT_EQ(plan_.sequences[0].start, 32);
  EXPECT_EQ(scheduler_->stats().waiting, 2);
  const auto before = scheduler_->stats().prefill_tokens;
  while (scheduler_->stats().waiting == 2) {
    collect();
    ASSERT_TRUE(plan());
  }
  // Its prompt and 17 tokens, in one chunk, with the sampler opened where it was.
  ASSERT_THAT(plan_.openings, SizeIs(1)) << "request 3 has no block yet";
  EXPECT_EQ(plan_.openings[0].request->id, 2u);
  EXPECT_THAT(plan_.openings[0].generated, SizeIs(17));
  EXPECT_EQ(scheduler_->stats().prefill_tokens - before, 33u);
}

TEST_F(SchedulerTest, ShortOfBlocksNobodyOvertakesTheOldest) {
  BatchLimits few = limits(2);
  few.kv_blocks = 8;
  few.prefill_tokens = 100;
  start(few);
  submit(1, 16, 44, 2);
  submit(2, 16, 30);
  submit(3, 16, 30);
  plan();
  ASSERT_THAT(plan_.openings, SizeIs(4));
  for (int i = 0; i < 16; ++i) {
    ASSERT_TRUE(plan());
    ASSERT_THAT(plan_.sequences, SizeIs(4));
    collect();
  }
  EXPECT_EQ(used(), 7);
  // Each sequence wants a block, request 1 two of them, and one is free. Request 3 has to go, but a step in
  // flight uses its blocks; until it is collected, the free block is not for request 2.
  EXPECT_FALSE(plan());
  EXPECT_EQ(scheduler_->stats().preemptions, 1u);
  collect();
  ASSERT_TRUE(plan());
  EXPECT_THAT(plan_.sequences, SizeIs(3));
  EXPECT_EQ(scheduler_->stats().preemptions, 1u);
}

TEST_F(SchedulerTest, OldestPromptTakesBlocksOfTheYoungest) {
  BatchLimits few = limits();
  few.kv_blocks = 14;
  few.prefill_tokens = 200;
  start(few);
  // The second sequence has 72 tokens to recompute behind the shared prompt, in blocks of its own.
  const std::vector<std::int32_t> earlier(72, 7);
  submit(1, 4, 80, 2, {earlier, earlier});
  submit(2, 48, 40);
  submit(3, 48, 40);
  plan();
  EXPECT_THAT(plan_.sequences, SizeIs(3));
  EXPECT_EQ(used(), 5 + 3 + 3);
  collect();
  plan();
  ASSERT_THAT(plan_.sequences, SizeIs(4)) << "three decodes";
  EXPECT_THAT(tokens(3), SizeIs(12)) << "and as much of the recomputation as the last block takes";
  EXPECT_EQ(used(), 14);
  collect();
  plan();
  EXPECT_THAT(plan_.sequences, SizeIs(3));
  EXPECT_EQ(scheduler_->stats().preemptions, 1u) << "request 3, whose decode is in this very step";
  EXPECT_THAT(collect(), SizeIs(3));
  plan();
  ASSERT_THAT(plan_.sequences, SizeIs(3));
  EXPECT_EQ(plan_.sequences[2].start, 16);
  EXPECT_THAT(tokens(2), SizeIs(60));
}

TEST_F(SchedulerTest, TokensDrawnInFlightSurvivePreemption) {
  start(limits(2));
  submit(1, 5, 20);
  plan();
  plan();
  ASSERT_TRUE(scheduler_->preempt_youngest());
  EXPECT_EQ(used(), 1) << "two steps use the block";
  EXPECT_FALSE(plan());
  EXPECT_THAT(collect(), SizeIs(1));
  EXPECT_FALSE(plan()) << "one step still draws a token of it";
  EXPECT_THAT(collect(), SizeIs(1));
  EXPECT_EQ(used(), 0);
  ASSERT_TRUE(plan());
  EXPECT_THAT(tokens(0), ElementsAre(1, 2, 3, 4, 5, 100, 101));
  EXPECT_THAT(plan_.openings.at(0).generated, ElementsAre(100, 101));
}

TEST_F(SchedulerTest, PreemptedSequenceMayEndInFlight) {
  start(limits(2));
  submit(1, 5, 20);
  plan();
  scheduler_->preempt_youngest();
  const auto events = collect(999);
  ASSERT_THAT(events, SizeIs(1));
  EXPECT_TRUE(events[0].finish);
  EXPECT_TRUE(scheduler_->idle());
}

TEST_F(SchedulerTest, CancelFreesWithinOneStep) {
  start(limits());
  EXPECT_FALSE(scheduler_->cancel(1));
  submit(1, 30, 20, 2);
  EXPECT_TRUE(scheduler_->cancel(1)) << "queued";
  EXPECT_TRUE(scheduler_->idle());
  submit(1, 30, 20, 2);
  plan();
  EXPECT_TRUE(scheduler_->cancel(1)) << "prefilling";
  EXPECT_FALSE(scheduler_->cancel(1));
  EXPECT_EQ(used(), 1);
  EXPECT_THAT(collect(), IsEmpty());
  EXPECT_EQ(used(), 0);
  submit(1, 9, 20, 2);
  plan();
  collect();
  plan();
  EXPECT_TRUE(scheduler_->cancel(1)) << "decoding";
  EXPECT_FALSE(plan());
  EXPECT_THAT(collect(), IsEmpty());
  EXPECT_EQ(used(), 0);
  EXPECT_TRUE(scheduler_->idle());
  submit(1, 9, 20);
  plan();
  collect();
  EXPECT_TRUE(scheduler_->cancel(1)) << "between steps";
  EXPECT_EQ(used(), 0) << "no step in flight: at once";
}

TEST_F(SchedulerTest, ReplayContinuesAndCountsEarlierTokens) {
  start(limits());
  submit(1, 5, 4, 3, {{50, 51}, {60, 61, 62, 63}, {}});
  std::vector<SequenceEvent> events;
  scheduler_->take_ended(events);
  ASSERT_THAT(events, SizeIs(1)) << "sequence 1 had all its tokens";
  EXPECT_EQ(events[0].sequence, 1);
  EXPECT_EQ(events[0].finish, generation::FinishReason::kLength);
  EXPECT_THAT(events[0].tokens, IsEmpty());
  ASSERT_TRUE(plan());
  EXPECT_THAT(plan_.openings, SizeIs(2));
  EXPECT_THAT(tokens(0), ElementsAre(1, 2, 3, 4, 5));
  EXPECT_THAT(plan_.samples, SizeIs(1)) << "only sequence 2 has no token yet";
  const auto first = collect();
  ASSERT_THAT(first, SizeIs(1));
  EXPECT_EQ(first[0].sequence, 2);
  ASSERT_TRUE(plan());
  ASSERT_THAT(plan_.sequences, SizeIs(2));
  EXPECT_THAT(tokens(0), ElementsAre(100));
  EXPECT_THAT(tokens(1), ElementsAre(50, 51));
  std::size_t tokens_after = 1;
  do {
    tokens_after += collect().size();
  } while (plan());
  EXPECT_EQ(tokens_after, 2u + 4u);
  EXPECT_TRUE(scheduler_->idle());
}

TEST_F(SchedulerTest, ReplayOfEndedRequestEmitsItsEndOnce) {
  start(limits());
  submit(1, 5, 10, 2, {{50, 999}, {60, 998}});
  EXPECT_FALSE(scheduler_->idle());
  EXPECT_THROW(submit(1, 5, 10), core::Error) << "its events are not out yet";
  std::vector<SequenceEvent> events;
  EXPECT_FALSE(plan());
  scheduler_->take_ended(events);
  ASSERT_THAT(events, SizeIs(2));
  EXPECT_EQ(events[0].finish, generation::FinishReason::kEosToken);
  EXPECT_EQ(events[1].finish, generation::FinishReason::kStopSequence);
  EXPECT_TRUE(scheduler_->idle());
  submit(2, 5, 10, 1, {{999}});
  EXPECT_TRUE(scheduler_->cancel(2));
  events.clear();
  scheduler_->take_ended(events);
  EXPECT_THAT(events, IsEmpty());
}

TEST_F(SchedulerTest, GroupWaitsForSlotsOfAllItsSequences) {
  start(limits());
  submit(1, 2, 10, 2);
  submit(2, 2, 10, 3);
  submit(3, 2, 10, 1);
  ASSERT_TRUE(plan());
  EXPECT_THAT(plan_.openings, SizeIs(2)) << "nobody overtakes";
  EXPECT_EQ(scheduler_->stats().waiting, 2);
  EXPECT_EQ(scheduler_->stats().running, 2);
  collect(999);
  ASSERT_TRUE(plan());
  EXPECT_THAT(plan_.openings, SizeIs(4));
}

/// A request whose prompt is one token and whose text has `text`.
Request with_text(RequestId id, std::int32_t text, std::int32_t new_tokens) {
  Request request;
  request.id = id;
  request.prompt_ids = {0};
  request.encoder_ids.assign(static_cast<std::size_t>(text), 5);
  request.parameters.max_new_tokens = new_tokens;
  return request;
}

TEST_F(SchedulerTest, DecodesNeverWaitForLongTexts) {
  BatchLimits with = limits();
  with.encoder_layers = 6;
  start(with);
  scheduler_->submit(with_text(1, 7, 50), {});
  ASSERT_TRUE(plan());
  EXPECT_EQ(plan_.encoding.end_layer, 6) << "a text within the budget is encoded in one step";
  EXPECT_EQ(used(), 1);
  collect();
  ASSERT_TRUE(plan());
  EXPECT_EQ(plan_.sequences[0].cross_length, 7);
  EXPECT_THAT(plan_.sequences[0].cross_blocks, SizeIs(1));
  collect();
  // 30 tokens through 6 layers, 10 tokens through all of them a step: 2 layers.
  scheduler_->submit(with_text(2, 30, 5), {});
  scheduler_->submit(with_text(3, 4, 5), {});
  for (int step = 0; step < 3; ++step) {
    ASSERT_TRUE(plan());
    EXPECT_THAT(plan_.sequences, SizeIs(1)) << "the decode is in every step";
    EXPECT_THAT(plan_.encoding.texts, SizeIs(step == 0 ? 1 : 0));
    EXPECT_EQ(plan_.encoding.first_layer, 2 * step);
    EXPECT_EQ(plan_.encoding.end_layer, 2 * step + 2);
    EXPECT_THAT(plan_.encoding.blocks, SizeIs(step == 2 ? 1 : 0));
    collect();
  }
  ASSERT_TRUE(plan());
  EXPECT_THAT(plan_.sequences, SizeIs(2)) << "and the text's own answer begins";
  EXPECT_THAT(plan_.encoding.texts, SizeIs(1)) << "the next text";
}

TEST_F(SchedulerTest, ATextThatIsGivenUpIsNotStored) {
  BatchLimits with = limits();
  with.encoder_layers = 4;
  start(with);
  scheduler_->submit(with_text(1, 5, 5), {});
  scheduler_->submit(with_text(2, 5, 5), {});
  ASSERT_TRUE(plan());
  EXPECT_THAT(plan_.encoding.texts, SizeIs(2)) << "both fit into the budget";
  collect();
  scheduler_->submit(with_text(3, 20, 5), {});
  ASSERT_TRUE(plan());
  EXPECT_EQ(plan_.encoding.end_layer, 1);
  EXPECT_TRUE(scheduler_->cancel(3));
  collect();
  EXPECT_EQ(used(), 4) << "two texts, two answers";
  ASSERT_TRUE(plan());
  EXPECT_TRUE(plan_.encoding.empty());
}

TEST_F(SchedulerTest, BeamsShareBlocksAndTheLastWriterKeepsItsOwn) {
  start(limits());
  Request request;
  request.id = 1;
  request.prompt_ids.assign(20, 7);
  request.parameters.max_new_tokens = 9;
  request.parameters.num_beams = 3;
  decoding::SamplerScratch scratch(1000);
  scheduler_->submit(std::move(request), {});
  const auto advance = [&] {
    ASSERT_THAT(plan_.beams, SizeIs(1));
    std::vector<float> logits(static_cast<std::size_t>(plan_.beams[0].search->live()) * 1000);
    for (std::size_t i = 0; i < logits.size(); ++i) logits[i] = -0.01f * static_cast<float>(i);
    plan_.beams[0].search->advance(logits, scratch);
    collect();
  };
  ASSERT_TRUE(plan());
  EXPECT_THAT(plan_.beams, IsEmpty()) << "half of the prompt";
  collect();
  ASSERT_TRUE(plan());
  EXPECT_THAT(plan_.sequences, SizeIs(1)) << "the prompt is computed once";
  advance();
  EXPECT_EQ(used(), 2) << "all beams have the prompt's blocks";
  ASSERT_TRUE(plan());
  EXPECT_THAT(plan_.sequences, SizeIs(3));
  EXPECT_THAT(plan_.copies, SizeIs(4)) << "two copies: the third writes where the prompt ends";
  EXPECT_EQ(used(), 4);
  advance();
  EXPECT_TRUE(scheduler_->cancel(1));
  EXPECT_EQ(used(), 0);
}

TEST_F(SchedulerTest, StopStringsOfBeamsNeedTheVocabulary) {
  start(limits());
  Request request = with_text(1, 0, 5);
  request.parameters.num_beams = 2;
  request.parameters.stop_strings = {"end"};
  EXPECT_THROW(scheduler_->submit(request, {}), core::Error);
  EXPECT_TRUE(scheduler_->idle());
  const auto bytes = std::make_shared<const decoding::TokenBytes>(1000, "x");
  EXPECT_NO_THROW(scheduler_->submit(request, {}, bytes));
}

TEST_F(SchedulerTest, SameIdIsRefusedWhileInUse) {
  start(limits());
  submit(7, 2, 10);
  EXPECT_THROW(submit(7, 2, 10), core::Error);
  plan();
  collect(999);
  EXPECT_NO_THROW(submit(7, 2, 10));
}

}  // namespace
}  // namespace peregrine::engine
