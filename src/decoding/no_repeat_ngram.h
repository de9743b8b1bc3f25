// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "decoding/ngram_index.h"
#include "decoding/processors.h"

namespace peregrine::decoding {

/// Forbids every token that would complete an n-gram which the sequence (prompt included) already holds.
/// R. Paulus et al., "A deep reinforced model for abstractive summarization", arXiv:1705.04304, section 2.5.
/// A step costs the number of tokens it forbids, not the length of the sequence.
class NoRepeatNgram : public StatefulProcessor<NoRepeatNgram> {
 public:
  /// `size` is n >= 1.
  NoRepeatNgram(std::int32_t size, std::size_t tokens_expected) : seen_(size, tokens_expected) {}
  void append(std::span<const std::int32_t> tokens, bool generated) override;
  void apply(std::span<float> logits, std::span<const std::int32_t> tokens) const override;

 private:
  NgramIndex seen_;
};

/// Forbids every token that would complete an n-gram which the encoder's text holds (transformers'
/// EncoderNoRepeatNGramLogitsProcessor).
class EncoderNoRepeatNgram : public LogitsProcessor {
 public:
  /// `size` is n >= 1.
  EncoderNoRepeatNgram(std::int32_t size, std::span<const std::int32_t> encoder_ids);
  void apply(std::span<float> logits, std::span<const std::int32_t> tokens) const override;

 private:
  std::vector<std::int32_t> text_;
  NgramIndex seen_;
};

}  // namespace peregrine::decoding
