// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/dtype.h"
#include "model/decoder_config.h"
#include "model/load_progress.h"
#include "model/slots.h"
#include "model/step.h"
#include "model_info/model_info.h"
#include "ops/device.h"
#include "weights/tensor_source.h"

namespace peregrine::model {

/// Data types of a loaded model, all decided (no "auto" left).
struct DecoderTypes {
  core::DType weights =
      core::DType::kF32;  ///< Matrices that are not quantized: float32, float16 or bfloat16.
  core::DType compute = core::DType::kF32;  ///< Activations, attention, P: float32 or bfloat16.
  core::DType cache = core::DType::kF32;    ///< Keys and values: float32 or bfloat16.
  core::Quantization quantization = core::Quantization::kNone;  ///< Of matrices, see is_quantized().

  StoredTypes stored() const { return {weights, quantization}; }
};

/// The most that one batch of an encoder may hold; buffers are planned from it.
struct EncoderLimits {
  std::int32_t rows = 0;  ///< Tokens.
  std::int32_t sequences = 0;
};

/// The most that one step may hold; buffers are planned from it.
struct StepLimits {
  std::int32_t rows = 0;  ///< Tokens.
  std::int32_t sequences = 0;
  std::int32_t logit_rows = 0;
  std::int32_t blocks_per_sequence = 0;
  std::int32_t slots = 0;                      ///< Slots for tokens sampled last.
  EncoderLimits encoder;                       ///< Of one store_cross(); only with cross_attention.
  std::int32_t cross_blocks_per_sequence = 0;  ///< Likewise.
};

/// Device and host memory of the steps that may be in flight at once; fixed addresses, planned at start.
/// Owned by the engine, used by one stream.
class StepBuffers {
 public:
  virtual ~StepBuffers() = default;
  /// Device memory in all, in bytes.
  virtual std::size_t bytes() const = 0;
  /// [slots] int32 on the device: the token sampled last in each slot. Sampling writes it by upload.
  virtual ops::Ints slot_tokens() const = 0;
};

/// A loaded decoder, alone or behind an encoder: weights packed on a device, and the one executor of all
/// families. Immutable after loading; forward() may be called from one thread per stream.
class Decoder {
 public:
  /// Loads all slots of `family`. Throws Error naming the tensor, what was expected and what was found.
  static std::unique_ptr<Decoder> load(const DecoderConfig& config, const struct Family& family,
                                       weights::TensorSource& source, ops::Device& device,
                                       const DecoderTypes& types, const LoadProgress& progress);
  virtual ~Decoder() = default;

  virtual const DecoderConfig& config() const = 0;
  virtual const DecoderTypes& types() const = 0;
  /// Device memory of all weights, padding included.
  virtual std::size_t weight_bytes() const = 0;
  /// The token embedding, for an encoder that has the same; valid as long as this object.
  virtual const ops::Weight& embedding() const = 0;
  /// A KV cache specification for this model; blocks is 0.
  virtual ops::KvCacheSpec kv_cache_spec() const = 0;

  /// Buffers for up to `in_flight` steps of at most `limits` each.
  virtual std::unique_ptr<StepBuffers> create_buffers(const StepLimits& limits, int in_flight) const = 0;

  /// Rotary frequencies for a request with this many prompt tokens, [rotary.dim / 2]; chosen once per request
  /// and kept through preemption and replay. Empty where the model has no rotary positions.
  virtual std::vector<float> rotary_frequencies(std::int64_t prompt_tokens) const = 0;

  /// Enqueues one step on `stream`. Returns the logits on the device, float32 [sum of logit_rows,
  /// vocab_size], rows in the order of the sequences; valid until the step that is `in_flight` launches later
  /// is enqueued: the caller must not have more steps in flight than the buffers were made for. Throws
  /// Error(kInternal) where `sequences` exceed the limits; allocates nothing.
  virtual ops::Matrix forward(ops::Stream& stream, StepBuffers& buffers, ops::KvCache& cache,
                              std::span<const StepSequence> sequences) const = 0;

  /// Only with cross_attention: enqueues the cross-attention keys and values of all layers for the texts of
  /// `encoded`, text i to the cache's blocks `blocks[i]` (kBlockTokens positions each; an empty list: it is
  /// not wanted any more). Spans are read during the call only. At most one may be under way: the caller lets
  /// the step that follows it end before it calls this again.
  virtual void store_cross(ops::Stream& stream, StepBuffers& buffers, ops::KvCache& cache,
                           const struct EncodedBatch& encoded,
                           std::span<const std::span<const std::int32_t>> blocks) const = 0;
};

}  // namespace peregrine::model
