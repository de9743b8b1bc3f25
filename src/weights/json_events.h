// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

namespace peregrine::weights {

/// Receives a JSON document piece by piece, in file order. Unlike a document tree it sees a key that is given
/// twice, and needs no memory of its own: a sink can refuse a document at its first wrong piece by throwing.
/// Strings are whole, unescaped and valid UTF-8, and live only for the call.
class JsonSink {
 public:
  virtual ~JsonSink() = default;

  virtual void begin_object() = 0;
  virtual void end_object() = 0;
  virtual void begin_array() = 0;
  virtual void end_array() = 0;
  virtual void key(std::string_view name) = 0;
  virtual void string(std::string_view text) = 0;
  /// A whole number from 0 to 2^64 - 1, written without fraction or exponent.
  virtual void integer(std::uint64_t number) = 0;
  /// Any other scalar; `description` is made for messages: "true", "null", "the number -3", "the number 1.5".
  virtual void other(std::string_view description) = 0;
};

/// Feeds `text`, one JSON document, to `sink`. At most 64 levels. Throws Error(kInvalidArgument) that names
/// `where` and the byte where the text is not JSON or not UTF-8, and passes on what the sink throws.
void read_json(std::string_view text, std::string_view where, JsonSink& sink);

}  // namespace peregrine::weights
