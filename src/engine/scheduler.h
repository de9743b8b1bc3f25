// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <deque>
#include <limits>
#include <memory>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/block_pool.h"
#include "engine/engine.h"
#include "engine/request_check.h"
#include "engine/sequence.h"
#include "engine/step_executor.h"
#include "engine/step_plan.h"

namespace peregrine::engine {

/// Decides what each step does, and keeps the state of every request. Knows no device: it plans steps, and is
/// told what they drew, oldest first. Not thread-safe.
///
/// - A step decodes one token of every running sequence, then computes chunks of prompts, in order of
/// arrival.
/// - Groups are admitted in order of arrival, once there are slots for all sequences of a group, and blocks
///   for all its tokens while every running sequence could still take one more.
/// - Where a decode finds no block, the group that arrived last gives all of its blocks back and waits, ahead
///   of all that never ran; so does it where the prompt of the oldest group finds none. The oldest group is
///   therefore never held up for good, and since no group is let in that could not run alone, all end.
/// - The beams of a group go on together, one step after the other: which beams there are next is known when
/// a step's results are. Each then refers to the blocks of the one it goes on from, and copies the last one,
/// where it is part full, when it writes.
/// - The texts of encoder-decoder requests are encoded in batches, in order of arrival, a few layers a step
/// where a batch is large, so that decodes do not wait for long. Their cross-attention keys and values lie in
/// blocks of the same cache.
/// - Tokens drawn by a step in flight may be named by the next. A sequence that turns out to have ended has
/// its
///   later rows thrown away. A block or slot is free again once the last step that names it was collected.
class Scheduler {
 public:
  explicit Scheduler(const BatchLimits& limits);
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  /// Queues a request. `frequencies` are the rotary frequencies for its prompt, `bytes` the vocabulary's (may
  /// be null). Throws as Engine::submit.
  void submit(Request request, std::vector<float> frequencies,
              std::shared_ptr<const decoding::TokenBytes> bytes = nullptr);
  /// See Engine::cancel.
  bool cancel(RequestId id);

  /// Fills `plan` with the next step; false where there is nothing to launch now. A plan that was made counts
  /// as in flight until its results are taken. Fewer than limits.steps_in_flight steps may be in flight.
  bool plan(StepPlan& plan);

  /// Takes what the oldest step in flight drew, and appends an event for each sequence it belongs to. Events
  /// refer to `results`, and are valid until the next call.
  void take_results(const StepResults& results, std::vector<SequenceEvent>& events);

  /// Appends the events of replayed sequences that had already ended when they were submitted.
  void take_ended(std::vector<SequenceEvent>& events);

  /// The most rows of prompts in a step that decodes as well, from the next plan on; at least 1. Without this
  /// call they are limited as in any other step.
  void set_prefill_beside_decodes(std::int32_t rows) { prefill_beside_decodes_ = rows; }

  /// See Engine::preempt_youngest.
  bool preempt_youngest();

  std::int32_t in_flight() const { return static_cast<std::int32_t>(launched_ - collected_); }
  /// Whether no request is queued or running, and no step in flight.
  bool idle() const { return running_.empty() && waiting_.empty() && ended_.empty() && in_flight() == 0; }
  EngineStats stats() const;

  /// Throws Error(kInternal) where blocks, slots and sequences do not add up. For tests.
  void check() const;
  const BlockPool& blocks() const { return pool_; }

 private:
  /// A step in flight.
  struct Step {
    explicit Step(BlockPool& pool) : retired_blocks(pool) {}
    struct Drawn {
      Group* group = nullptr;
      Sequence* sequence = nullptr;  ///< Null where the sequence has ended since.
    };
    std::vector<Drawn> drawn;   ///< One for each of the plan's samples.
    std::vector<Group*> beams;  ///< One for each of the plan's beam searches; null where it has ended since.
    /// One for each of the plan's prompts; group is null where it has ended since.
    struct Scored {
      Group* group = nullptr;
      std::int32_t start = 0;
      std::int32_t count = 0;
    };
    std::vector<Scored> scored;
    /// Given back when the step has run.
    BlockList retired_blocks;
    std::vector<std::int32_t> retired_slots;
  };
  /// An event for a sequence that had ended before it was submitted.
  struct Ended {
    RequestId request = 0;
    std::int32_t sequence = 0;
    generation::FinishReason reason = generation::FinishReason::kLength;
  };

  Step& step(std::uint64_t number) { return steps_[number % steps_.size()]; }
  bool in_use(const Sequence& sequence) const { return sequence.last_step > collected_; }

  /// The batch of texts that the encoder works at.
  struct Encoding {
    std::vector<Group*> groups;  ///< Null where it was given up since. Empty: no batch.
    std::int32_t rows = 0;
    std::int32_t next_layer = 0;
    std::uint64_t last_step = 0;  ///< Of this batch, or the one before.
  };

  // Queue and results (scheduler.cc).
  void accept(Step::Drawn drawn, const decoding::SampledToken& token, std::vector<SequenceEvent>& events);
  static constexpr std::string_view kNotNumbers = "the model computed logits that are not numbers";
  /// The event of a sequence: a new one, unless tokens of its prompt have come in the same step.
  static SequenceEvent& event_of(const Group& group, std::int32_t sequence,
                                 std::vector<SequenceEvent>& events);
  void accept_prompts(Step& done, std::span<const decoding::SampledToken> tokens,
                      std::vector<SequenceEvent>& events);
  void retire_text(Group& group);
  /// Gives a sequence's blocks and slot back, now or with the last step that uses them.
  void retire(Sequence& sequence);
  /// Ends a sequence: what steps in flight draw for it is nobody's.
  void end_sequence(Sequence& sequence);
  void remove(Group& group);
  void preempt_last();
  std::int32_t running_sequences() const;

  // Planning (scheduler_plan.cc).
  void plan_decodes(StepPlan& plan);
  bool secure_decodes(std::size_t index);
  bool decodes_now(const Group& group, const Sequence& sequence) const;
  void plan_prefills(StepPlan& plan);
  void prefill_group(Group& group, bool oldest, StepPlan& plan);
  bool prefill_sequence(Group& group, Sequence& sequence, StepPlan& plan);
  void admit(StepPlan& plan);
  bool can_admit(const Group& group) const;
  bool blocks_returning() const;
  std::int32_t blocks_wanted(const Sequence& sequence, std::int32_t rows) const;
  void extend(const Group& group, Sequence& sequence, std::int32_t rows, StepPlan& plan);
  void add_rows(Group& group, Sequence& sequence, std::int32_t rows, StepPlan& plan);
  void add_sample(Group& group, Sequence& sequence, std::int32_t logit_row, StepPlan& plan);
  void fork(Group& group);
  std::int32_t decode_blocks(const Group& group) const;
  bool waits_for_beams(const Group& group) const;
  std::int32_t add_prompt(Group& group, const Sequence& sequence, std::int32_t end, StepPlan& plan);

  // Beams (scheduler_beams.cc).
  void add_beams(Group& group, std::int32_t first_row, StepPlan& plan);
  void accept_beams(Group& group, std::vector<SequenceEvent>& events);
  void end_beams(Group& group, std::vector<SequenceEvent>& events);

  // Texts (scheduler_texts.cc).
  void plan_texts(StepPlan& plan);
  void begin_texts(StepPlan& plan);
  void forget_text(Group& group);

  BatchLimits limits_;
  BlockPool pool_;
  std::vector<std::int32_t> free_slots_;
  std::vector<Step> steps_;  ///< A ring; step n is at n modulo its size.
  std::uint64_t launched_ = 0;
  std::uint64_t collected_ = 0;

  std::vector<std::unique_ptr<Group>> running_;  ///< In order of arrival; all arrived before all that wait.
  std::deque<std::unique_ptr<Group>> waiting_;   ///< In order of arrival.
  std::unordered_map<RequestId, Group*> groups_;
  std::vector<Ended> ended_;
  Encoding encoding_;
  /// Searches that ended in the last step, which events refer to.
  std::vector<std::shared_ptr<decoding::BeamSearch>> ended_beams_;

  std::int32_t prefill_beside_decodes_ = std::numeric_limits<std::int32_t>::max();

  // State of the plan being made.
  std::int32_t prefill_budget_ = 0;
  std::int32_t logit_rows_ = 0;
  std::int32_t prompt_logit_rows_ = 0;  ///< Left for prompts whose log-probabilities are wanted.
  bool starved_ = false;  ///< A group got fewer blocks than it wanted: no younger one takes any.

  EngineStats stats_;
};

}  // namespace peregrine::engine
