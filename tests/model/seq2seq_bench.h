// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "model/decoder.h"
#include "model/encoder.h"
#include "model/load.h"
#include "ops/device.h"

namespace peregrine::model {

/// A text as a decoder attends to it.
struct StoredText {
  std::vector<std::int32_t> blocks;
  std::int32_t length = 0;
};

/// A decoder's own tokens with their blocks.
struct AnswerText {
  std::vector<std::int32_t> tokens;
  std::vector<std::int32_t> blocks;
};

/// An encoder-decoder with a KV cache and buffers, for running texts and steps by hand. Blocks are given out
/// in an order that is neither ascending nor contiguous, block 0 first.
class Seq2SeqBench {
 public:
  static constexpr std::int32_t kBlocks = 512;
  static constexpr StepLimits kLimits = {.rows = 64,
                                         .sequences = 8,
                                         .logit_rows = 64,
                                         .blocks_per_sequence = 8,
                                         .slots = 1,
                                         .encoder = {.rows = 400, .sequences = 6},
                                         .cross_blocks_per_sequence = 20};

  Seq2SeqBench(std::unique_ptr<ops::Device> device, const std::function<LoadedModel(ops::Device&)>& load);

  const Decoder& decoder() const { return *model_.decoder; }
  const Encoder& encoder() const { return *model_.encoder; }
  std::size_t vocab() const { return static_cast<std::size_t>(decoder().config().vocab_size); }

  /// Blocks for `tokens` positions that no other call has been given.
  std::vector<std::int32_t> take_blocks(std::size_t tokens);
  AnswerText answer(std::vector<std::int32_t> tokens);

  /// Encodes `texts` in one batch and stores those that are `wanted` (empty: all of them); a text that is not
  /// has no blocks.
  std::vector<StoredText> store(const std::vector<std::vector<std::int32_t>>& texts,
                                const std::vector<bool>& wanted = {});
  /// Encodes a text and stores it in `blocks`, whatever they are.
  void store_at(const std::vector<std::int32_t>& text, std::span<const std::int32_t> blocks);

  /// `count` tokens of `answer` from `start` on, which attend to `text`; logits for all of them.
  static StepSequence piece(const AnswerText& answer, const StoredText& text, std::size_t start,
                            std::size_t count);
  /// Runs one step, and waits. Logits, one row after the other.
  std::vector<float> run(std::span<const StepSequence> sequences);
  /// `tokens` alone, `chunk` tokens in a step (0: all); logits of every position.
  std::vector<float> decode(const std::vector<std::int32_t>& tokens, const StoredText& text,
                            std::size_t chunk = 0);

 private:
  void store_cross(const std::vector<std::vector<std::int32_t>>& texts,
                   std::span<const std::span<const std::int32_t>> blocks);

  std::unique_ptr<ops::Device> device_;
  LoadedModel model_;
  std::unique_ptr<ops::KvCache> cache_;
  std::unique_ptr<StepBuffers> buffers_;
  std::unique_ptr<EncoderBuffers> encoder_buffers_;
  std::unique_ptr<ops::Stream> stream_;
  std::int32_t next_block_ = 0;
};

/// `count` token ids below `vocab` that differ from place to place.
std::vector<std::int32_t> some_tokens(std::size_t count, std::int32_t seed, std::int32_t vocab = 90);

}  // namespace peregrine::model
