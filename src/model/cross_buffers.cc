// SPDX-License-Identifier: Apache-2.0
#include "model/cross_buffers.h"

#include <algorithm>
#include <numeric>

#include "core/checked.h"
#include "core/error.h"
#include "model/arena.h"

namespace peregrine::model {
namespace {

using core::ErrorKind;
using core::fail;

constexpr std::size_t kWord = sizeof(std::int32_t);

std::size_t as_size(std::int32_t value) { return static_cast<std::size_t>(value); }

std::int32_t blocks_of(std::int32_t length) { return core::ceil_div(length, ops::kBlockTokens); }

}  // namespace

CrossBuffers::CrossBuffers(ops::Device& device, const StepLimits& limits) : limits_(limits) {
  if (limits.encoder.rows < 1 || limits.encoder.sequences < 1 || limits.cross_blocks_per_sequence < 1) {
    fail(ErrorKind::kInternal,
         "limits of cross-attention must be positive: {} rows, {} sequences, {} blocks of a sequence",
         limits.encoder.rows, limits.encoder.sequences, limits.cross_blocks_per_sequence);
  }
  std::size_t next = 0;
  const auto take = [&next](std::size_t count) {
    const std::size_t begin = next;
    next = core::round_up(next + count, Arena::kAlignment / kWord);
    return begin;
  };
  const std::size_t rows = as_size(limits.encoder.rows), sequences = as_size(limits.encoder.sequences);
  words_.positions = take(rows);
  words_.row_sequence = take(rows);
  words_.sequence_starts = take(2 * sequences);  // Every range has one more than it has texts.
  words_.block_tables = take(sequences * as_size(limits.cross_blocks_per_sequence));
  words_.end = next;
  device_words_ = device.allocate(words_.end * kWord);
  staging_.resize(words_.end);
  ranges_.reserve(sequences);
}

std::span<const CrossRange> CrossBuffers::plan(ops::Stream& stream, std::span<const std::int32_t> lengths,
                                               std::span<const std::span<const std::int32_t>> blocks,
                                               std::int32_t cache_blocks) {
  const std::int32_t stride = check(lengths, blocks, cache_blocks);
  // The upload of the texts before may still be queued.
  if (used_) stream.wait(uploaded_);
  ranges_.clear();
  Words next = words_;
  std::int32_t row = 0;
  for (std::size_t begin = 0; begin < lengths.size();) {
    std::size_t end = begin;
    while (end < lengths.size() && !blocks[end].empty()) ++end;
    if (end > begin) {
      CrossRange range =
          write(lengths.subspan(begin, end - begin), blocks.subspan(begin, end - begin), stride, next);
      range.first_row = row;
      row += range.batch.rows;
      ranges_.push_back(range);
    }
    for (begin = end; begin < lengths.size() && blocks[begin].empty(); ++begin) row += lengths[begin];
  }
  upload(stream, next);
  return ranges_;
}

std::int32_t CrossBuffers::check(std::span<const std::int32_t> lengths,
                                 std::span<const std::span<const std::int32_t>> blocks,
                                 std::int32_t cache_blocks) const {
  if (lengths.size() != blocks.size() || lengths.size() > as_size(limits_.encoder.sequences)) {
    fail(ErrorKind::kInternal, "cross-attention: {} texts with {} lists of blocks, limit {}", lengths.size(),
         blocks.size(), limits_.encoder.sequences);
  }
  std::int32_t stride = 0;
  std::int64_t rows = 0;
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    if (lengths[i] < 1) fail(ErrorKind::kInternal, "cross-attention: a text of {} tokens", lengths[i]);
    rows += lengths[i];
    if (blocks[i].empty()) continue;
    const std::int32_t needed = blocks_of(lengths[i]);
    if (blocks[i].size() < as_size(needed) || needed > limits_.cross_blocks_per_sequence) {
      fail(ErrorKind::kInternal, "cross-attention: {} blocks for a text of {} tokens; {} needed, limit {}",
           blocks[i].size(), lengths[i], needed, limits_.cross_blocks_per_sequence);
    }
    // A stray id would be a stray address on the device.
    for (const std::int32_t block : blocks[i].first(as_size(needed))) {
      if (block < 0 || block >= cache_blocks) {
        fail(ErrorKind::kInternal, "cross-attention: KV block {} of {}", block, cache_blocks);
      }
    }
    stride = std::max(stride, needed);
  }
  if (rows > limits_.encoder.rows) {
    fail(ErrorKind::kInternal, "cross-attention: texts of {} tokens, limit {}", rows, limits_.encoder.rows);
  }
  return stride;
}

CrossRange CrossBuffers::write(std::span<const std::int32_t> lengths,
                               std::span<const std::span<const std::int32_t>> blocks, std::int32_t stride,
                               Words& next) {
  const Words begin = next;
  std::int32_t row = 0;
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    const auto position = staging_.begin() + static_cast<std::ptrdiff_t>(next.positions);
    std::iota(position, position + lengths[i], 0);
    std::fill_n(staging_.begin() + static_cast<std::ptrdiff_t>(next.row_sequence), lengths[i],
                static_cast<std::int32_t>(i));
    next.positions += as_size(lengths[i]);
    next.row_sequence += as_size(lengths[i]);
    staging_[next.sequence_starts++] = row;
    row += lengths[i];
    const auto table = staging_.begin() + static_cast<std::ptrdiff_t>(next.block_tables);
    const std::int32_t used = blocks_of(lengths[i]);
    std::copy_n(blocks[i].begin(), used, table);
    std::fill(table + used, table + stride, 0);
    next.block_tables += as_size(stride);
  }
  staging_[next.sequence_starts++] = row;
  const auto count = static_cast<std::int32_t>(lengths.size());
  return {.first_row = 0,
          .batch = {.rows = row,
                    .sequences = count,
                    .token_ids = {},
                    .slot_tokens = {},
                    .positions = ints(begin.positions, row),
                    .row_sequence = ints(begin.row_sequence, row),
                    .sequence_starts = ints(begin.sequence_starts, count + 1),
                    .block_tables = ints(begin.block_tables, std::int64_t{count} * stride),
                    .table_stride = stride}};
}

void CrossBuffers::upload(ops::Stream& stream, const Words& end) {
  const auto copy = [&](std::size_t begin, std::size_t stop) {
    if (stop > begin) {
      stream.upload(device_words_.address() + begin * kWord, staging_.data() + begin, (stop - begin) * kWord);
    }
  };
  copy(words_.positions, end.positions);
  copy(words_.row_sequence, end.row_sequence);
  copy(words_.sequence_starts, end.sequence_starts);
  copy(words_.block_tables, end.block_tables);
  uploaded_ = stream.record();
  used_ = true;
}

ops::Ints CrossBuffers::ints(std::size_t word, std::int64_t size) const {
  return {device_words_.address() + word * kWord, size};
}

}  // namespace peregrine::model
