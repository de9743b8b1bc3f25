// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "text/jinja/value.h"

namespace peregrine::text::jinja {

/// Python's str(): appended to `out`, which may not grow beyond kMaxTextBytes.
void append_str(Heap& heap, std::string& out, const Value& value);
std::string to_str(Heap& heap, const Value& value);
/// Python's repr().
void append_repr(Heap& heap, std::string& out, const Value& value);
std::string to_repr(Heap& heap, const Value& value);

/// Python's repr() of a float: the fewest digits that read back as the same number.
std::string float_repr(double value);

struct JsonStyle {
  std::optional<std::string> indent;  ///< One level of indentation; nothing: all in one line.
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool sort_keys = false;
  bool ensure_ascii = false;
};

/// json.dumps().
std::string to_json(Heap& heap, const Value& value, const JsonStyle& style);

}  // namespace peregrine::text::jinja
