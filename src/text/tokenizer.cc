// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer.h"

#include <algorithm>

#include "core/error.h"
#include "text/byte_level.h"
#include "text/tokenizer_parts.h"
#include "text/unicode.h"

namespace peregrine::text {
namespace {

BlankCounts count_blanks(std::string_view token) {
  BlankCounts counts;
  for (std::size_t i = 0; i < token.size();) {
    const CodePoint c = decode_at(token, i);
    if (!is_byte_level_blank(c.value)) break;
    ++counts.leading;
    i += c.bytes;
  }
  for (std::size_t end = token.size(); end > 0;) {
    end = previous_character(token, end);
    if (!is_byte_level_blank(decode_at(token, end).value)) break;
    ++counts.trailing;
  }
  return counts;
}

/// Turns byte offsets of a text into code point offsets.
class CodePointIndex {
 public:
  explicit CodePointIndex(std::string_view text) {
    index_.reserve(text.size() + 1);
    std::uint32_t count = 0;
    for (const char byte : text) {
      if (!is_continuation(byte)) ++count;
      index_.push_back(count - 1);
    }
    index_.push_back(count);
  }
  CodePointRange range(const Range& bytes) const { return {index_[bytes.begin], index_[bytes.end]}; }

 private:
  std::vector<std::uint32_t> index_;  ///< By byte: the number of the code point it belongs to.
};

/// Cuts `text` into added tokens and normalized text between them.
PreTokenized extract(const Tokenizer::EncodeOptions& options, const AddedTokens& added,
                     const Normalizer* normalizer, std::string_view text, bool aligned) {
  using Stage = AddedTokens::Stage;
  PreTokenized out(aligned);
  for (const auto& raw : added.split(text, Stage::kRaw, options.parse_special)) {
    AlignedText section(text.substr(raw.begin, raw.end - raw.begin), raw.begin, aligned);
    if (raw.token) {
      out.append(section, 0, section.text().size(), *raw.token);
      continue;
    }
    if (normalizer != nullptr) normalizer->normalize(section);
    for (const auto& part : added.split(section.text(), Stage::kNormalized, options.parse_special)) {
      out.append(section, part.begin, part.end, part.token.value_or(PreTokenized::kText));
    }
  }
  return out;
}

}  // namespace

Tokenizer::Tokenizer(std::unique_ptr<const Parts> parts) : parts_(std::move(parts)) {}
Tokenizer::~Tokenizer() = default;

TokenList Tokenizer::tokens_of(std::string_view text, const EncodeOptions& options,
                               TokenDetails details) const {
  if (text.size() > kMaxTextBytes) {
    core::fail(core::ErrorKind::kInvalidArgument, "a text of {} bytes: at most {} can be tokenized",
               text.size(), kMaxTextBytes);
  }
  std::string repaired;
  if (!is_valid_utf8(text)) {
    repaired = to_valid_utf8(text);
    text = repaired;
  }
  const bool normalized = parts_->normalizer != nullptr;
  const bool aligned =
      details.offsets || (parts_->pre_tokenizer && parts_->pre_tokenizer->needs_sources(normalized));
  PreTokenized pieces = extract(options, parts_->added, parts_->normalizer.get(), text, aligned);
  if (parts_->pre_tokenizer) parts_->pre_tokenizer->pre_tokenize(pieces);

  TokenList tokens{details};
  const CodePointIndex code_points(details.offsets ? text : std::string_view());
  const auto add = [&](std::int32_t id, std::uint32_t begin, std::uint32_t end, std::string_view token) {
    if (!details.offsets) return tokens.add(id, {}, {});
    tokens.add(id, code_points.range(pieces.text().source_of(begin, end)), count_blanks(token));
  };
  std::vector<ModelToken> model_tokens;
  for (const PreTokenized::Piece& piece : pieces.pieces()) {
    if (piece.token != PreTokenized::kText) {
      add(piece.token, piece.begin, piece.end, pieces.text_of(piece));
      continue;
    }
    model_tokens.clear();
    parts_->model->tokenize(pieces.text_of(piece), model_tokens);
    for (const ModelToken& token : model_tokens) {
      add(token.id, piece.begin + token.begin, piece.begin + token.end,
          details.offsets ? parts_->model->vocabulary().token(token.id).value_or("") : "");
    }
  }
  return tokens;
}

TokenList Tokenizer::join(std::vector<TokenList> texts, const EncodeOptions& options) const {
  const PostProcessor* const processor = parts_->post_processor.get();
  if (options.max_tokens) {
    const std::size_t added =
        processor != nullptr && options.add_special_tokens ? processor->added_ids(texts.size()).size() : 0;
    parts_->truncate(texts, *options.max_tokens - std::min(added, *options.max_tokens));
  }
  if (processor != nullptr) processor->process(texts, options.add_special_tokens);
  for (std::size_t i = 1; i < texts.size(); ++i) texts.front().append(texts[i]);
  return std::move(texts.front());
}

void Tokenizer::Parts::truncate(std::vector<TokenList>& texts, std::size_t room) const {
  if (texts.size() == 1) return texts.front().truncate(room, truncate_start);
  const std::size_t first = texts[0].ids.size();
  const std::size_t second = texts[1].ids.size();
  if (first + second <= room) return;
  const auto keep = [&](std::size_t of_first, std::size_t of_second) {
    texts[0].truncate(of_first, truncate_start);
    texts[1].truncate(of_second, truncate_start);
  };
  if (room == 0) return keep(0, 0);
  if (truncation == Truncation::kLongestFirst) {
    const std::size_t half = room / 2;
    if (first <= half) return keep(first, room - first);
    if (second <= half) return keep(room - second, second);
    return first > second ? keep(room - half, half) : keep(half, room - half);
  }
  const bool cuts_first = truncation == Truncation::kOnlyFirst;
  const std::size_t fixed = cuts_first ? second : first;
  if (fixed >= room) {
    core::fail(core::ErrorKind::kInvalidArgument,
               "two texts of {} and {} tokens do not fit into {}: the tokenizer's truncation cuts the {} one "
               "only, and keeps at least one token of it",
               first, second, room, cuts_first ? "first" : "second");
  }
  return cuts_first ? keep(room - fixed, second) : keep(first, room - fixed);
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  return run(text, options, {}).ids;
}

Tokenizer::Encoding Tokenizer::encode_with_offsets(std::string_view text,
                                                   const EncodeOptions& options) const {
  TokenList tokens = run(text, options, {.offsets = true});
  return {std::move(tokens.ids), std::move(tokens.offsets)};
}

Tokenizer::PairEncoding Tokenizer::encode_with_types(std::string_view text,
                                                     const EncodeOptions& options) const {
  TokenList tokens = run(text, options, {.types = true});
  return {std::move(tokens.ids), std::move(tokens.types)};
}

Tokenizer::PairEncoding Tokenizer::encode_pair(std::string_view first, std::string_view second,
                                               const EncodeOptions& options) const {
  std::vector<TokenList> texts;
  for (const std::string_view text : {first, second})
    texts.push_back(tokens_of(text, options, {.types = true}));
  texts[1].set_types(1);
  TokenList tokens = join(std::move(texts), options);
  return {std::move(tokens.ids), std::move(tokens.types)};
}

TokenList Tokenizer::run(std::string_view text, const EncodeOptions& options, TokenDetails details) const {
  std::vector<TokenList> texts;
  texts.push_back(tokens_of(text, options, details));
  return join(std::move(texts), options);
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids, bool skip_special) const {
  TextSink text;
  const auto decoder = parts_->decoder->start(text, false);
  for (const std::int32_t id : ids) {
    const Parts::Token* token = parts_->find(id);
    if (token == nullptr || (skip_special && token->special)) continue;
    decoder->part(token->decoded);
    decoder->end_token();
  }
  decoder->finish();
  return text.take();
}

std::optional<std::int32_t> Tokenizer::token_id(std::string_view token) const {
  const auto added = parts_->added_ids.find(token);
  return added != parts_->added_ids.end() ? std::optional(added->second)
                                          : parts_->model->vocabulary().find(token);
}

std::optional<std::string_view> Tokenizer::token(std::int32_t id) const {
  const Parts::Token* token = parts_->find(id);
  return token != nullptr ? std::optional(token->text) : std::nullopt;
}

bool Tokenizer::is_special(std::int32_t id) const {
  const Parts::Token* token = parts_->find(id);
  return token != nullptr && token->special;
}

std::string Tokenizer::token_bytes(std::int32_t id) const {
  const Parts::Token* token = parts_->find(id);
  return token == nullptr || token->special ? std::string() : parts_->decoder->bytes_of(token->decoded);
}

std::optional<std::size_t> Tokenizer::truncation_length() const { return parts_->truncation_length; }

std::int32_t Tokenizer::vocab_size() const { return static_cast<std::int32_t>(parts_->tokens.size()); }

}  // namespace peregrine::text
