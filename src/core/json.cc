// SPDX-License-Identifier: Apache-2.0
#include "core/json.h"

#include <boost/json/serialize.hpp>
#include <boost/json/stream_parser.hpp>
#include <cmath>

#include "core/error.h"

namespace peregrine::core {
namespace {

constexpr std::size_t kMaxDepth = 64;

/// A short rendering of a value for messages: scalars as they are, containers by kind and size.
std::string describe(const boost::json::value& value) {
  switch (value.kind()) {
    case boost::json::kind::object:
      return fmt::format("an object of {} members", value.get_object().size());
    case boost::json::kind::array:
      return fmt::format("an array of {} elements", value.get_array().size());
    case boost::json::kind::string:
      return "the string " + quoted(std::string_view(value.get_string()));
    default:
      return boost::json::serialize(value);
  }
}

}  // namespace

boost::json::value parse_json(std::string_view text, std::string_view where) {
  boost::json::parse_options options;
  options.max_depth = kMaxDepth;
  boost::json::stream_parser parser({}, options);
  boost::json::error_code error;
  const std::size_t read = parser.write_some(text.data(), text.size(), error);
  if (!error && read < text.size()) error = boost::json::error::extra_data;
  if (!error) parser.finish(error);
  if (error)
    fail(ErrorKind::kInvalidArgument, "{}: not valid JSON at byte {}: {}", where, read, error.message());
  return parser.release();
}

JsonView JsonView::at(std::string_view key) const {
  if (!value_->is_object()) fail_expected("an object");
  const boost::json::value* member = value_->get_object().if_contains(key);
  if (member == nullptr) fail(ErrorKind::kInvalidArgument, "{}: '{}' is missing", where_, key);
  return {*member, fmt::format("{}: '{}'", where_, key)};
}

std::optional<JsonView> JsonView::find(std::string_view key) const {
  if (!value_->is_object()) fail_expected("an object");
  const boost::json::value* member = value_->get_object().if_contains(key);
  if (member == nullptr || member->is_null()) return std::nullopt;
  return JsonView(*member, fmt::format("{}: '{}'", where_, key));
}

std::vector<JsonView> JsonView::items() const {
  if (!value_->is_array()) fail_expected("an array");
  std::vector<JsonView> out;
  out.reserve(value_->get_array().size());
  for (const auto& element : value_->get_array()) {
    out.emplace_back(element, fmt::format("{}[{}]", where_, out.size()));
  }
  return out;
}

std::vector<std::pair<std::string_view, JsonView>> JsonView::members() const {
  if (!value_->is_object()) fail_expected("an object");
  std::vector<std::pair<std::string_view, JsonView>> out;
  out.reserve(value_->get_object().size());
  for (const auto& member : value_->get_object()) {
    out.emplace_back(member.key(),
                     JsonView(member.value(), fmt::format("{}: {}", where_, quoted(member.key()))));
  }
  return out;
}

std::int64_t JsonView::as_int(std::int64_t low, std::int64_t high) const {
  if (value_->is_int64()) {
    const std::int64_t number = value_->get_int64();
    if (number >= low && number <= high) return number;
  }
  fail_expected(fmt::format("an integer from {} to {}", low, high));
}

double JsonView::as_number() const {
  if (!value_->is_number()) fail_expected("a number");
  const double number = value_->to_number<double>();
  if (!std::isfinite(number)) fail_expected("a finite number");
  return number;
}

bool JsonView::as_bool() const {
  if (!value_->is_bool()) fail_expected("true or false");
  return value_->get_bool();
}

std::string_view JsonView::as_string() const {
  if (!value_->is_string()) fail_expected("a string");
  return value_->get_string();
}

void JsonView::fail_expected(std::string_view expected) const {
  fail(ErrorKind::kInvalidArgument, "{} must be {}, found {}", where_, expected, describe(*value_));
}

}  // namespace peregrine::core
