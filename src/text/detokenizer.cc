// SPDX-License-Identifier: Apache-2.0
#include "text/detokenizer.h"

#include "text/tokenizer_parts.h"

namespace peregrine::text {

struct StreamingDetokenizer::State {
  const Tokenizer::Parts& parts;
  bool skip_special;
  TextSink text{};
  std::unique_ptr<TokenSink> decoder{};  // writes to text
};

StreamingDetokenizer::StreamingDetokenizer(const Tokenizer& tokenizer, bool skip_special)
    : state_(new State{*tokenizer.parts_, skip_special}) {
  state_->decoder = state_->parts.decoder->start(state_->text, true);
}

StreamingDetokenizer::~StreamingDetokenizer() = default;
StreamingDetokenizer::StreamingDetokenizer(StreamingDetokenizer&&) noexcept = default;
StreamingDetokenizer& StreamingDetokenizer::operator=(StreamingDetokenizer&&) noexcept = default;

std::string StreamingDetokenizer::push(std::int32_t id) {
  const Tokenizer::Parts::Token* token = state_->parts.find(id);
  if (token == nullptr || (state_->skip_special && token->special)) return {};
  state_->decoder->part(token->decoded);
  state_->decoder->end_token();
  return state_->text.take();
}

std::string StreamingDetokenizer::finish() {
  state_->decoder->finish();
  return state_->text.take();
}

}  // namespace peregrine::text
