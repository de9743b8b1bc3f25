// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "engine/engine.h"
#include "engine/request.h"
#include "model/encoder.h"
#include "ops/device.h"

namespace peregrine::engine {

/// Batches texts for an encoder that stands alone: each step takes waiting texts in order of arrival, as many
/// as fit into the batch's tokens and sequences, one behind the other without padding. Results do not depend
/// on what shares the batch. Not thread-safe: one thread owns it.
class EncoderEngine {
 public:
  /// Receives a text's vector (embedding, or class scores before any softmax): valid during the call; empty
  /// where the model gave what are not numbers. May call submit() and cancel().
  using Sink = std::function<void(RequestId id, std::span<const float> values)>;

  /// max_rolling_batch_size texts and max_rolling_batch_prefill_tokens tokens a batch (or one text of
  /// max_model_length, where that is longer). `device` and `encoder` must outlive the engine. Throws Error
  /// naming the option that cannot be met, with the numbers.
  EncoderEngine(ops::Device& device, const model::Encoder& encoder, const EngineOptions& options);
  ~EncoderEngine();

  /// Queues a text. Throws Error(kInvalidArgument) where it can never run (no tokens, too many, ids or token
  /// types out of range, a classification without classifier), with the numbers; nothing else is disturbed.
  void submit(EncodeRequest request);
  /// False where it is not known, or has been computed.
  bool cancel(RequestId id);
  /// Computes one batch and hands its vectors over; false where nothing waits. Throws Error(kInternal) where
  /// the device failed. What `sink` throws passes through: the batch's other texts wait again.
  bool step(const Sink& sink);
  bool idle() const;

  /// running is 0 between steps; waiting counts texts; prefill_tokens all tokens computed.
  EngineStats stats() const;
  /// weight_bytes, buffer_bytes and max_model_length; there is no KV cache.
  const MemoryPlan& memory_plan() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace peregrine::engine
