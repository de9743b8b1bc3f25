// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "text/jinja/value.h"

namespace peregrine::text::jinja {

/// The attribute argument of map, selectattr, sort, ...: "a.b.0" is item "a", of that "b", of that 0.
class AttributePath {
 public:
  /// None gives the value itself.
  AttributePath(Heap& heap, const Value& attribute);
  /// An Undefined on the way becomes `standard`, unless that is None.
  Value get(Heap& heap, const Value& from, const Value& standard = Value::none()) const;

 private:
  std::vector<Value> parts_;
};

/// What comparisons that ignore case compare: strings in lower case, all else as it is.
Value without_case(Heap& heap, const Value& value);

}  // namespace peregrine::text::jinja
