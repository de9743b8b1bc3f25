// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "core/json.h"

namespace peregrine::text {

/// Receives the tokens of a decoding in order. A token comes in any number of parts, each valid UTF-8, and
/// then its end; behind the last token comes finish, once. Decoders are chains of these: the whole decoding
/// and the streaming one are then the same code, and a stream costs each token once.
class TokenSink {
 public:
  virtual ~TokenSink() = default;
  virtual void part(std::string_view text) = 0;
  virtual void end_token() = 0;
  virtual void finish() = 0;
};

/// Collects what a chain of decoders gives.
class TextSink final : public TokenSink {
 public:
  void part(std::string_view text) override { text_ += text; }
  void end_token() override {}
  void finish() override {}
  /// All since the last call.
  std::string take() { return std::exchange(text_, {}); }

 private:
  std::string text_;
};

/// A token on its way through decoders by itself, as one in the middle of a text.
struct LoneToken {
  std::string bytes;    ///< Valid UTF-8 unless `raw`.
  bool raw = false;     ///< Bytes that no later step may look at: only with their neighbours are they text.
  bool joined = false;  ///< Later steps see the text as a whole: a token has no start or end for them.
};

/// Turns a model's tokens back into text. Immutable; safe to use from many threads.
class Decoder {
 public:
  virtual ~Decoder() = default;

  /// What a token adds to a text that it does not begin.
  std::string bytes_of(std::string_view token) const;

  /// Starts a decoding whose results go to `next`, which must outlive it; so must this object. With
  /// `streaming` text is passed on as soon as it is complete, even where later tokens could, in the whole
  /// decoding, revoke it (ByteFallback only: see there).
  virtual std::unique_ptr<TokenSink> start(TokenSink& next, bool streaming) const = 0;

  /// This step for bytes_of; `token` is not raw.
  virtual void decode_alone(LoneToken& token) const = 0;
};

/// The "decoder" of a tokenizer file: ByteLevel, BPEDecoder, ByteFallback, Fuse, Metaspace, Replace, Strip,
/// WordPiece or a Sequence of these.
/// Throws Error as component.h says.
std::unique_ptr<Decoder> make_decoder(const core::JsonView& json);

/// What happens without a decoder: tokens joined by spaces.
std::unique_ptr<Decoder> make_joining_decoder();

}  // namespace peregrine::text
