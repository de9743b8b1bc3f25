// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "model/encoder.h"
#include "ops/device.h"

namespace peregrine::model {

/// Views of the activations of one batch, all in one arena. The residual stream stays as it is between calls
/// of run_layers().
struct EncoderActivations {
  ops::Matrix residual;       ///< [rows, hidden] float32: the residual stream.
  ops::Matrix normed;         ///< [rows, hidden] in the type of the arithmetic.
  ops::Matrix output;         ///< [rows, hidden]; same memory as residual (float32) or normed.
  ops::Matrix embedded;       ///< [rows, embedding_size] float32; only where that is not hidden.
  ops::Matrix qkv;            ///< [rows, 3 * heads * head_dim]
  ops::Matrix attention;      ///< [rows, heads * head_dim]
  ops::Matrix up;             ///< [rows, intermediate or 2 * intermediate]; same memory as qkv and attention.
  ops::Matrix gated;          ///< [rows, intermediate]; only for gated MLPs.
  ops::Matrix first;          ///< [sequences, hidden]: the first position of every text. Only with a head.
  ops::Matrix pooled;         ///< [sequences, hidden] in the type of the arithmetic. Likewise.
  ops::Matrix pooler_output;  ///< [sequences, hidden] float32. Likewise.
  ops::Matrix scores;         ///< [sequences, labels] float32; only with labels.
};

/// A batch as the device sees it.
struct PlannedBatch {
  ops::Batch batch;
  ops::Ints lengths;                           ///< [sequences]: tokens of each text.
  std::span<const std::int32_t> host_lengths;  ///< The same in staging memory.
  ops::Ints position_rows;  ///< [rows]: rows of the table of learned positions; only where there is one.
  ops::Ints token_types;    ///< [rows]; only in models with token types.
  EncoderActivations at;
};

/// The one implementation of EncoderBuffers. Beside the activations it has a KV cache of one layer, in which
/// each layer in turn puts its keys and values: attention reads them block by block, as everywhere.
class EncoderWorkspace : public EncoderBuffers {
 public:
  EncoderWorkspace(ops::Device& device, const EncoderConfig& config, const EncoderTypes& types,
                   const EncoderLimits& limits);

  std::size_t bytes() const override;

  /// Checks `sequences` against the limits, writes them to staging memory, and enqueues its upload. Allocates
  /// nothing.
  void plan(ops::Stream& stream, std::span<const EncoderSequence> sequences);

  /// The batch of the last plan(). Throws Error(kInternal) where there was none.
  const PlannedBatch& batch() const;
  ops::KvCache& cache() { return *cache_; }

 private:
  /// Offsets, in 4-byte words, of the parts of a batch's description: the same in staging memory and in the
  /// device's.
  struct Words {
    std::size_t token_ids = 0;
    std::size_t positions = 0;
    std::size_t row_sequence = 0;
    std::size_t sequence_starts = 0;
    std::size_t lengths = 0;
    std::size_t position_rows = 0;
    std::size_t token_types = 0;
    std::size_t block_tables = 0;
    std::size_t end = 0;
  };
  struct Totals {
    std::int32_t rows = 0;
    std::int32_t sequences = 0;
    std::int32_t table_stride = 0;
  };

  void plan_words();
  std::size_t place_activations(ops::DeviceAddress base);
  void create_cache(ops::Device& device);
  Totals check(std::span<const EncoderSequence> sequences) const;
  void check_sequence(const EncoderSequence& sequence) const;
  void write(std::span<const EncoderSequence> sequences, const Totals& totals);
  void write_position_rows(std::span<const std::int32_t> tokens, std::int32_t* rows) const;
  void upload(ops::Stream& stream, const Totals& totals);
  PlannedBatch describe(const Totals& totals) const;
  bool has_learned_positions() const { return config_.positions == PositionKind::kLearned; }

  EncoderConfig config_;
  EncoderTypes types_;
  EncoderLimits limits_;
  Words words_;
  EncoderActivations full_;  ///< For as many rows and sequences as the limits allow.
  ops::Buffer arena_;
  ops::Buffer device_words_;
  std::unique_ptr<ops::KvCache> cache_;
  std::size_t cache_bytes_ = 0;
  std::vector<std::int32_t> staging_;
  ops::EventId uploaded_ = 0;
  PlannedBatch batch_;
};

}  // namespace peregrine::model
