// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <vector>

#include "text/jinja/value.h"

namespace peregrine::text::jinja {

bool is_iterable(const Value& value);
/// len(); nothing where the value has none.
std::optional<Int> size_of(const Value& value);

/// Python's iter(): the characters of a string, the keys of a dict, nothing of an Undefined.
class Cursor {
 public:
  /// Throws where `iterable` is none. The heap must outlive the cursor.
  Cursor(Heap& heap, Value iterable);
  std::optional<Value> next();

 private:
  Heap* heap_;
  Value iterable_;
  std::size_t position_ = 0;
};

/// All elements, as list() gives them.
std::vector<Value> to_vector(Heap& heap, const Value& iterable);

/// Element number `index` of a range.
Value range_element(const Range& range, Int index);

}  // namespace peregrine::text::jinja
