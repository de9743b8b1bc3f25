// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/json/object.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/json.h"

namespace peregrine::text {

/// Builds the contents of a tokenizer.json for a model directory that has none, as transformers' converters
/// do. Vocabulary first, then special tokens, then what names them.
class FileComposer {
 public:
  /// `config` is tokenizer_config.json, or an empty object; `special_tokens_map` likewise. Both must outlive
  /// this object.
  FileComposer(const core::JsonView& config, const core::JsonView& special_tokens_map)
      : config_(config), special_tokens_map_(special_tokens_map) {}

  const core::JsonView& config() const { return config_; }

  /// The class that the configuration names, without "Fast"; empty where it names none.
  std::string tokenizer_class() const;
  bool flag(std::string_view key, bool fallback) const;

  /// Announces a token of the model's vocabulary.
  void add_to_vocabulary(std::string_view token, std::int64_t id);
  /// Makes `token` an added token; one that has no id yet gets the next. Where the configuration lists added
  /// tokens itself, that entry counts.
  void add_token(std::string_view token, bool special, bool lstrip = false);
  /// Makes all special tokens that the configuration names added tokens.
  void add_named_special_tokens();
  /// The special token that the configuration calls `name` ("bos_token", ...), else `fallback`.
  std::string special_token(std::string_view name, std::string_view fallback) const;
  /// Throws Error(kInvalidArgument) where there is no such token.
  std::int64_t id_of(std::string_view token) const;

  /// A member of the file: "model", "normalizer", "pre_tokenizer", "decoder", "post_processor".
  void set(std::string_view member, boost::json::value part) { file_[member] = std::move(part); }
  /// How two texts become one input. Around each: the second gets what the first got, and type 1 where
  /// `second_type` says so. Once before: only the first gets `before`. Doubled: `after` stands for `before`
  /// with the second.
  enum class PairForm { kAroundEach, kOnceBefore, kDoubledAfter };

  /// A TemplateProcessing that puts `before` and `after` (either may be missing) around a text.
  void surround(const std::optional<std::string>& before, const std::optional<std::string>& after,
                PairForm form, std::int32_t second_type);

  boost::json::value take();

 private:
  std::optional<std::string> find_special_token(std::string_view name) const;

  core::JsonView config_;
  core::JsonView special_tokens_map_;
  boost::json::object file_;
  boost::json::array added_tokens_;
  std::unordered_map<std::string, std::int64_t> ids_;
  std::unordered_map<std::string, bool> added_;
  std::int64_t next_id_ = 0;
};

}  // namespace peregrine::text
