// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "decoding/sampler.h"
#include "engine/step_executor.h"
#include "model/decoder.h"
#include "ops/device.h"

namespace peregrine::engine {

/// Runs steps of a decoder on a stream of a device: encodes texts, copies blocks, computes logits, brings
/// them to the host, draws tokens there in stream order, and sends them back for the next step. Rows are
/// drawn from by all threads of the stream, each row by one: what a row gives does not depend on the others.
/// Only the stream's threads touch a slot's sampler, or a beam search, while a step that names it is in
/// flight.
class DecoderExecutor : public StepExecutor {
 public:
  /// `encoder` is that of an encoder-decoder model, or null. All must outlive it. Throws Error(kOverloaded)
  /// where memory does not suffice.
  DecoderExecutor(ops::Device& device, const model::Decoder& model, const model::Encoder* encoder,
                  const model::StepLimits& limits, std::int32_t kv_blocks, std::int32_t steps_in_flight);
  ~DecoderExecutor() override;

  Ticket launch(const StepPlan& plan) override;
  StepResults collect(Ticket ticket) override;

  /// Memory of step buffers and host staging, in bytes; the KV cache is not among it.
  std::size_t buffer_bytes() const;

 private:
  /// A token of a prompt whose log-probability is wanted.
  struct PromptToken {
    std::int32_t row = 0;
    std::int32_t id = 0;
    std::int32_t top = 0;
  };
  /// One thread's work: samples [first, end), which draw from one row; a beam search; or a prompt's token.
  struct Task {
    enum class Kind : std::uint8_t { kSamples, kBeams, kPromptToken };
    Kind kind = Kind::kSamples;
    std::size_t first = 0;
    std::size_t end = 0;
  };
  /// What a thread works in.
  struct DrawScratch {
    explicit DrawScratch(std::int64_t vocab_size)
        : scratch(vocab_size), shared_row(static_cast<std::size_t>(vocab_size)) {}
    decoding::SamplerScratch scratch;
    std::vector<float> shared_row;  ///< Copy of a row that several sequences draw from.
  };
  /// Host memory of one step in flight.
  struct Step {
    DecoderExecutor* executor = nullptr;
    std::vector<StepSample> samples;
    std::vector<std::int32_t> copies;
    std::vector<decoding::SampledToken> drawn;  ///< As many as there may be; the first samples.size() count.
    std::vector<StepBeams> beams;
    std::vector<PromptToken> prompts;
    std::vector<decoding::SampledToken> scored;  ///< As many as there may be; the first prompts.size() count.
    std::vector<Task> tasks;
    ops::EventId event = 0;
    std::mutex failure_mutex;
    std::string failure;  ///< What went wrong in sampling.
  };

  void open_slots(const StepPlan& plan);
  void encode(const StepEncoding& encoding);
  void take_draws(const StepPlan& plan, Step& step);
  void copy_blocks(const StepPlan& plan, Step& step);
  void download_logits(const ops::Matrix& logits);
  std::span<float> logits(std::int32_t first_row, std::int32_t rows);
  // On the stream's threads.
  void draw(Step& step, const Task& task, DrawScratch& place);
  void sample(Step& step, const Task& task, DrawScratch& place);

  const model::Decoder& model_;
  const model::Encoder* encoder_;
  std::int64_t vocab_size_;
  std::unique_ptr<model::StepBuffers> buffers_;
  std::unique_ptr<model::EncoderBuffers> encoder_buffers_;  ///< Null without encoder.
  std::unique_ptr<ops::KvCache> cache_;
  ops::Buffer copy_pairs_;
  std::vector<Step> steps_;
  Ticket launched_ = 0;
  // The stream runs in order: each step is done with these before the next one's operations touch them.
  std::vector<float> logits_;
  std::vector<std::int32_t> slot_tokens_;
  std::vector<DrawScratch> places_;                                 ///< One for each of the stream's threads.
  std::vector<std::optional<decoding::SequenceSampler>> samplers_;  ///< By slot.
  /// Last: destroyed first, when nothing is queued any more.
  std::unique_ptr<ops::Stream> stream_;
};

}  // namespace peregrine::engine
