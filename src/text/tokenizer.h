// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/token_list.h"

namespace peregrine::text {

/// Turns text into token ids and back, as the tokenizer.json of a model says (the format of Hugging Face
/// tokenizers). Immutable; every member may be called from many threads at once.
class Tokenizer {
 public:
  struct EncodeOptions {
    /// Add what the model expects around a text (beginning and end of sequence, ...).
    bool add_special_tokens = true;
    /// Recognize special tokens that are written out in the text. Without, they are ordinary text: for what
    /// users type.
    bool parse_special = true;
    /// At most so many ids, those added around the text among them: the text loses tokens at its end (at its
    /// start where the file's "truncation" says so), and nothing where it has none left.
    std::optional<std::size_t> max_tokens = {};
  };

  /// Ids, and for each the code points of the text that it stands for: [0, 0) for those added around the
  /// text.
  struct Encoding {
    std::vector<std::int32_t> ids;
    std::vector<CodePointRange> offsets;
  };

  /// Ids, and for each its token type, which says to models that read two texts at once which of them it
  /// belongs to, or what the file says instead.
  struct PairEncoding {
    std::vector<std::int32_t> ids;
    std::vector<std::int32_t> token_types;
  };

  /// Reads model_dir/tokenizer.json, and from tokenizer_config.json, where there is one, the tokens of
  /// "added_tokens_decoder", which may be newer. Without tokenizer.json, reads a SentencePiece model,
  /// vocab.json with merges.txt, or vocab.txt (vocabulary_files.h). Throws Error: kNotFound where there is
  /// none of these,
  /// kUnsupported where it uses a component that is not supported (and says which are), kInvalidArgument
  /// where something is wrong in it.
  static std::unique_ptr<const Tokenizer> load(const std::filesystem::path& model_dir);

  /// The same from the text of a tokenizer.json; `where` names it in messages.
  static std::unique_ptr<const Tokenizer> parse(std::string_view json, std::string_view where);

  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  /// The ids of `text`. Bytes that are not UTF-8 count as U+FFFD, one for each maximal invalid sequence.
  /// Linear time (times a logarithm within words). Throws Error(kInvalidArgument) where the text is larger
  /// than 64 MiB.
  std::vector<std::int32_t> encode(std::string_view text, const EncodeOptions& options) const;

  /// As encode, with offsets; several times slower. Offsets count code points of the text as to_valid_utf8
  /// gives it.
  Encoding encode_with_offsets(std::string_view text, const EncodeOptions& options) const;

  /// As encode, with token types: 0, unless the file's post-processor says otherwise.
  PairEncoding encode_with_types(std::string_view text, const EncodeOptions& options) const;

  /// Two texts as one input, as the file's post-processor joins them: [CLS] first [SEP] second [SEP] with
  /// types 0 and 1 for BERT; without a post-processor one behind the other. Where the two have more than
  /// options.max_tokens, the longer one is cut first, and both alike once they are equal (the odd token goes
  /// to the one that was longer, or else to the second); where the file's "truncation" has the strategy
  /// OnlyFirst or OnlySecond, that text alone. Throws Error: as encode for each text; kInvalidArgument where
  /// the one text that may be cut is too short for it; kUnsupported where the post-processor has no form for
  /// two texts.
  PairEncoding encode_pair(std::string_view first, std::string_view second,
                           const EncodeOptions& options) const;

  /// The text of `ids`, valid UTF-8 always. Ids that stand for no token are left out; with `skip_special`
  /// also special tokens.
  std::string decode(std::span<const std::int32_t> ids, bool skip_special) const;

  /// The id of a token as the file writes it (byte-level tokens in their mapped form).
  std::optional<std::int32_t> token_id(std::string_view token) const;
  /// The token of an id as the file writes it; valid as long as this object.
  std::optional<std::string_view> token(std::int32_t id) const;
  /// The bytes that a token adds to a text that it does not begin: of byte-level tokens exactly those that
  /// they stand for, which need not be UTF-8 by themselves; of byte tokens like <0x0A> that one; of others
  /// the decoded form, with the space in front that SentencePiece's and WordPiece's tokens have there. Empty
  /// for special tokens and ids that stand for no token. So the bytes of all tokens of encode(text), one
  /// behind the other, are the text as it was normalized, where the model has no unknown tokens and keeps
  /// spaces.
  std::string token_bytes(std::int32_t id) const;
  /// Whether `id` is a special token.
  bool is_special(std::int32_t id) const;
  /// The "max_length" of the file's "truncation", which transformers applies where a caller asks for
  /// truncation and names no length.
  std::optional<std::size_t> truncation_length() const;
  /// One more than the largest id. Ids below may be unused, and a model may have more rows.
  std::int32_t vocab_size() const;

 private:
  friend class StreamingDetokenizer;
  struct Parts;
  class Builder;
  explicit Tokenizer(std::unique_ptr<const Parts> parts);
  TokenList tokens_of(std::string_view text, const EncodeOptions& options, TokenDetails details) const;
  TokenList join(std::vector<TokenList> texts, const EncodeOptions& options) const;
  TokenList run(std::string_view text, const EncodeOptions& options, TokenDetails details) const;

  std::unique_ptr<const Parts> parts_;
};

}  // namespace peregrine::text
