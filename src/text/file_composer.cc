// SPDX-License-Identifier: Apache-2.0
#include "text/file_composer.h"

#include <algorithm>
#include <array>
#include <boost/json/array.hpp>
#include <boost/json/value.hpp>
#include <charconv>

#include "core/error.h"
#include "text/component.h"

namespace peregrine::text {
namespace {

constexpr std::array kSpecialNames = {"bos_token", "eos_token", "unk_token", "sep_token",
                                      "pad_token", "cls_token", "mask_token"};

/// A special token is written as its text or as an object with "content".
std::string token_text(const core::JsonView& json) {
  if (json.is_string()) return std::string(json.as_string());
  return std::string(json.at("content").as_string());
}

}  // namespace

std::string FileComposer::tokenizer_class() const {
  std::string name = optional_string(config_, "tokenizer_class");
  if (name.ends_with("Fast")) name.resize(name.size() - 4);
  return name;
}

bool FileComposer::flag(std::string_view key, bool fallback) const {
  return optional_bool(config_, key, fallback);
}

void FileComposer::add_to_vocabulary(std::string_view token, std::int64_t id) {
  ids_[std::string(token)] = id;
  next_id_ = std::max(next_id_, id + 1);
}

void FileComposer::add_token(std::string_view token, bool special, bool lstrip) {
  if (token.empty() || !added_.emplace(token, true).second) return;
  if (const auto listed = config_.find("added_tokens_decoder")) {
    for (const auto& [key, item] : listed->members()) {
      if (item.at("content").as_string() != token) continue;
      std::int64_t id = 0;  // a key that is no number is refused where the list is read
      std::from_chars(key.data(), key.data() + key.size(), id);
      add_to_vocabulary(token, id);
      return;
    }
  }
  const auto [id, is_new] = ids_.try_emplace(std::string(token), next_id_);
  if (is_new) ++next_id_;
  added_tokens_.push_back(boost::json::object{{"id", id->second},
                                              {"content", token},
                                              {"special", special},
                                              {"normalized", false},
                                              {"lstrip", lstrip}});
}

std::optional<std::string> FileComposer::find_special_token(std::string_view name) const {
  if (const auto token = config_.find(name)) return token_text(*token);
  if (const auto token = special_tokens_map_.find(name)) return token_text(*token);
  return std::nullopt;
}

void FileComposer::add_named_special_tokens() {
  for (const char* name : kSpecialNames) {
    if (const auto token = find_special_token(name)) add_token(*token, true);
  }
  for (const core::JsonView* source : {&config_, &special_tokens_map_}) {
    const auto more = source->find("additional_special_tokens");
    if (!more) continue;
    for (const core::JsonView& token : more->items()) add_token(token_text(token), true);
  }
}

std::string FileComposer::special_token(std::string_view name, std::string_view fallback) const {
  return find_special_token(name).value_or(std::string(fallback));
}

std::int64_t FileComposer::id_of(std::string_view token) const {
  const auto id = ids_.find(std::string(token));
  if (id == ids_.end()) {
    core::fail(core::ErrorKind::kInvalidArgument, "{}: the special token {} is not in the vocabulary",
               config_.where(), core::quoted(token));
  }
  return id->second;
}

void FileComposer::surround(const std::optional<std::string>& before, const std::optional<std::string>& after,
                            PairForm form, std::int32_t second_type) {
  boost::json::object tokens;
  for (const auto& token : {before, after}) {
    if (token) tokens[*token] = {{"id", *token}, {"ids", boost::json::array{id_of(*token)}}};
  }
  const auto piece = [](const char* kind, std::string_view id, std::int32_t type) {
    return boost::json::object{{kind, {{"id", id}, {"type_id", type}}}};
  };
  boost::json::array single;
  if (before) single.push_back(piece("SpecialToken", *before, 0));
  single.push_back(piece("Sequence", "A", 0));
  if (after) single.push_back(piece("SpecialToken", *after, 0));

  boost::json::array pair = single;
  const auto& between = form == PairForm::kDoubledAfter ? after : before;
  if (between && form != PairForm::kOnceBefore) pair.push_back(piece("SpecialToken", *between, second_type));
  pair.push_back(piece("Sequence", "B", second_type));
  if (after) pair.push_back(piece("SpecialToken", *after, second_type));
  set("post_processor",
      {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", tokens}});
}

boost::json::value FileComposer::take() {
  file_["version"] = "1.0";
  file_["added_tokens"] = std::move(added_tokens_);
  return std::move(file_);
}

}  // namespace peregrine::text
