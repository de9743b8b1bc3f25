// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/iteration.h"

#include "text/unicode.h"

namespace peregrine::text::jinja {

bool is_iterable(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
    case Kind::kString:
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kDict:
    case Kind::kRange:
    case Kind::kDictView:
    case Kind::kIterator:
      return true;
    default:
      return false;
  }
}

std::optional<Int> size_of(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return 0;
    case Kind::kString:
      return static_cast<Int>(value.text().length());
    case Kind::kList:
    case Kind::kTuple:
      return static_cast<Int>(value.sequence().items.size());
    case Kind::kDict:
      return static_cast<Int>(value.dict().entries.size());
    case Kind::kRange:
      return value.object<Range>().count;
    case Kind::kDictView:
      return static_cast<Int>(value.object<DictView>().dict.dict().entries.size());
    default:
      return std::nullopt;
  }
}

Cursor::Cursor(Heap& heap, Value iterable) : heap_(&heap), iterable_(std::move(iterable)) {
  if (!is_iterable(iterable_)) fail("'{}' object is not iterable", type_name(iterable_));
}

std::optional<Value> Cursor::next() {
  switch (iterable_.kind()) {
    case Kind::kString: {
      const std::string_view text = iterable_.as_text();
      if (position_ >= text.size()) return std::nullopt;
      const std::size_t bytes = decode_at(text, position_).bytes;
      const std::string_view character = text.substr(position_, bytes);
      position_ += bytes;
      return make_text(*heap_, std::string(character));
    }
    case Kind::kList:
    case Kind::kTuple: {
      const auto& items = iterable_.sequence().items;
      if (position_ >= items.size()) return std::nullopt;
      return items[position_++];
    }
    case Kind::kDict: {
      const auto& entries = iterable_.dict().entries;
      if (position_ >= entries.size()) return std::nullopt;
      return entries[position_++].first;
    }
    case Kind::kRange: {
      const auto& range = iterable_.object<Range>();
      if (static_cast<Int>(position_) >= range.count) return std::nullopt;
      return range_element(range, static_cast<Int>(position_++));
    }
    case Kind::kDictView: {
      const auto& view = iterable_.object<DictView>();
      if (position_ >= view.dict.dict().entries.size()) return std::nullopt;
      return view.element(*heap_, position_++);
    }
    case Kind::kIterator:
      return iterable_.object<Iterator>().pull();
    default:
      return std::nullopt;
  }
}

std::vector<Value> to_vector(Heap& heap, const Value& iterable) {
  if (iterable.is_list_or_tuple()) {
    heap.spend_items(iterable.sequence().items.size());
    return iterable.sequence().items;
  }
  std::vector<Value> items;
  Reservation reservation(heap);
  Cursor cursor(heap, iterable);
  while (std::optional<Value> item = cursor.next()) {
    heap.spend(1);
    reservation.add(sizeof(Value));
    items.push_back(std::move(*item));
  }
  return items;
}

Value range_element(const Range& range, Int index) {
  return Value::integer(range.start + range.step * index);
}

}  // namespace peregrine::text::jinja
