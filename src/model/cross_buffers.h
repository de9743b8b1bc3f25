// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "model/decoder.h"
#include "ops/device.h"

namespace peregrine::model {

/// Neighbouring texts of a store_cross() that are wanted, as a batch of their own.
struct CrossRange {
  std::int32_t first_row = 0;  ///< Among the rows of the encoder's batch.
  ops::Batch batch;            ///< Rows, sequences, positions and block tables; no token ids.
};

/// Where the texts of one store_cross() go, in host and device memory; there is one at a time.
class CrossBuffers {
 public:
  CrossBuffers(ops::Device& device, const StepLimits& limits);

  /// Device memory in all, in bytes.
  std::size_t bytes() const { return device_words_.size(); }

  /// Checks the texts (`lengths` and `blocks`: one for each; no blocks: the text is not wanted) against the
  /// limits and against a cache of `cache_blocks` blocks, and enqueues the upload of their description. The
  /// ranges are valid until the next call. Allocates nothing. Throws Error(kInternal).
  std::span<const CrossRange> plan(ops::Stream& stream, std::span<const std::int32_t> lengths,
                                   std::span<const std::span<const std::int32_t>> blocks,
                                   std::int32_t cache_blocks);

 private:
  /// Offsets, in 4-byte words, of the parts of the description: the same in host and device memory.
  struct Words {
    std::size_t positions = 0;
    std::size_t row_sequence = 0;
    std::size_t sequence_starts = 0;
    std::size_t block_tables = 0;
    std::size_t end = 0;
  };

  /// Returns how many blocks the longest wanted text takes.
  std::int32_t check(std::span<const std::int32_t> lengths,
                     std::span<const std::span<const std::int32_t>> blocks, std::int32_t cache_blocks) const;
  /// Writes the texts behind `next`, which moves on.
  CrossRange write(std::span<const std::int32_t> lengths,
                   std::span<const std::span<const std::int32_t>> blocks, std::int32_t stride, Words& next);
  void upload(ops::Stream& stream, const Words& end);
  ops::Ints ints(std::size_t word, std::int64_t size) const;

  StepLimits limits_;
  Words words_;
  ops::Buffer device_words_;
  std::vector<std::int32_t> staging_;
  std::vector<CrossRange> ranges_;
  ops::EventId uploaded_ = 0;
  bool used_ = false;
};

}  // namespace peregrine::model
