// SPDX-License-Identifier: Apache-2.0
// Reading SentencePiece's .model files.
#include <sentencepiece_model.pb.h>

#include <algorithm>
#include <array>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <cmath>

#include "core/error.h"
#include "text/charsmap.h"
#include "text/component.h"
#include "text/unicode.h"
#include "text/vocabulary_files.h"

namespace peregrine::text {
namespace {

using boost::json::array;
using boost::json::object;
using core::ErrorKind;
using Piece = sentencepiece::Model::Piece;

// Finding merges is quadratic in a piece's size; real pieces have at most some 100 bytes.
constexpr std::size_t kMaxPieceBytes = 1024;
constexpr std::int64_t kMaxExtraIds = 100'000;
constexpr std::string_view kSpace = "\u2581";

struct ScoredToken {
  std::string text;
  double score;
};

/// The tokens by id, with those that transformers' class of tokenizers puts elsewhere than the file does.
class Tokens {
 public:
  Tokens(const sentencepiece::Model& model, const std::string& where, const FileComposer& composer) {
    for (const Piece& piece : model.pieces()) {
      if (piece.piece().size() > kMaxPieceBytes || !is_valid_utf8(piece.piece())) {
        core::fail(ErrorKind::kInvalidArgument, "{}: piece {} is no text of at most {} bytes", where,
                   list_.size(), kMaxPieceBytes);
      }
      if (!std::isfinite(piece.score()))
        core::fail(ErrorKind::kInvalidArgument, "{}: piece {} has no finite score", where, list_.size());
      list_.push_back({piece.piece(), static_cast<double>(piece.score())});
    }
    const std::string type = composer.tokenizer_class();
    if (type == "XLMRobertaTokenizer") move_to_fairseq(where);
    if (type == "T5Tokenizer") {
      const auto extra = composer.config().find("extra_ids");
      for (auto id = extra ? extra->as_int(0, kMaxExtraIds) : 100; id > 0; --id)
        list_.push_back({fmt::format("<extra_id_{}>", id - 1), 0});
    }
  }

  const std::vector<ScoredToken>& list() const { return list_; }

 private:
  /// fairseq has four tokens of its own in front, where SentencePiece has <unk>, <s> and </s>.
  void move_to_fairseq(const std::string& where) {
    if (list_.size() < 3) core::fail(ErrorKind::kInvalidArgument, "{}: fewer than 3 pieces", where);
    list_.erase(list_.begin(), list_.begin() + 3);
    list_.insert(list_.begin(), {{"<s>", 0}, {"<pad>", 0}, {"</s>", 0}, {"<unk>", 0}});
    list_.push_back({"<mask>", 0});
  }

  std::vector<ScoredToken> list_;
};

object unigram_model(const std::vector<ScoredToken>& tokens, bool byte_fallback, std::string_view unknown) {
  array vocab;
  std::optional<std::int64_t> unknown_id;
  for (const ScoredToken& token : tokens) {
    if (token.text == unknown) unknown_id = static_cast<std::int64_t>(vocab.size());
    vocab.push_back(array{token.text, token.score});
  }
  object model = {{"type", "Unigram"}, {"vocab", std::move(vocab)}, {"byte_fallback", byte_fallback}};
  if (unknown_id) model["unk_id"] = *unknown_id;
  return model;
}

/// SentencePiece merges the neighbours that form the piece with the best score: every way to cut a piece into
/// two others is a merge, better pieces first, and of one piece's ways the one with the lower ids.
array merges_of(const std::vector<ScoredToken>& tokens, const object& ids) {
  struct Merge {
    double score;
    std::int64_t left;
    std::int64_t right;
  };
  std::vector<Merge> merges;
  for (const ScoredToken& token : tokens) {
    const std::string_view text = token.text;
    const std::size_t first = merges.size();
    for (std::size_t cut = 0; cut < text.size();) {
      cut += decode_at(text, cut).bytes;
      const auto* left = ids.if_contains(text.substr(0, cut));
      const auto* right = cut < text.size() ? ids.if_contains(text.substr(cut)) : nullptr;
      if (left != nullptr && right != nullptr)
        merges.push_back({token.score, left->get_int64(), right->get_int64()});
    }
    std::sort(merges.begin() + static_cast<std::ptrdiff_t>(first), merges.end(),
              [](const Merge& a, const Merge& b) {
                return a.left != b.left ? a.left < b.left : a.right < b.right;
              });
  }
  std::stable_sort(merges.begin(), merges.end(),
                   [](const Merge& a, const Merge& b) { return a.score > b.score; });
  array out;
  for (const Merge& merge : merges) {
    out.push_back(array{tokens[static_cast<std::size_t>(merge.left)].text,
                        tokens[static_cast<std::size_t>(merge.right)].text});
  }
  return out;
}

object bpe_model(const std::vector<ScoredToken>& tokens, bool byte_fallback, std::string_view unknown) {
  object ids;
  for (const ScoredToken& token : tokens) ids[token.text] = static_cast<std::int64_t>(ids.size());
  if (ids.size() != tokens.size()) {
    core::fail(ErrorKind::kInvalidArgument, "{} pieces of a BPE model, of which {} are there twice",
               tokens.size(), tokens.size() - ids.size());
  }
  array merges = merges_of(tokens, ids);
  return {{"type", "BPE"},        {"vocab", std::move(ids)}, {"merges", std::move(merges)},
          {"unk_token", unknown}, {"fuse_unk", true},        {"byte_fallback", byte_fallback}};
}

/// Llama and its relatives: nothing is normalized but spaces, bytes stand for unknown characters.
void set_llama_parts(FileComposer& composer, bool prefix) {
  const object to_space = {{"type", "Replace"}, {"pattern", {{"String", kSpace}}}, {"content", " "}};
  const object from_space = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kSpace}};
  if (composer.flag("legacy", true)) {
    array steps;
    if (prefix) steps.push_back(object{{"type", "Prepend"}, {"prepend", kSpace}});
    steps.push_back(from_space);
    composer.set("normalizer", {{"type", "Sequence"}, {"normalizers", std::move(steps)}});
  } else {
    composer.set("pre_tokenizer", {{"type", "Metaspace"},
                                   {"replacement", kSpace},
                                   {"prepend_scheme", prefix ? "first" : "never"},
                                   {"split", false}});
  }
  array decoders = {to_space, object{{"type", "ByteFallback"}}, object{{"type", "Fuse"}}};
  if (prefix) decoders.push_back(object{{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  composer.set("decoder", {{"type", "Sequence"}, {"decoders", std::move(decoders)}});
}

/// All others: the rules of the file, then white space as SentencePiece reduces it.
void set_plain_parts(FileComposer& composer, const sentencepiece::NormalizerSpec& rules, bool prefix) {
  array steps;
  if (!rules.precompiled_charsmap().empty()) {
    steps.push_back(object{{"type", "Precompiled"},
                           {"precompiled_charsmap", encode_base64(rules.precompiled_charsmap())}});
  }
  steps.push_back(object{{"type", "Strip"}, {"strip_left", false}, {"strip_right", true}});
  steps.push_back(object{{"type", "Replace"}, {"pattern", {{"Regex", " {2,}"}}}, {"content", kSpace}});
  composer.set("normalizer", {{"type", "Sequence"}, {"normalizers", std::move(steps)}});
  const std::string_view scheme = !prefix ? "never" : composer.flag("legacy", true) ? "always" : "first";
  const object metaspace = {{"type", "Metaspace"}, {"replacement", kSpace}, {"prepend_scheme", scheme}};
  composer.set("pre_tokenizer", metaspace);
  composer.set("decoder", metaspace);
}

/// What each class of tokenizers puts around a text.
void set_surroundings(FileComposer& composer, bool is_llama) {
  const std::string type = composer.tokenizer_class();
  const std::string bos = composer.special_token("bos_token", "<s>");
  const std::string eos = composer.special_token("eos_token", "</s>");
  bool begins = composer.flag("add_bos_token", is_llama);
  bool ends = composer.flag("add_eos_token", false);
  if (type == "T5Tokenizer") ends = true;
  if (type == "XLMRobertaTokenizer") begins = ends = true;
  if (begins) composer.add_token(bos, true);
  if (ends) composer.add_token(eos, true);
  using PairForm = FileComposer::PairForm;
  composer.surround(begins ? std::optional(bos) : std::nullopt, ends ? std::optional(eos) : std::nullopt,
                    type == "XLMRobertaTokenizer" ? PairForm::kDoubledAfter : PairForm::kAroundEach,
                    is_llama ? 1 : 0);
}

}  // namespace

void compose_sentencepiece(std::string_view bytes, const std::string& where, FileComposer& composer) {
  sentencepiece::Model model;
  if (!model.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())) || model.pieces().empty()) {
    core::fail(ErrorKind::kInvalidArgument, "{} is no SentencePiece model", where);
  }
  const std::string type = composer.tokenizer_class();
  constexpr std::array kKnown = {"", "LlamaTokenizer", "T5Tokenizer", "XLMRobertaTokenizer",
                                 "PreTrainedTokenizer"};
  if (std::find(kKnown.begin(), kKnown.end(), type) == kKnown.end()) {
    core::fail(
        ErrorKind::kUnsupported,
        "{}: tokenizer_class {} is not supported with a SentencePiece model alone, only LlamaTokenizer, "
        "T5Tokenizer and XLMRobertaTokenizer; save its tokenizer.json beside it",
        composer.config().where(), core::quoted(type));
  }
  const auto kind = model.trainer_spec().model_type();
  const bool is_bpe = kind == sentencepiece::TrainerSpec::BPE;
  if (!is_bpe && kind != sentencepiece::TrainerSpec::UNIGRAM) {
    core::fail(ErrorKind::kUnsupported,
               "{}: SentencePiece model type {} is not supported, only 1 (Unigram) and 2 (BPE)", where,
               static_cast<int>(kind));
  }
  const Tokens tokens(model, where, composer);
  const bool byte_fallback = model.trainer_spec().byte_fallback();
  const std::string& unknown = model.trainer_spec().unk_piece();
  composer.set("model", is_bpe ? bpe_model(tokens.list(), byte_fallback, unknown)
                               : unigram_model(tokens.list(), byte_fallback, unknown));
  std::int64_t id = 0;
  for (const ScoredToken& token : tokens.list()) composer.add_to_vocabulary(token.text, id++);

  const bool is_llama = type == "LlamaTokenizer" || (type.empty() && is_bpe);
  const bool prefix = composer.flag("add_prefix_space", model.normalizer_spec().add_dummy_prefix());
  if (is_llama) {
    set_llama_parts(composer, prefix);
  } else {
    set_plain_parts(composer, model.normalizer_spec(), prefix);
  }
  composer.add_token(unknown, true);
  for (const Piece& piece : model.pieces()) {
    if (piece.type() == Piece::CONTROL) composer.add_token(piece.piece(), true);
    if (piece.type() == Piece::USER_DEFINED) composer.add_token(piece.piece(), false);
  }
  if (type == "XLMRobertaTokenizer") {
    composer.add_token("<pad>", true);
    composer.add_token("<mask>", true, true);
  }
  composer.add_named_special_tokens();
  set_surroundings(composer, is_llama);
}

}  // namespace peregrine::text
