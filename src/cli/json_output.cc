// SPDX-License-Identifier: Apache-2.0
#include "cli/json_output.h"

#include <fmt/format.h>

#include <boost/json/serialize.hpp>
#include <boost/json/string.hpp>
#include <cmath>
#include <iterator>

namespace peregrine::cli {
namespace {

template <typename T, typename Append>
std::string array_of(std::span<const T> values, Append append) {
  std::string out = "[";
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (i > 0) out += ',';
    append(out, values[i]);
  }
  out += ']';
  return out;
}

}  // namespace

std::string json_string(std::string_view utf8) {
  return boost::json::serialize(boost::json::string(utf8.data(), utf8.size()));
}

std::string json_number(float value) { return std::isfinite(value) ? fmt::format("{}", value) : "null"; }

std::string json_array(std::span<const float> values) {
  return array_of(values, [](std::string& out, float value) {
    if (std::isfinite(value)) {
      fmt::format_to(std::back_inserter(out), "{}", value);
    } else {
      out += "null";
    }
  });
}

std::string json_array(std::span<const std::int32_t> values) {
  return array_of(values, [](std::string& out, std::int32_t value) {
    fmt::format_to(std::back_inserter(out), "{}", value);
  });
}

}  // namespace peregrine::cli
