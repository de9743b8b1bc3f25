// SPDX-License-Identifier: Apache-2.0
#include "model/encoder_buffers.h"

#include <algorithm>

#include "core/checked.h"
#include "core/error.h"
#include "model/arena.h"

namespace peregrine::model {
namespace {

using core::ErrorKind;
using core::fail;

constexpr std::size_t kWord = sizeof(std::int32_t);

template <typename Integer>
std::size_t as_size(Integer value) {
  return static_cast<std::size_t>(value);
}

std::int32_t blocks_of(std::size_t tokens) {
  return static_cast<std::int32_t>(core::ceil_div(tokens, as_size(ops::kBlockTokens)));
}

}  // namespace

EncoderWorkspace::EncoderWorkspace(ops::Device& device, const EncoderConfig& config,
                                   const EncoderTypes& types, const EncoderLimits& limits)
    : config_(config), types_(types), limits_(limits) {
  if (limits.rows < 1 || limits.sequences < 1) {
    fail(ErrorKind::kInternal, "limits of an encoder's batch must be positive: {} rows, {} sequences",
         limits.rows, limits.sequences);
  }
  plan_words();
  const std::size_t arena_bytes = place_activations(nullptr);
  arena_ = device.allocate(arena_bytes);
  place_activations(arena_.address());
  device_words_ = device.allocate(words_.end * kWord);
  staging_.resize(words_.end);
  create_cache(device);
}

void EncoderWorkspace::plan_words() {
  std::size_t next = 0;
  const auto take = [&next](std::size_t count) {
    const std::size_t begin = next;
    next = core::round_up(next + count, Arena::kAlignment / kWord);
    return begin;
  };
  const std::size_t rows = as_size(limits_.rows);
  const std::size_t sequences = as_size(limits_.sequences);
  words_.token_ids = take(rows);
  words_.positions = take(rows);
  words_.row_sequence = take(rows);
  words_.sequence_starts = take(sequences + 1);
  words_.lengths = take(sequences);
  words_.position_rows = take(has_learned_positions() ? rows : 0);
  words_.token_types = take(config_.token_types > 0 ? rows : 0);
  const auto longest = as_size(std::min<std::int64_t>(limits_.rows, config_.max_positions));
  words_.block_tables = take(sequences * as_size(blocks_of(longest)));
  words_.end = next;
}

std::size_t EncoderWorkspace::place_activations(ops::DeviceAddress base) {
  const std::int64_t rows = limits_.rows;
  const std::int64_t hidden = config_.hidden_size;
  const std::int64_t queries = std::int64_t{config_.heads} * config_.head_dim;
  const core::DType compute = types_.compute;
  Arena arena(base);
  full_.residual = arena.take(core::DType::kF32, rows, hidden);
  full_.normed = arena.take(compute, rows, hidden);
  full_.output = types_.output == core::DType::kF32 ? full_.residual : full_.normed;
  const auto labels = static_cast<std::int64_t>(config_.head.labels.size());
  if (config_.head.has_pooler || labels > 0) {
    full_.first = arena.take(compute, limits_.sequences, hidden);
    full_.pooled = arena.take(compute, limits_.sequences, hidden);
    full_.pooler_output = arena.take(core::DType::kF32, limits_.sequences, hidden);
  }
  if (labels > 0) full_.scores = arena.take(core::DType::kF32, limits_.sequences, labels);
  // The embedding is over when the first layer begins, and attention when the MLP begins.
  const std::size_t shared = arena.offset();
  if (config_.embedding_size > 0) {
    full_.embedded = arena.take(core::DType::kF32, rows, config_.embedding_size);
  }
  arena.rewind(shared);
  full_.qkv = arena.take(compute, rows, 3 * queries);
  full_.attention = arena.take(compute, rows, queries);
  arena.rewind(shared);
  full_.up = arena.take(compute, rows, config_.intermediate_size * (config_.gated_mlp ? 2 : 1));
  if (config_.gated_mlp) full_.gated = arena.take(compute, rows, config_.intermediate_size);
  return arena.size();
}

void EncoderWorkspace::create_cache(ops::Device& device) {
  // Every text begins a block, so that each may leave one partly empty.
  const std::int64_t blocks = blocks_of(as_size(limits_.rows)) + std::int64_t{limits_.sequences};
  const ops::KvCacheSpec spec = {.layers = 1,
                                 .kv_heads = config_.heads,
                                 .head_dim = config_.head_dim,
                                 .dtype = types_.compute,
                                 .blocks = static_cast<std::int32_t>(blocks)};
  cache_ = device.create_kv_cache(spec);
  cache_bytes_ = as_size(blocks) * device.kv_block_bytes(spec);
}

std::size_t EncoderWorkspace::bytes() const { return arena_.size() + device_words_.size() + cache_bytes_; }

void EncoderWorkspace::check_sequence(const EncoderSequence& sequence) const {
  const std::size_t tokens = sequence.tokens.size();
  if (tokens == 0 || tokens > as_size(config_.max_positions)) {
    fail(ErrorKind::kInternal, "encoder: a text of {} tokens; 1 to {} can be", tokens, config_.max_positions);
  }
  // A negative id would stand for a token that was sampled, and there is none.
  for (const std::int32_t token : sequence.tokens) {
    if (token < 0 || token >= config_.vocab_size) {
      fail(ErrorKind::kInternal, "encoder: token id {} of {}", token, config_.vocab_size);
    }
  }
  if (sequence.token_types.empty()) return;
  if (config_.token_types == 0 || sequence.token_types.size() != tokens) {
    fail(ErrorKind::kInternal, "encoder: {} token types for {} tokens in a model with {} types",
         sequence.token_types.size(), tokens, config_.token_types);
  }
  for (const std::int32_t type : sequence.token_types) {
    if (type < 0 || type >= config_.token_types) {
      fail(ErrorKind::kInternal, "encoder: token type {} of {}", type, config_.token_types);
    }
  }
}

EncoderWorkspace::Totals EncoderWorkspace::check(std::span<const EncoderSequence> sequences) const {
  if (sequences.empty() || sequences.size() > as_size(limits_.sequences)) {
    fail(ErrorKind::kInternal, "encoder: {} texts, limit {}", sequences.size(), limits_.sequences);
  }
  std::size_t rows = 0, longest = 0;
  for (const auto& sequence : sequences) {
    check_sequence(sequence);
    rows += sequence.tokens.size();
    longest = std::max(longest, sequence.tokens.size());
  }
  if (rows > as_size(limits_.rows)) {
    fail(ErrorKind::kInternal, "encoder: {} tokens, limit {}", rows, limits_.rows);
  }
  return {static_cast<std::int32_t>(rows), static_cast<std::int32_t>(sequences.size()), blocks_of(longest)};
}

void EncoderWorkspace::write_position_rows(std::span<const std::int32_t> tokens, std::int32_t* rows) const {
  std::int32_t next = config_.learned.offset;
  for (const std::int32_t token : tokens) {
    const bool padding = token == config_.padding_id;
    *rows++ = padding ? config_.learned.offset - 1 : next++;
  }
}

void EncoderWorkspace::write(std::span<const EncoderSequence> sequences, const Totals& totals) {
  std::int32_t* words = staging_.data();
  std::int32_t row = 0, index = 0, block = 0;
  for (const auto& sequence : sequences) {
    const auto tokens = static_cast<std::int32_t>(sequence.tokens.size());
    words[words_.sequence_starts + as_size(index)] = row;
    words[words_.lengths + as_size(index)] = tokens;
    std::copy(sequence.tokens.begin(), sequence.tokens.end(), words + words_.token_ids + row);
    for (std::int32_t i = 0; i < tokens; ++i) {
      words[words_.positions + as_size(row + i)] = i;
      words[words_.row_sequence + as_size(row + i)] = index;
    }
    if (has_learned_positions()) write_position_rows(sequence.tokens, words + words_.position_rows + row);
    if (config_.token_types > 0) {
      std::int32_t* types = words + words_.token_types + row;
      std::fill_n(types, tokens, 0);
      std::copy(sequence.token_types.begin(), sequence.token_types.end(), types);
    }
    std::int32_t* table = words + words_.block_tables + as_size(index) * as_size(totals.table_stride);
    const std::int32_t blocks = blocks_of(sequence.tokens.size());
    for (std::int32_t i = 0; i < totals.table_stride; ++i) table[i] = i < blocks ? block + i : 0;
    block += blocks;
    row += tokens;
    ++index;
  }
  words[words_.sequence_starts + as_size(index)] = row;
}

void EncoderWorkspace::upload(ops::Stream& stream, const Totals& totals) {
  const auto copy = [&](std::size_t begin, std::size_t count) {
    stream.upload(device_words_.address() + begin * kWord, staging_.data() + begin, count * kWord);
  };
  const std::size_t rows = as_size(totals.rows);
  const std::size_t sequences = as_size(totals.sequences);
  copy(words_.token_ids, rows);
  copy(words_.positions, rows);
  copy(words_.row_sequence, rows);
  copy(words_.sequence_starts, sequences + 1);
  copy(words_.lengths, sequences);
  if (has_learned_positions()) copy(words_.position_rows, rows);
  if (config_.token_types > 0) copy(words_.token_types, rows);
  copy(words_.block_tables, sequences * as_size(totals.table_stride));
  uploaded_ = stream.record();
}

PlannedBatch EncoderWorkspace::describe(const Totals& totals) const {
  const auto ints = [this](std::size_t word, std::int64_t size) {
    return ops::Ints{device_words_.address() + word * kWord, size};
  };
  PlannedBatch out;
  out.batch = {
      .rows = totals.rows,
      .sequences = totals.sequences,
      .token_ids = ints(words_.token_ids, totals.rows),
      .slot_tokens = {},
      .positions = ints(words_.positions, totals.rows),
      .row_sequence = ints(words_.row_sequence, totals.rows),
      .sequence_starts = ints(words_.sequence_starts, totals.sequences + 1),
      .block_tables = ints(words_.block_tables, std::int64_t{totals.sequences} * totals.table_stride),
      .table_stride = totals.table_stride};
  out.lengths = ints(words_.lengths, totals.sequences);
  out.host_lengths = std::span(staging_).subspan(words_.lengths, as_size(totals.sequences));
  if (has_learned_positions()) out.position_rows = ints(words_.position_rows, totals.rows);
  if (config_.token_types > 0) out.token_types = ints(words_.token_types, totals.rows);
  out.at = full_;
  for (ops::Matrix* matrix : {&out.at.residual, &out.at.normed, &out.at.output, &out.at.embedded, &out.at.qkv,
                              &out.at.attention, &out.at.up, &out.at.gated}) {
    matrix->rows = totals.rows;
  }
  for (ops::Matrix* matrix : {&out.at.first, &out.at.pooled, &out.at.pooler_output, &out.at.scores}) {
    matrix->rows = totals.sequences;
  }
  return out;
}

void EncoderWorkspace::plan(ops::Stream& stream, std::span<const EncoderSequence> sequences) {
  const Totals totals = check(sequences);
  // The upload of the batch before may still be queued.
  if (batch_.batch.rows > 0) stream.wait(uploaded_);
  write(sequences, totals);
  upload(stream, totals);
  batch_ = describe(totals);
}

const PlannedBatch& EncoderWorkspace::batch() const {
  if (batch_.batch.rows == 0) fail(ErrorKind::kInternal, "encoder: no batch was begun");
  return batch_;
}

}  // namespace peregrine::model
