// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/iteration.h"
#include "text/jinja/operators.h"
#include "text/jinja/strings.h"

namespace peregrine::text::jinja {
namespace {

bool in_range(const Value& needle, const Range& range) {
  constexpr Int kFar = Int{1} << 101;  // beyond the bounds of any range
  if (needle.as_int() > kFar || needle.as_int() < -kFar) return false;
  const Int offset = needle.as_int() - range.start;
  return offset % range.step == 0 && offset / range.step >= 0 && offset / range.step < range.count;
}

}  // namespace

bool contains(Heap& heap, const Value& needle, const Value& haystack) {
  switch (haystack.kind()) {
    case Kind::kString:
      if (!needle.is_string()) {
        fail("'in <string>' requires string as left operand, not {}", type_name(needle));
      }
      heap.spend_scan(haystack.as_text().size());
      return find(haystack.as_text(), needle.as_text()) != kNotFound;
    case Kind::kDict:
      check_hashable(heap, needle);
      return haystack.dict().find(needle) != nullptr;
    case Kind::kRange:
      if (needle.is_integral()) return in_range(needle, haystack.object<Range>());
      break;
    case Kind::kDictView:
      if (haystack.object<DictView>().part == DictView::Part::kKeys) {
        check_hashable(heap, needle);
        return haystack.object<DictView>().dict.dict().find(needle) != nullptr;
      }
      break;
    default:
      if (!is_iterable(haystack)) fail("argument of type '{}' is not iterable", type_name(haystack));
  }
  Cursor cursor(heap, haystack);
  while (const std::optional<Value> item = cursor.next()) {
    if (equal(heap, *item, needle)) return true;
  }
  return false;
}

}  // namespace peregrine::text::jinja
