// SPDX-License-Identifier: Apache-2.0
#include "decoding/no_repeat_ngram.h"

namespace peregrine::decoding {

void NoRepeatNgram::append(std::span<const std::int32_t> tokens, bool) { seen_.append(tokens); }

void NoRepeatNgram::apply(std::span<float> logits, std::span<const std::int32_t> tokens) const {
  if (tokens.size() < seen_.prefix()) return;
  seen_.forbid(tokens, tokens.last(seen_.prefix()), seen_.window(), logits);
}

EncoderNoRepeatNgram::EncoderNoRepeatNgram(std::int32_t size, std::span<const std::int32_t> encoder_ids)
    : text_(encoder_ids.begin(), encoder_ids.end()), seen_(size, encoder_ids.size()) {
  for (std::size_t i = 1; i <= text_.size(); ++i) seen_.append(std::span(text_).first(i));
}

void EncoderNoRepeatNgram::apply(std::span<float> logits, std::span<const std::int32_t> tokens) const {
  if (tokens.size() < seen_.prefix()) return;
  const auto prefix = tokens.last(seen_.prefix());
  seen_.forbid(text_, prefix, NgramIndex::hash(prefix), logits);
}

}  // namespace peregrine::decoding
