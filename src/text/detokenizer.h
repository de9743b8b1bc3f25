// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "text/tokenizer.h"

namespace peregrine::text {

/// Turns token ids into text as they come. Every piece is valid UTF-8; a character appears with the id that
/// completes it; all pieces together are what Tokenizer::decode gives for the ids. (With one exception: where
/// a run of byte tokens such as <0xE5> forms characters first and breaks later, decode makes U+FFFD of the
/// whole run, while the characters that a stream has shown stay.) Each id costs the same, however many came
/// before. For one thread.
class StreamingDetokenizer {
 public:
  /// `tokenizer` must outlive this object.
  StreamingDetokenizer(const Tokenizer& tokenizer, bool skip_special);
  ~StreamingDetokenizer();
  StreamingDetokenizer(StreamingDetokenizer&&) noexcept;
  StreamingDetokenizer& operator=(StreamingDetokenizer&&) noexcept;

  /// The text that `id` completes; often empty.
  std::string push(std::int32_t id);

  /// The rest: U+FFFD for what an unfinished character has left, or nothing. The last call, besides
  /// destruction.
  std::string finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace peregrine::text
