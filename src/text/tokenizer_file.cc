// SPDX-License-Identifier: Apache-2.0
// Reading tokenizer.json and tokenizer_config.json.
#include <algorithm>
#include <charconv>
#include <limits>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "text/tokenizer.h"
#include "text/tokenizer_parts.h"
#include "text/vocabulary_files.h"

namespace peregrine::text {
namespace {

using core::ErrorKind;
using core::JsonView;

// The largest real ones have 35 MB.
constexpr std::uint64_t kMaxFileBytes = std::uint64_t{256} << 20;

}  // namespace

/// Puts a tokenizer together, part by part.
class Tokenizer::Builder {
 public:
  Builder(const JsonView& file, const JsonView* config) : parts_(std::make_unique<Parts>()) {
    if (const auto version = file.find("version"); version && version->as_string() != "1.0") {
      core::fail(ErrorKind::kUnsupported, "{}: version {} is not supported, only 1.0", file.where(),
                 core::quoted(version->as_string()));
    }
    if (const auto json = file.find("normalizer")) parts_->normalizer = make_normalizer(*json);
    if (const auto json = file.find("pre_tokenizer")) parts_->pre_tokenizer = make_pre_tokenizer(*json);
    if (const auto json = file.find("post_processor")) parts_->post_processor = make_post_processor(*json);
    const auto decoder = file.find("decoder");
    parts_->decoder = decoder ? make_decoder(*decoder) : make_joining_decoder();
    parts_->model = make_model(file.at("model"));
    if (const auto truncation = file.find("truncation")) read_truncation(*truncation);

    read_added_tokens(file);
    if (config != nullptr) read_config(*config);
    parts_->added = AddedTokens(std::move(tokens_), parts_->normalizer.get());
    list_tokens();
    check_added_ids(file);
  }

  std::unique_ptr<const Parts> take() { return std::move(parts_); }

 private:
  void read_truncation(const JsonView& json) {
    constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();
    parts_->truncation_length = static_cast<std::size_t>(json.at("max_length").as_int(0, kMost));
    if (const auto strategy = json.find("strategy")) parts_->truncation = read_strategy(*strategy);
    const auto direction = json.find("direction");
    if (!direction || direction->as_string() == "Right") return;
    if (direction->as_string() != "Left") direction->fail_expected("Right or Left");
    parts_->truncate_start = true;
  }

  static Parts::Truncation read_strategy(const JsonView& json) {
    const std::string_view name = json.as_string();
    if (name == "LongestFirst") return Parts::Truncation::kLongestFirst;
    if (name == "OnlyFirst") return Parts::Truncation::kOnlyFirst;
    if (name == "OnlySecond") return Parts::Truncation::kOnlySecond;
    json.fail_expected("LongestFirst, OnlyFirst or OnlySecond");
  }

  void read_added_tokens(const JsonView& file) {
    const auto json = file.find("added_tokens");
    if (!json) return;
    const std::vector<JsonView> items = json->items();
    highest_id_ = static_cast<std::int64_t>(parts_->model->vocabulary().size() + items.size()) + kMaxHoles;
    for (const JsonView& item : items) {
      AddedToken token = parse_added_token(item, item.at("id").as_int(0, highest_id_));
      if (token.content.empty()) continue;
      check_id(token, item.where());
      if (known_.contains(token.content)) {
        core::fail(ErrorKind::kInvalidArgument, "{}: token {} is there twice", item.where(),
                   core::quoted(token.content));
      }
      known_.emplace(token.content, tokens_.size());
      tokens_.push_back(std::move(token));
    }
  }

  /// tokenizer_config.json repeats the added tokens, with the flags that count where they differ.
  void read_config(const JsonView& config) {
    const auto decoder = config.find("added_tokens_decoder");
    if (!decoder) return;
    highest_id_ += static_cast<std::int64_t>(decoder->members().size());
    for (const auto& [key, item] : decoder->members()) {
      std::int64_t id = -1;
      const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
      if (error != std::errc() || end != key.data() + key.size() || id < 0 || id > highest_id_) {
        core::fail(ErrorKind::kInvalidArgument, "{}: the key must be a token id from 0 to {}", item.where(),
                   highest_id_);
      }
      AddedToken token = parse_added_token(item, id);
      if (token.content.empty()) continue;
      check_id(token, item.where());
      const auto [known, added] = known_.try_emplace(token.content, tokens_.size());
      if (added) {
        tokens_.push_back(std::move(token));
      } else {
        tokens_[known->second] = std::move(token);
      }
    }
  }

  /// An id stands for one token, in the vocabulary and among the added tokens.
  void check_id(const AddedToken& token, const std::string& where) {
    const Vocabulary& vocabulary = parts_->model->vocabulary();
    const auto conflict = [&](std::string_view other) {
      core::fail(ErrorKind::kInvalidArgument, "{}: id {} of token {} belongs to token {}", where, token.id,
                 core::quoted(token.content), core::quoted(other));
    };
    if (const auto other = vocabulary.token(token.id); other && *other != token.content) conflict(*other);
    if (const auto id = vocabulary.find(token.content); id && *id != token.id) {
      core::fail(ErrorKind::kInvalidArgument, "{}: token {} has id {} here and {} in the vocabulary", where,
                 core::quoted(token.content), token.id, *id);
    }
    const auto [other, added] = content_of_id_.try_emplace(token.id, token.content);
    if (!added && other->second != token.content) conflict(other->second);
    if (const auto known = known_.find(token.content);
        known != known_.end() && tokens_[known->second].id != token.id) {
      core::fail(ErrorKind::kInvalidArgument, "{}: token {} has id {} here and {} in tokenizer.json", where,
                 core::quoted(token.content), token.id, tokens_[known->second].id);
    }
  }

  void list_tokens() {
    const Vocabulary& vocabulary = parts_->model->vocabulary();
    const std::vector<AddedToken>& added = parts_->added.tokens();
    std::int32_t end = vocabulary.end_id();
    for (const AddedToken& token : added) end = std::max(end, token.id + 1);
    parts_->tokens.resize(static_cast<std::size_t>(end));
    for (std::int32_t id = 0; id < vocabulary.end_id(); ++id) {
      if (const auto token = vocabulary.token(id)) {
        parts_->tokens[static_cast<std::size_t>(id)] = {*token, *token, true, false};
      }
    }
    for (std::size_t i = 0; i < added.size(); ++i) {
      const AddedToken& token = added[i];
      parts_->tokens[static_cast<std::size_t>(token.id)] = {token.content, parts_->added.form(i), true,
                                                            token.special};
      parts_->added_ids.emplace(token.content, token.id);
    }
  }

  void check_added_ids(const JsonView& file) const {
    if (!parts_->post_processor) return;
    for (const std::size_t texts : {1, 2}) {
      for (const std::int32_t id : parts_->post_processor->added_ids(texts)) {
        if (parts_->find(id) != nullptr) continue;
        core::fail(ErrorKind::kInvalidArgument, "{}: the post_processor adds id {}, which is no token",
                   file.where(), id);
      }
    }
  }

  std::unique_ptr<Parts> parts_;
  std::vector<AddedToken> tokens_;
  std::unordered_map<std::string, std::size_t> known_;  ///< Index in tokens_ by content.
  std::unordered_map<std::int32_t, std::string> content_of_id_;
  std::int64_t highest_id_ = kMaxHoles;
};

std::unique_ptr<const Tokenizer> Tokenizer::load(const std::filesystem::path& model_dir) {
  const auto read = [&](const char* name) {
    const std::filesystem::path path = model_dir / name;
    return core::parse_json(core::read_file(path, kMaxFileBytes), path.string());
  };
  const std::filesystem::path config_path = model_dir / "tokenizer_config.json";
  const bool has_config = std::filesystem::exists(config_path);
  const boost::json::value config = has_config ? read("tokenizer_config.json") : boost::json::value();
  const JsonView config_view(config, config_path.string());
  const JsonView* const config_or_none = has_config ? &config_view : nullptr;

  const std::filesystem::path path = model_dir / "tokenizer.json";
  if (!std::filesystem::exists(path)) {
    if (const auto composed = compose_tokenizer_file(model_dir, config_or_none)) {
      const JsonView view(composed->json, composed->where);
      return std::unique_ptr<const Tokenizer>(new Tokenizer(Builder(view, config_or_none).take()));
    }
    core::fail(
        ErrorKind::kNotFound,
        "{} does not exist, nor does tokenizer.model, spiece.model, sentencepiece.bpe.model, vocab.txt or "
        "vocab.json with merges.txt beside it",
        path.string());
  }
  const boost::json::value file = read("tokenizer.json");
  return std::unique_ptr<const Tokenizer>(
      new Tokenizer(Builder(JsonView(file, path.string()), config_or_none).take()));
}

std::unique_ptr<const Tokenizer> Tokenizer::parse(std::string_view json, std::string_view where) {
  if (json.size() > kMaxFileBytes) {
    core::fail(ErrorKind::kInvalidArgument, "{} has {} bytes, at most {} are allowed", where, json.size(),
               kMaxFileBytes);
  }
  const boost::json::value file = core::parse_json(json, where);
  return std::unique_ptr<const Tokenizer>(
      new Tokenizer(Builder(JsonView(file, std::string(where)), nullptr).take()));
}

}  // namespace peregrine::text
