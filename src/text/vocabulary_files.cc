// SPDX-License-Identifier: Apache-2.0
#include "text/vocabulary_files.h"

#include <array>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include "core/error.h"
#include "core/files.h"
#include "text/component.h"
#include "text/unicode.h"

namespace peregrine::text {
namespace {

using boost::json::array;
using boost::json::object;
using core::ErrorKind;

constexpr std::uint64_t kMaxFileBytes = std::uint64_t{256} << 20;

// Qwen2's, from its tokenization code.
constexpr std::string_view kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

std::string read_text(const std::filesystem::path& path) {
  std::string text = core::read_file(path, kMaxFileBytes);
  if (!is_valid_utf8(text)) core::fail(ErrorKind::kInvalidArgument, "{} is not UTF-8", path.string());
  return text;
}

template <typename Visit>
void for_each_line(std::string_view text, Visit visit) {
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    visit(line);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

[[noreturn]] void refuse_class(const FileComposer& composer, std::string_view files, std::string_view known) {
  core::fail(
      ErrorKind::kUnsupported,
      "{}: tokenizer_class {} is not supported with {} alone, only {}; save its tokenizer.json beside it",
      composer.config().where(), core::quoted(composer.tokenizer_class()), files, known);
}

/// Byte-level BPE: GPT-2 and those who follow it.
void compose_byte_level(const std::filesystem::path& vocab_path, const std::filesystem::path& merges_path,
                        FileComposer& composer) {
  const std::string type = composer.tokenizer_class();
  const bool is_roberta =
      type == "RobertaTokenizer" || type == "BartTokenizer" || type == "LongformerTokenizer";
  const bool is_qwen = type == "Qwen2Tokenizer";
  if (!is_roberta && !is_qwen && !type.empty() && type != "GPT2Tokenizer" && type != "CodeGenTokenizer") {
    refuse_class(composer, "vocab.json and merges.txt",
                 "GPT2Tokenizer, CodeGenTokenizer, RobertaTokenizer, BartTokenizer, LongformerTokenizer and "
                 "Qwen2Tokenizer");
  }
  boost::json::value vocab =
      core::parse_json(core::read_file(vocab_path, kMaxFileBytes), vocab_path.string());
  const core::JsonView vocab_view(vocab, vocab_path.string());
  if (!vocab_view.is_object()) vocab_view.fail_expected("an object of tokens and their ids");
  for (const auto& member : vocab.get_object()) {
    if (member.value().is_int64()) composer.add_to_vocabulary(member.key(), member.value().get_int64());
  }
  array merges;
  const std::string lines = read_text(merges_path);
  for_each_line(lines, [&](std::string_view line) {
    if (!line.empty() && !line.starts_with("#version")) merges.push_back(boost::json::value(line));
  });
  const bool prefix = composer.flag("add_prefix_space", false);
  composer.set("model", {{"type", "BPE"}, {"vocab", std::move(vocab)}, {"merges", std::move(merges)}});
  composer.set("decoder", {{"type", "ByteLevel"}});
  const object byte_level = {{"type", "ByteLevel"}, {"add_prefix_space", prefix}, {"use_regex", !is_qwen}};
  if (is_qwen) {
    composer.set("normalizer", {{"type", "NFC"}});
    const object split = {
        {"type", "Split"}, {"pattern", {{"Regex", kQwen2Pattern}}}, {"behavior", "Isolated"}};
    composer.set("pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", array{split, byte_level}}});
  } else {
    composer.set("pre_tokenizer", byte_level);
  }
  if (is_roberta) composer.add_token(composer.special_token("mask_token", "<mask>"), true, true);
  composer.add_named_special_tokens();
  if (is_roberta) {
    const std::string cls = composer.special_token("cls_token", "<s>");
    const std::string sep = composer.special_token("sep_token", "</s>");
    for (const std::string& token : {cls, sep}) composer.add_token(token, true);
    composer.set("post_processor", {{"type", "RobertaProcessing"},
                                    {"cls", array{cls, composer.id_of(cls)}},
                                    {"sep", array{sep, composer.id_of(sep)}},
                                    {"add_prefix_space", prefix},
                                    {"trim_offsets", true}});
    return;
  }
  const std::string end_of_text = "<|endoftext|>";
  const std::string bos = composer.special_token("bos_token", end_of_text);
  if (!is_qwen) composer.add_token(composer.special_token("eos_token", end_of_text), true);
  if (composer.flag("add_bos_token", false)) {
    composer.add_token(bos, true);
    composer.surround(bos, std::nullopt, FileComposer::PairForm::kOnceBefore, 1);
  }
}

/// BERT's WordPiece: a token a line.
void compose_word_piece(const std::filesystem::path& path, FileComposer& composer) {
  const std::string type = composer.tokenizer_class();
  constexpr std::array kKnown = {"", "BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer",
                                 "MobileBertTokenizer"};
  if (std::find(kKnown.begin(), kKnown.end(), type) == kKnown.end()) {
    refuse_class(composer, "vocab.txt",
                 "BertTokenizer, DistilBertTokenizer, ElectraTokenizer and MobileBertTokenizer");
  }
  object vocab;
  std::int64_t id = 0;
  const std::string lines = read_text(path);
  for_each_line(lines, [&](std::string_view line) {
    vocab[line] = id;  // of a repeated one the last counts
    composer.add_to_vocabulary(line, id++);
  });
  const std::string unknown = composer.special_token("unk_token", "[UNK]");
  const std::string cls = composer.special_token("cls_token", "[CLS]");
  const std::string sep = composer.special_token("sep_token", "[SEP]");
  composer.set("model", {{"type", "WordPiece"}, {"vocab", std::move(vocab)}, {"unk_token", unknown}});
  object normalizer = {{"type", "BertNormalizer"},
                       {"handle_chinese_chars", composer.flag("tokenize_chinese_chars", true)},
                       {"lowercase", composer.flag("do_lower_case", true)}};
  if (const auto strip = composer.config().find("strip_accents"))
    normalizer["strip_accents"] = strip->as_bool();
  composer.set("normalizer", std::move(normalizer));
  composer.set("pre_tokenizer", {{"type", "BertPreTokenizer"}});
  composer.set("decoder", {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}});
  for (const std::string& token : {unknown, sep, composer.special_token("pad_token", "[PAD]"), cls,
                                   composer.special_token("mask_token", "[MASK]")}) {
    composer.add_token(token, true);
  }
  composer.add_named_special_tokens();
  composer.surround(cls, sep, FileComposer::PairForm::kOnceBefore, 1);
}

}  // namespace

std::optional<ComposedFile> compose_tokenizer_file(const std::filesystem::path& model_dir,
                                                   const core::JsonView* config) {
  const boost::json::value nothing = object();
  const std::filesystem::path map_path = model_dir / "special_tokens_map.json";
  const boost::json::value map =
      std::filesystem::exists(map_path)
          ? core::parse_json(core::read_file(map_path, kMaxFileBytes), map_path.string())
          : nothing;
  const core::JsonView map_view(map, map_path.string());
  FileComposer composer(
      config != nullptr ? *config : core::JsonView(nothing, (model_dir / "tokenizer_config.json").string()),
      map_view);
  const auto done = [&](const std::filesystem::path& path) {
    return ComposedFile{composer.take(), path.string()};
  };
  for (const char* name : {"tokenizer.model", "spiece.model", "sentencepiece.bpe.model"}) {
    const std::filesystem::path path = model_dir / name;
    if (!std::filesystem::exists(path)) continue;
    compose_sentencepiece(core::read_file(path, kMaxFileBytes), path.string(), composer);
    return done(path);
  }
  const std::filesystem::path vocab = model_dir / "vocab.json";
  const std::filesystem::path merges = model_dir / "merges.txt";
  if (std::filesystem::exists(vocab) && std::filesystem::exists(merges)) {
    compose_byte_level(vocab, merges, composer);
    return done(vocab);
  }
  const std::filesystem::path words = model_dir / "vocab.txt";
  if (!std::filesystem::exists(words)) return std::nullopt;
  compose_word_piece(words, composer);
  return done(words);
}

}  // namespace peregrine::text
