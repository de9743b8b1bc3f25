// SPDX-License-Identifier: Apache-2.0
#include "model/step_buffers.h"

#include <algorithm>
#include <cstring>

#include "core/checked.h"
#include "core/error.h"
#include "model/arena.h"

namespace peregrine::model {
namespace {

using core::ErrorKind;
using core::fail;

constexpr std::size_t kWord = sizeof(std::int32_t);
static_assert(sizeof(float) == kWord);

std::size_t as_size(std::int32_t value) { return static_cast<std::size_t>(value); }

/// The blocks of `positions` positions; the rest of the table's `stride` entries is not used.
void write_table(std::span<const std::int32_t> blocks, std::int32_t positions, std::int32_t stride,
                 std::int32_t* table) {
  const std::int32_t used = core::ceil_div(positions, ops::kBlockTokens);
  std::copy_n(blocks.begin(), used, table);
  std::fill(table + used, table + stride, 0);
}

}  // namespace

DecoderBuffers::DecoderBuffers(ops::Device& device, const DecoderConfig& config, const DecoderTypes& types,
                               const StepLimits& limits, int in_flight)
    : config_(config), types_(types), limits_(limits) {
  if (limits.rows < 1 || limits.sequences < 1 || limits.logit_rows < 1 || limits.blocks_per_sequence < 1 ||
      limits.slots < 0 || in_flight < 1) {
    fail(ErrorKind::kInternal,
         "step limits must be positive: {} rows, {} sequences, {} rows of logits, {} blocks, {} slots, {} in "
         "flight",
         limits.rows, limits.sequences, limits.logit_rows, limits.blocks_per_sequence, limits.slots,
         in_flight);
  }
  if (config.positions == PositionKind::kRotary) half_ = as_size(config.rotary.dim / 2);
  if (config.cross_attention) cross_.emplace(device, limits);
  plan_words();
  const std::size_t arena_bytes = place_activations(nullptr);
  arena_ = device.allocate(arena_bytes);
  place_activations(arena_.address());
  device_words_ = device.allocate(words_.end * kWord);
  slot_tokens_ = device.allocate(std::max<std::size_t>(1, as_size(limits.slots)) * kWord);
  const std::size_t logits = as_size(limits.logit_rows) * static_cast<std::size_t>(config.vocab_size);
  for (int i = 0; i < in_flight; ++i) {
    Set set;
    set.staging.resize(words_.end);
    set.logits = device.allocate(logits * sizeof(float));
    sets_.push_back(std::move(set));
  }
}

void DecoderBuffers::plan_words() {
  std::size_t next = 0;
  const auto take = [&next](std::size_t count) {
    const std::size_t begin = next;
    next = core::round_up(next + count, Arena::kAlignment / kWord);
    return begin;
  };
  words_.token_ids = take(as_size(limits_.rows));
  words_.positions = take(as_size(limits_.rows));
  words_.row_sequence = take(as_size(limits_.rows));
  words_.sequence_starts = take(as_size(limits_.sequences) + 1);
  words_.logit_index = take(as_size(limits_.logit_rows));
  const std::size_t attended = config_.cross_attention ? as_size(limits_.sequences) : 0;
  words_.cross_lengths = take(attended);
  words_.block_tables = take(as_size(limits_.sequences) * as_size(limits_.blocks_per_sequence));
  words_.cross_tables = take(attended * as_size(limits_.cross_blocks_per_sequence));
  words_.frequencies = take(as_size(limits_.sequences) * half_);
  words_.end = next;
}

std::size_t DecoderBuffers::place_activations(ops::DeviceAddress base) {
  const std::int64_t rows = limits_.rows;
  const std::int64_t queries = std::int64_t{config_.heads} * config_.head_dim;
  const std::int64_t keys = std::int64_t{config_.kv_heads} * config_.head_dim;
  const core::DType compute = types_.compute;
  Arena arena(base);
  full_.residual = arena.take(core::DType::kF32, rows, config_.hidden_size);
  full_.normed = arena.take(compute, std::max(rows, std::int64_t{limits_.logit_rows}), config_.hidden_size);
  full_.normed_head = full_.normed;
  if (config_.embedding_size > 0) {
    full_.embedded = arena.take(core::DType::kF32, rows, config_.embedding_size);
    full_.projected_head = arena.take(compute, limits_.logit_rows, config_.embedding_size);
  }
  if (config_.residual == ResidualOrder::kSandwich) {
    full_.branch = arena.take(core::DType::kF32, rows, config_.hidden_size);
  }
  if (config_.residual == ResidualOrder::kParallelTwoNorms) {
    full_.normed_mlp = arena.take(compute, rows, config_.hidden_size);
  }
  if (half_ > 0) {
    full_.cosines = arena.take(core::DType::kF32, rows, static_cast<std::int64_t>(half_));
    full_.sines = arena.take(core::DType::kF32, rows, static_cast<std::int64_t>(half_));
  }
  const std::size_t shared = arena.offset();
  full_.qkv = arena.take(compute, rows, queries + 2 * keys);
  full_.attention = arena.take(compute, rows, queries);
  // Attention is over when the MLP begins, unless their first products are one operation.
  const bool beside = config_.residual == ResidualOrder::kParallelOneNorm ||
                      config_.residual == ResidualOrder::kParallelTwoNorms;
  if (!beside || config_.experts.count > 0) arena.rewind(shared);
  if (config_.cross_attention) {
    cross_key_value_ = arena.take(compute, limits_.encoder.rows, 2 * keys);
    arena.rewind(shared);
  }
  full_.up = arena.take(compute, rows, config_.intermediate_size * (config_.gated_mlp ? 2 : 1));
  if (config_.gated_mlp) full_.gated = arena.take(compute, rows, config_.intermediate_size);
  if (config_.experts.count > 0) {
    arena.rewind(shared);
    place_routed(arena);
  }
  return arena.size();
}

void DecoderBuffers::place_routed(Arena& arena) {
  const ExpertsConfig& experts = config_.experts;
  RoutedActivations& routed = full_.routed;
  const std::int64_t pairs = std::int64_t{limits_.rows} * experts.of_token();
  const std::int64_t widest = std::max(experts.intermediate_size, experts.shared_intermediate_size);
  const auto words = [&arena](core::DType dtype, std::int64_t size) {
    return arena.take(dtype, 1, size).data;
  };
  routed.scores = arena.take(core::DType::kF32, limits_.rows, experts.all());
  routed.chosen = {words(core::DType::kI32, pairs), pairs};
  routed.weights = {words(core::DType::kF32, pairs), pairs};
  const std::int64_t order = pairs + experts.all() + 1;
  routed.order = {words(core::DType::kI32, order), order};
  routed.gathered = arena.take(types_.compute, pairs, config_.hidden_size);
  routed.raised = arena.take(types_.compute, pairs, 2 * widest);
  routed.gated = arena.take(types_.compute, pairs, widest);
  routed.lowered = arena.take(core::DType::kF32, pairs, config_.hidden_size);
}

std::size_t DecoderBuffers::bytes() const {
  std::size_t out = arena_.size() + device_words_.size() + slot_tokens_.size();
  for (const auto& set : sets_) out += set.logits.size();
  if (cross_) out += cross_->bytes();
  return out;
}

ops::Ints DecoderBuffers::slot_tokens() const { return {slot_tokens_.address(), limits_.slots}; }

Activations DecoderBuffers::activations(std::int32_t rows, std::int32_t logit_rows) const {
  Activations out = full_;
  for (ops::Matrix* matrix : {&out.residual, &out.normed, &out.embedded, &out.branch, &out.normed_mlp,
                              &out.qkv, &out.attention, &out.up, &out.gated, &out.cosines, &out.sines}) {
    matrix->rows = rows;
  }
  out.normed_head.rows = out.projected_head.rows = logit_rows;
  RoutedActivations& routed = out.routed;
  const std::int64_t pairs = std::int64_t{rows} * config_.experts.of_token();
  routed.scores.rows = rows;
  routed.chosen.size = routed.weights.size = pairs;
  routed.order.size = pairs + config_.experts.all() + 1;
  for (ops::Matrix* matrix : {&routed.gathered, &routed.raised, &routed.gated, &routed.lowered}) {
    matrix->rows = pairs;
  }
  return out;
}

void DecoderBuffers::check_sequence(const StepSequence& sequence, std::int32_t cache_blocks) const {
  const std::size_t tokens = sequence.tokens.size();
  if (tokens == 0 || tokens > as_size(limits_.rows) || sequence.start < 0) {
    fail(ErrorKind::kInternal, "step: a sequence has {} tokens from position {}", tokens, sequence.start);
  }
  if (sequence.logit_rows < 0 || as_size(sequence.logit_rows) > tokens) {
    fail(ErrorKind::kInternal, "step: {} rows of logits of {} tokens", sequence.logit_rows, tokens);
  }
  const std::size_t blocks = core::ceil_div(as_size(sequence.start) + tokens, as_size(ops::kBlockTokens));
  if (sequence.blocks.size() < blocks || blocks > as_size(limits_.blocks_per_sequence)) {
    fail(ErrorKind::kInternal, "step: {} blocks for {} positions; {} needed, limit {}",
         sequence.blocks.size(), as_size(sequence.start) + tokens, blocks, limits_.blocks_per_sequence);
  }
  if (sequence.rotary_frequencies.size() != half_) {
    fail(ErrorKind::kInternal, "step: {} rotary frequencies, expected {}", sequence.rotary_frequencies.size(),
         half_);
  }
  // A stray id would be a stray address on the device.
  for (const std::int32_t block : sequence.blocks.first(blocks)) {
    if (block < 0 || block >= cache_blocks) {
      fail(ErrorKind::kInternal, "step: KV block {} of {}", block, cache_blocks);
    }
  }
  check_cross(sequence, cache_blocks);
  for (const std::int32_t token : sequence.tokens) {
    if (token < 0 && token_of_slot(token) >= limits_.slots) {
      fail(ErrorKind::kInternal, "step: token slot {} of {}", token_of_slot(token), limits_.slots);
    }
  }
}

void DecoderBuffers::check_cross(const StepSequence& sequence, std::int32_t cache_blocks) const {
  if (!config_.cross_attention && sequence.cross_length == 0 && sequence.cross_blocks.empty()) return;
  if (!config_.cross_attention || sequence.cross_length < 1) {
    fail(ErrorKind::kInternal, "step: a text of {} tokens for a model {} cross-attention",
         sequence.cross_length, config_.cross_attention ? "with" : "without");
  }
  const std::size_t blocks = core::ceil_div(as_size(sequence.cross_length), as_size(ops::kBlockTokens));
  if (sequence.cross_blocks.size() < blocks || blocks > as_size(limits_.cross_blocks_per_sequence)) {
    fail(ErrorKind::kInternal, "step: {} blocks for a text of {} tokens; {} needed, limit {}",
         sequence.cross_blocks.size(), sequence.cross_length, blocks, limits_.cross_blocks_per_sequence);
  }
  for (const std::int32_t block : sequence.cross_blocks.first(blocks)) {
    if (block < 0 || block >= cache_blocks) {
      fail(ErrorKind::kInternal, "step: KV block {} of {} for a text", block, cache_blocks);
    }
  }
}

DecoderBuffers::Totals DecoderBuffers::check(std::span<const StepSequence> sequences,
                                             std::int32_t cache_blocks) const {
  if (sequences.empty() || sequences.size() > as_size(limits_.sequences)) {
    fail(ErrorKind::kInternal, "step: {} sequences, limit {}", sequences.size(), limits_.sequences);
  }
  std::size_t rows = 0, logit_rows = 0, stride = 0, cross_stride = 0;
  for (const auto& sequence : sequences) {
    check_sequence(sequence, cache_blocks);
    rows += sequence.tokens.size();
    logit_rows += as_size(sequence.logit_rows);
    stride = std::max(
        stride, core::ceil_div(as_size(sequence.start) + sequence.tokens.size(), as_size(ops::kBlockTokens)));
    cross_stride =
        std::max(cross_stride, core::ceil_div(as_size(sequence.cross_length), as_size(ops::kBlockTokens)));
  }
  if (rows > as_size(limits_.rows) || logit_rows > as_size(limits_.logit_rows)) {
    fail(ErrorKind::kInternal, "step: {} rows, limit {}; {} rows of logits, limit {}", rows, limits_.rows,
         logit_rows, limits_.logit_rows);
  }
  return {static_cast<std::int32_t>(rows), static_cast<std::int32_t>(logit_rows),
          static_cast<std::int32_t>(stride), static_cast<std::int32_t>(cross_stride)};
}

void DecoderBuffers::write(std::span<const StepSequence> sequences, const Totals& totals,
                           std::int32_t* words) const {
  std::int32_t row = 0, logit_row = 0, index = 0;
  for (const auto& sequence : sequences) {
    const auto tokens = static_cast<std::int32_t>(sequence.tokens.size());
    words[words_.sequence_starts + as_size(index)] = row;
    std::copy(sequence.tokens.begin(), sequence.tokens.end(), words + words_.token_ids + row);
    for (std::int32_t i = 0; i < tokens; ++i) {
      words[words_.positions + as_size(row + i)] = sequence.start + i;
      words[words_.row_sequence + as_size(row + i)] = index;
    }
    for (std::int32_t i = tokens - sequence.logit_rows; i < tokens; ++i) {
      words[words_.logit_index + as_size(logit_row++)] = row + i;
    }
    write_table(sequence.blocks, sequence.start + tokens, totals.table_stride,
                words + words_.block_tables + as_size(index) * as_size(totals.table_stride));
    if (config_.cross_attention) {
      words[words_.cross_lengths + as_size(index)] = sequence.cross_length;
      write_table(sequence.cross_blocks, sequence.cross_length, totals.cross_stride,
                  words + words_.cross_tables + as_size(index) * as_size(totals.cross_stride));
    }
    if (half_ > 0) {
      std::memcpy(words + words_.frequencies + as_size(index) * half_, sequence.rotary_frequencies.data(),
                  half_ * sizeof(float));
    }
    row += tokens;
    ++index;
  }
  words[words_.sequence_starts + as_size(index)] = row;
}

ops::DeviceAddress DecoderBuffers::device_word(std::size_t word) const {
  return device_words_.address() + word * kWord;
}

void DecoderBuffers::upload(ops::Stream& stream, Set& set, std::size_t sequences, const Totals& totals) {
  const auto copy = [&](std::size_t begin, std::size_t count) {
    if (count > 0) stream.upload(device_word(begin), set.staging.data() + begin, count * kWord);
  };
  // Everything before the tables is small and goes in one piece.
  copy(0, words_.block_tables);
  copy(words_.block_tables, sequences * as_size(totals.table_stride));
  copy(words_.cross_tables, sequences * as_size(totals.cross_stride));
  copy(words_.frequencies, sequences * half_);
  set.uploaded = stream.record();
  set.used = true;
}

PlannedStep DecoderBuffers::plan(ops::Stream& stream, std::span<const StepSequence> sequences,
                                 std::int32_t cache_blocks) {
  const Totals totals = check(sequences, cache_blocks);
  Set& set = sets_[next_set_];
  next_set_ = (next_set_ + 1) % sets_.size();
  // The upload of the step that used this set may still be queued.
  if (set.used) stream.wait(set.uploaded);
  write(sequences, totals, set.staging.data());
  upload(stream, set, sequences.size(), totals);

  const auto ints = [this](std::size_t word, std::int64_t size) {
    return ops::Ints{device_word(word), size};
  };
  const auto count = static_cast<std::int32_t>(sequences.size());
  PlannedStep out;
  out.batch = {.rows = totals.rows,
               .sequences = count,
               .token_ids = ints(words_.token_ids, totals.rows),
               .slot_tokens = slot_tokens(),
               .positions = ints(words_.positions, totals.rows),
               .row_sequence = ints(words_.row_sequence, totals.rows),
               .sequence_starts = ints(words_.sequence_starts, count + 1),
               .block_tables = ints(words_.block_tables, std::int64_t{count} * totals.table_stride),
               .table_stride = totals.table_stride};
  if (config_.cross_attention) {
    out.cross_batch = out.batch;
    out.cross_batch.table_stride = totals.cross_stride;
    out.cross_batch.block_tables = ints(words_.cross_tables, std::int64_t{count} * totals.cross_stride);
    out.cross_lengths = ints(words_.cross_lengths, count);
  }
  out.frequencies = {device_word(words_.frequencies), std::int64_t{count} * static_cast<std::int64_t>(half_)};
  out.logit_rows = totals.logit_rows;
  out.logit_index = ints(words_.logit_index, totals.logit_rows);
  out.logits = {set.logits.address(), core::DType::kF32, totals.logit_rows, config_.vocab_size,
                config_.vocab_size};
  return out;
}

}  // namespace peregrine::model
