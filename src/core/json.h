// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/json/value.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace peregrine::core {

/// Parses JSON text of at most 64 levels. Numbers that fit no 64-bit integer become doubles; invalid UTF-8 is
/// refused. Throws Error(kInvalidArgument) that names `where` (usually a file name) and the byte offset.
boost::json::value parse_json(std::string_view text, std::string_view where);

/// A place inside a JSON document: non-owning, the document must outlive it. Every accessor throws
/// Error(kInvalidArgument) that names the document, the place, what was expected and what was found.
class JsonView {
 public:
  /// `where` names the place in messages, for example "config.json".
  JsonView(const boost::json::value& value, std::string where) : value_(&value), where_(std::move(where)) {}

  const boost::json::value& value() const { return *value_; }
  const std::string& where() const { return where_; }

  bool is_null() const { return value_->is_null(); }
  bool is_object() const { return value_->is_object(); }
  bool is_array() const { return value_->is_array(); }
  bool is_string() const { return value_->is_string(); }
  bool is_bool() const { return value_->is_bool(); }
  bool is_integer() const { return value_->is_int64() || value_->is_uint64(); }
  bool is_number() const { return value_->is_number(); }

  /// The member `key` of this object; an error where it is missing.
  JsonView at(std::string_view key) const;
  /// The member `key` of this object; nothing where it is missing or null.
  std::optional<JsonView> find(std::string_view key) const;
  /// The elements of this array.
  std::vector<JsonView> items() const;
  /// The members of this object, in file order.
  std::vector<std::pair<std::string_view, JsonView>> members() const;

  /// An integer within [low, high]. A float such as 4.0 is refused.
  std::int64_t as_int(std::int64_t low, std::int64_t high) const;
  /// Any finite number.
  double as_number() const;
  bool as_bool() const;
  std::string_view as_string() const;

  /// Throws: "<where>: must be <expected>, found <this value>".
  [[noreturn]] void fail_expected(std::string_view expected) const;

 private:
  const boost::json::value* value_;
  std::string where_;
};

}  // namespace peregrine::core
