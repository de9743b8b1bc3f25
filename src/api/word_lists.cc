// SPDX-License-Identifier: Apache-2.0
#include "api/word_lists.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>

namespace peregrine::api {
namespace {

using boost::json::array;
using boost::json::value;
using core::ErrorKind;

// What generation::ParameterSet takes.
constexpr std::size_t kMaxWords = 1024;
constexpr std::size_t kMaxWordTokens = 64;
constexpr std::size_t kMaxWordBytes = 1024;

constexpr std::string_view kAllowed =
    "a list of at most 1024 words, each a string, a token id or a list of ids";
constexpr std::string_view kWord = "a string of 1 to 1024 bytes, a token id, or a list of 1 to 64 token ids";

bool is_token_id(const value& found) {
  return found.is_int64() && found.get_int64() >= 0 &&
         found.get_int64() <= std::numeric_limits<std::int32_t>::max();
}

/// The words of a field; empty where it is absent.
const array& words_of(const Fields& fields, std::string_view name) {
  static const array kNone;
  const value* found = fields.find(name);
  if (found == nullptr) return kNone;
  if (!found->is_array() || found->get_array().size() > kMaxWords) {
    fail_field(fields.path(name), kAllowed, *found);
  }
  return found->get_array();
}

/// Throws where `word` is no word.
void check_word(const value& word, const std::string& field) {
  if (is_token_id(word)) return;
  if (word.is_string() && !word.get_string().empty() && word.get_string().size() <= kMaxWordBytes) return;
  if (word.is_array() && !word.get_array().empty() && word.get_array().size() <= kMaxWordTokens &&
      std::ranges::all_of(word.get_array(), is_token_id)) {
    return;
  }
  fail_field(field, kWord, word);
}

array to_json(const std::vector<std::int32_t>& ids) { return array(ids.begin(), ids.end()); }

/// Appends the elements of the field `name`, where it is a list; anything else was refused before.
void append_own(const Fields& fields, std::string_view name, array& to) {
  const value* found = fields.find(name);
  if (found == nullptr || !found->is_array()) return;
  to.insert(to.end(), found->get_array().begin(), found->get_array().end());
}

}  // namespace

void WordLists::forbid(const Fields& fields, std::string_view name) {
  const array& words = words_of(fields, name);
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string field = fmt::format("{}[{}]", fields.path(name), i);
    check_word(words[i], field);
    if (words[i].is_string()) {
      forbid_text(words[i].get_string(), field);
    } else {
      forbidden_.push_back(words[i].is_array() ? words[i] : value(array{words[i]}));
    }
  }
  if (!words.empty()) forbidden_field_ = fields.path(name);
}

void WordLists::forbid_text(std::string_view word, const std::string& field) {
  for (const std::string_view before : {"", " "}) {
    const auto ids = tokenizer(field).encode(std::string(before).append(word),
                                             {.add_special_tokens = false, .parse_special = false});
    if (ids.size() > kMaxWordTokens) {
      throw FieldError(
          ErrorKind::kInvalidArgument, field,
          fmt::format("{} has {} tokens; a word may have at most {}", field, ids.size(), kMaxWordTokens));
    }
    // A text of which the tokenizer's normalization leaves nothing cannot be generated.
    if (ids.empty()) continue;
    array tokens = to_json(ids);
    if (before.empty() || forbidden_.empty() || forbidden_.back() != tokens) {
      forbidden_.push_back(std::move(tokens));
    }
  }
}

void WordLists::stop_at(const Fields& fields, std::string_view name, std::vector<std::string>& stop) {
  const array& words = words_of(fields, name);
  const std::string path = fields.path(name);
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string field = fmt::format("{}[{}]", path, i);
    check_word(words[i], field);
    if (words[i].is_string()) {
      stop.emplace_back(words[i].get_string());
    } else if (!words[i].is_array() || words[i].get_array().size() == 1) {
      stops_.push_back(words[i].is_array() ? words[i].get_array().front() : words[i]);
      stops_field_ = path;
    } else {
      stop.push_back(stop_text(words[i].get_array(), field));
    }
  }
  check_stop_strings(stop, path);
}

std::string WordLists::stop_text(const array& ids, const std::string& field) const {
  std::vector<std::int32_t> tokens;
  for (const value& id : ids) tokens.push_back(static_cast<std::int32_t>(id.get_int64()));
  std::string text = tokenizer(field).decode(tokens, false);
  if (!text.empty() && text.size() <= kMaxStopBytes) return text;
  throw FieldError(ErrorKind::kInvalidArgument, field,
                   fmt::format("{} must be tokens with a text of 1 to {} bytes, found {} bytes", field,
                               kMaxStopBytes, text.size()));
}

const text::Tokenizer& WordLists::tokenizer(const std::string& field) const {
  if (model_.tokenizer != nullptr) return *model_.tokenizer;
  throw FieldError(
      ErrorKind::kUnsupported, field,
      fmt::format("{} must be token ids: model {} has no tokenizer", field, model_.model->name()));
}

void WordLists::apply(const Fields& fields, ParameterFields& parameters) const {
  if (!forbidden_.empty()) {
    array all = forbidden_;
    append_own(fields, "bad_words_ids", all);
    if (all.size() > kMaxWords) {
      throw FieldError(
          ErrorKind::kInvalidArgument, forbidden_field_,
          fmt::format("{} and the other fields for it forbid {} sequences of tokens (a text counts "
                      "twice, with and without a blank before it); at most {} are allowed",
                      forbidden_field_, all.size(), kMaxWords));
    }
    parameters.set("bad_words_ids", all, forbidden_field_);
  }
  if (stops_.empty()) return;
  array all = stops_;
  append_own(fields, "stop_token_ids", all);
  parameters.set("stop_token_ids", all, stops_field_);
}

}  // namespace peregrine::api
