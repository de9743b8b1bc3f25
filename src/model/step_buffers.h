// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "model/cross_buffers.h"
#include "model/decoder.h"
#include "ops/device.h"

namespace peregrine::model {

class Arena;

/// Scratch of a layer of experts; a row has ExpertsConfig::of_token() pairs of itself and an expert. See
/// ops::ExpertsArgs.
struct RoutedActivations {
  ops::Matrix scores;  ///< [rows, experts] float32
  ops::Ints chosen;    ///< [pairs]
  ops::Floats weights;
  ops::Ints order;       ///< [pairs + experts + 1]
  ops::Matrix gathered;  ///< [pairs, hidden]
  ops::Matrix raised;    ///< [pairs, 2 * the widest expert's intermediate]
  ops::Matrix gated;     ///< [pairs, the widest expert's intermediate]
  ops::Matrix lowered;   ///< [pairs, hidden] float32
};

/// Views of the activations of one step, all in one arena. The stream runs operations in order, so that all
/// steps in flight share one arena.
struct Activations {
  ops::Matrix residual;    ///< [rows, hidden] float32: the residual stream.
  ops::Matrix normed;      ///< [rows, hidden]
  ops::Matrix embedded;    ///< [rows, embedding_size] float32; only where that is not hidden.
  ops::Matrix branch;      ///< [rows, hidden] float32; only with ResidualOrder::kSandwich.
  ops::Matrix normed_mlp;  ///< [rows, hidden]; only with ResidualOrder::kParallelTwoNorms.
  ops::Matrix qkv;         ///< [rows, (heads + 2 kv_heads) * head_dim]
  ops::Matrix attention;   ///< [rows, heads * head_dim]
  ops::Matrix up;          ///< [rows, intermediate or 2 * intermediate]; same memory as qkv and attention.
  ops::Matrix gated;       ///< [rows, intermediate]; only for gated MLPs.
  ops::Matrix cosines, sines;  ///< [rows, rotary.dim / 2] float32; only for rotary positions.
  ops::Matrix normed_head;     ///< [logit_rows, hidden]: same memory as normed.
  ops::Matrix projected_head;  ///< [logit_rows, embedding_size]; only where that is not hidden.
  /// Only with experts; same memory as qkv, attention, up and gated.
  RoutedActivations routed;
};

/// The step's batch as the device sees it, and what the head needs.
struct PlannedStep {
  ops::Batch batch;
  ops::Floats frequencies;  ///< [sequences * rotary.dim / 2]
  ops::Ints logit_index;    ///< [logit_rows]: the row of the batch of each row of logits.
  std::int32_t logit_rows = 0;
  ops::Matrix logits;  ///< [logit_rows, vocab]
  // Only with cross-attention.
  ops::Batch cross_batch;   ///< As `batch`, but with the block tables of the texts.
  ops::Ints cross_lengths;  ///< [sequences]
};

/// The one implementation of StepBuffers.
class DecoderBuffers : public StepBuffers {
 public:
  DecoderBuffers(ops::Device& device, const DecoderConfig& config, const DecoderTypes& types,
                 const StepLimits& limits, int in_flight);

  std::size_t bytes() const override;
  ops::Ints slot_tokens() const override;

  /// Checks `sequences` against the limits and against a cache of `cache_blocks` blocks, writes them to the
  /// next set of staging memory, and enqueues its upload. Allocates nothing.
  PlannedStep plan(ops::Stream& stream, std::span<const StepSequence> sequences, std::int32_t cache_blocks);

  /// What store_cross() needs; null without cross-attention.
  CrossBuffers* cross() { return cross_ ? &*cross_ : nullptr; }
  /// Scratch for the keys and values of `rows` rows of an encoder's batch, [rows, 2 kv_heads * head_dim];
  /// same memory as the activations of attention.
  ops::Matrix cross_key_value(std::int32_t rows) const { return cross_key_value_.first_rows(rows); }

  /// Views of the first `rows` rows.
  Activations activations(std::int32_t rows, std::int32_t logit_rows) const;

 private:
  /// Offsets, in 4-byte words, of the parts of a step's description: the same in a set's staging memory and
  /// in the device's.
  struct Words {
    std::size_t token_ids = 0;
    std::size_t positions = 0;
    std::size_t row_sequence = 0;
    std::size_t sequence_starts = 0;
    std::size_t logit_index = 0;
    std::size_t cross_lengths = 0;
    std::size_t block_tables = 0;
    std::size_t cross_tables = 0;
    std::size_t frequencies = 0;
    std::size_t end = 0;
  };
  /// Staging memory and logits of one step in flight.
  struct Set {
    std::vector<std::int32_t> staging;
    ops::Buffer logits;
    ops::EventId uploaded = 0;
    bool used = false;
  };
  struct Totals {
    std::int32_t rows = 0;
    std::int32_t logit_rows = 0;
    std::int32_t table_stride = 0;
    std::int32_t cross_stride = 0;
  };

  void plan_words();
  std::size_t place_activations(ops::DeviceAddress base);
  void place_routed(Arena& arena);
  Totals check(std::span<const StepSequence> sequences, std::int32_t cache_blocks) const;
  void check_sequence(const StepSequence& sequence, std::int32_t cache_blocks) const;
  void check_cross(const StepSequence& sequence, std::int32_t cache_blocks) const;
  void write(std::span<const StepSequence> sequences, const Totals& totals, std::int32_t* words) const;
  void upload(ops::Stream& stream, Set& set, std::size_t sequences, const Totals& totals);
  ops::DeviceAddress device_word(std::size_t word) const;

  DecoderConfig config_;
  DecoderTypes types_;
  StepLimits limits_;
  std::size_t half_ = 0;  ///< Frequencies of a sequence.
  Words words_;
  Activations full_;             ///< For as many rows as the limits allow.
  ops::Matrix cross_key_value_;  ///< Likewise.
  ops::Buffer arena_;
  ops::Buffer device_words_;
  ops::Buffer slot_tokens_;
  std::vector<Set> sets_;
  std::size_t next_set_ = 0;
  std::optional<CrossBuffers> cross_;
};

}  // namespace peregrine::model
