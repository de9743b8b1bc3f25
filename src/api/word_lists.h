// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/json/array.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "api/json_fields.h"

namespace peregrine::api {

/// Reads the words that a request forbids or stops at, each written as text or as token ids: "word", 5 (one
/// token) or [5, 6]. The engine knows tokens only, so that a forbidden word becomes its tokens, once at the
/// beginning of a text and once behind a blank. Throws FieldError.
class WordLists {
 public:
  /// `model` must outlive this object.
  explicit WordLists(const ServedModel& model) : model_(model) {}

  /// Words that may not appear.
  void forbid(const Fields& fields, std::string_view name);
  /// Words that end a sequence: texts, and the texts of several ids, are added to `stop`; single ids end it
  /// as stop_token_ids do.
  void stop_at(const Fields& fields, std::string_view name, std::vector<std::string>& stop);

  /// Sets bad_words_ids and stop_token_ids to what was read together with those lists of `fields` themselves.
  void apply(const Fields& fields, ParameterFields& parameters) const;

 private:
  void forbid_text(std::string_view word, const std::string& field);
  std::string stop_text(const boost::json::array& ids, const std::string& field) const;
  const text::Tokenizer& tokenizer(const std::string& field) const;

  const ServedModel& model_;
  boost::json::array forbidden_;  ///< Lists of ids.
  std::string forbidden_field_;   ///< The last that added to them.
  boost::json::array stops_;      ///< Ids.
  std::string stops_field_;
};

}  // namespace peregrine::api
