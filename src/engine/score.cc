// SPDX-License-Identifier: Apache-2.0
#include "engine/score.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <numeric>

#include "core/checked.h"
#include "core/error.h"

namespace peregrine::engine {

using core::ErrorKind;

namespace {

void check(const model::DecoderConfig& config, std::span<const std::int32_t> ids, std::int32_t chunk) {
  if (ids.empty()) core::fail(ErrorKind::kInvalidArgument, "no tokens to score; there must be at least one");
  if (chunk < 1) core::fail(ErrorKind::kInvalidArgument, "chunk is {}; it must be at least 1", chunk);
  const std::int64_t longest =
      std::min<std::int64_t>(config.max_positions, std::numeric_limits<std::int32_t>::max() / 2);
  if (std::ssize(ids) > longest) {
    core::fail(ErrorKind::kInvalidArgument, "{} tokens to score; the model's context is {} tokens",
               ids.size(), longest);
  }
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= config.vocab_size) {
      core::fail(ErrorKind::kInvalidArgument, "token id {} at position {}; the model's are 0 to {}", ids[i],
                 i, config.vocab_size - 1);
    }
  }
}

void download_rows(ops::Stream& stream, const ops::Matrix& from, std::int64_t width, float* to) {
  for (std::int64_t row = 0; row < from.rows; ++row) {
    stream.download(to + row * width, from.data + static_cast<std::size_t>(row * from.stride) * sizeof(float),
                    static_cast<std::size_t>(width) * sizeof(float));
  }
}

}  // namespace

std::vector<float> compute_logits(ops::Device& device, const model::Decoder& model,
                                  std::span<const std::int32_t> ids, bool all_positions, std::int32_t chunk) {
  const model::DecoderConfig& config = model.config();
  check(config, ids, chunk);
  const auto length = static_cast<std::int32_t>(ids.size());
  const std::int32_t step_rows = std::min(chunk, length);

  model::StepLimits limits;
  limits.rows = step_rows;
  limits.sequences = 1;
  limits.logit_rows = all_positions ? step_rows : 1;
  limits.blocks_per_sequence = core::ceil_div(length, ops::kBlockTokens);
  limits.slots = 1;
  const auto buffers = model.create_buffers(limits, 1);
  ops::KvCacheSpec spec = model.kv_cache_spec();
  spec.blocks = limits.blocks_per_sequence;
  const auto cache = device.create_kv_cache(spec);
  std::vector<std::int32_t> blocks(static_cast<std::size_t>(spec.blocks));
  std::iota(blocks.begin(), blocks.end(), 0);
  const std::vector<float> frequencies = model.rotary_frequencies(length);

  const auto rows = static_cast<std::size_t>(all_positions ? length : 1);
  std::vector<float> logits(rows * static_cast<std::size_t>(config.vocab_size));
  float* next = logits.data();
  const auto stream = device.create_stream();
  for (std::int32_t start = 0; start < length; start += step_rows) {
    const std::int32_t count = std::min(step_rows, length - start);
    const bool last = start + count == length;
    const auto used = static_cast<std::size_t>(core::ceil_div(start + count, ops::kBlockTokens));
    const model::StepSequence sequence{
        .tokens = ids.subspan(static_cast<std::size_t>(start), static_cast<std::size_t>(count)),
        .start = start,
        .blocks = std::span(blocks).first(used),
        .rotary_frequencies = frequencies,
        .logit_rows = all_positions ? count : (last ? 1 : 0)};
    const ops::Matrix out = model.forward(*stream, *buffers, *cache, {&sequence, 1});
    if (sequence.logit_rows > 0) {
      download_rows(*stream, out, config.vocab_size, next);
      next += static_cast<std::int64_t>(sequence.logit_rows) * config.vocab_size;
    }
    stream->wait(stream->record());  // The buffers are made for one step.
  }
  return logits;
}

}  // namespace peregrine::engine
