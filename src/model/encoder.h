// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/dtype.h"
#include "model/decoder.h"
#include "model/encoder_config.h"
#include "model/load_progress.h"
#include "model/slots.h"
#include "ops/device.h"
#include "weights/tensor_source.h"

namespace peregrine::model {

struct EncoderFamily;

/// One text of a batch. Spans are read by Encoder::begin during the call only.
struct EncoderSequence {
  std::span<const std::int32_t> tokens;  ///< Not empty.
  /// Empty: all are 0; else one for each token. Only for models with token types.
  std::span<const std::int32_t> token_types = {};
};

/// The batch that an encoder works at, as the device sees it: valid from begin() until the next begin().
struct EncodedBatch {
  /// Rows, sequences, positions, row_sequence and sequence_starts; its block tables are the encoder's own.
  ops::Batch batch;
  /// [rows, hidden], float32 or the type of the arithmetic (EncoderTypes::output): the last hidden states,
  /// once all layers and finish() have run.
  ops::Matrix hidden;
  std::span<const std::int32_t> lengths = {};  ///< [sequences], in host memory: tokens of each text.
};

/// Device and host memory of one batch, planned at start; also keeps a batch's state between layers. Owned by
/// the engine, used by one stream.
class EncoderBuffers {
 public:
  virtual ~EncoderBuffers() = default;
  /// Device memory in all, in bytes.
  virtual std::size_t bytes() const = 0;
};

struct EncoderTypes {
  core::DType weights =
      core::DType::kF32;  ///< Matrices that are not quantized: float32, float16 or bfloat16.
  core::DType compute = core::DType::kF32;  ///< Activations, attention, P: float32 or bfloat16.
  core::DType output = core::DType::kF32;   ///< Last hidden states: float32, or as `compute`.
  core::Quantization quantization = core::Quantization::kNone;  ///< Of matrices, see is_quantized().

  StoredTypes stored() const { return {weights, quantization}; }
};

/// A loaded encoder: weights packed on a device, and the one executor of all families. The texts of a batch
/// lie one behind the other, nothing is padded, and what a text gets does not depend on the others. Immutable
/// after loading; may be used by one thread per stream.
class Encoder {
 public:
  /// Loads all slots of `family`; where `shared_embedding` is given, which must outlive the encoder, it
  /// stands for the token embedding. Throws Error naming the tensor, what was expected and what was found.
  static std::unique_ptr<Encoder> load(const EncoderConfig& config, const EncoderFamily& family,
                                       weights::TensorSource& source, ops::Device& device,
                                       const EncoderTypes& types, const LoadProgress& progress,
                                       const ops::Weight* shared_embedding = nullptr);
  virtual ~Encoder() = default;

  virtual const EncoderConfig& config() const = 0;
  virtual const EncoderTypes& types() const = 0;
  /// Device memory of all weights, padding included; without a shared embedding.
  virtual std::size_t weight_bytes() const = 0;

  virtual std::unique_ptr<EncoderBuffers> create_buffers(const EncoderLimits& limits) const = 0;

  /// Starts a batch: enqueues its upload and the embeddings. Waits until the upload of the batch before has
  /// run. Throws Error(kInternal) where `sequences` exceed the limits; allocates nothing.
  virtual void begin(ops::Stream& stream, EncoderBuffers& buffers,
                     std::span<const EncoderSequence> sequences) const = 0;

  /// Enqueues layers [first, last) of the batch. They may be run in pieces, with other work between them.
  virtual void run_layers(ops::Stream& stream, EncoderBuffers& buffers, std::int32_t first,
                          std::int32_t last) const = 0;

  /// Enqueues what follows the last layer.
  virtual EncodedBatch finish(ops::Stream& stream, EncoderBuffers& buffers) const = 0;

  /// Enqueues pooler and classifier on the first position of every text, behind finish(): float32 [sequences,
  /// labels]. Only where config().head has labels.
  virtual ops::Matrix classify(ops::Stream& stream, EncoderBuffers& buffers) const = 0;

  /// Enqueues the pooler alone (BERT's pooler_output): float32 [sequences, hidden]. Only with has_pooler.
  virtual ops::Matrix pool(ops::Stream& stream, EncoderBuffers& buffers) const = 0;
};

}  // namespace peregrine::model
