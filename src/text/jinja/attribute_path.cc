// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/attribute_path.h"

#include <algorithm>

#include "text/jinja/access.h"
#include "text/jinja/case_mapping.h"
#include "text/jinja/strings.h"

namespace peregrine::text::jinja {

AttributePath::AttributePath(Heap& heap, const Value& attribute) {
  if (attribute.is_none()) return;
  if (!attribute.is_string()) {
    parts_.push_back(attribute);
    return;
  }
  constexpr std::size_t kMostParts = 100;
  for (const std::string_view part : split(attribute.as_text(), ".", kNoLimit, false)) {
    if (parts_.size() == kMostParts) fail("an attribute has more than {} parts", kMostParts);
    const bool index =
        !part.empty() && part.size() < 18 && std::all_of(part.begin(), part.end(), is_ascii_digit);
    parts_.push_back(index ? Value::integer(std::stoll(std::string(part)))
                           : make_text(heap, std::string(part)));
  }
}

Value AttributePath::get(Heap& heap, const Value& from, const Value& standard) const {
  Value value = from;
  for (const Value& part : parts_) {
    heap.spend(1);
    value = get_item(heap, value, part);
    if (value.is_undefined() && !standard.is_none()) value = standard;
  }
  return value;
}

Value without_case(Heap& heap, const Value& value) {
  if (!value.is_string()) return value;
  heap.spend_characters(value.as_text().size());
  return make_text(heap, to_lower(value.as_text()));
}

}  // namespace peregrine::text::jinja
