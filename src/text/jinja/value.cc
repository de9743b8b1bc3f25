// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/value.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "text/unicode.h"

namespace peregrine::text::jinja {
namespace {

/// Dicts up to this size are searched one by one.
constexpr std::size_t kFewEntries = 8;

unsigned depth_around(const std::vector<Value>& items) {
  unsigned depth = 0;
  for (const Value& item : items) depth = std::max(depth, item.depth());
  return depth + 1;
}

unsigned depth_around(const std::vector<Dict::Entry>& entries) {
  unsigned depth = 0;
  for (const auto& [key, value] : entries) depth = std::max({depth, key.depth(), value.depth()});
  return depth + 1;
}

/// Kinds in groups within which values compare.
int rank(const Value& key) {
  switch (key.kind()) {
    case Kind::kString:
      return 0;
    case Kind::kBool:
    case Kind::kInt:
    case Kind::kFloat:
      return 1;
    case Kind::kNone:
      return 2;
    case Kind::kTuple:
      return 3;
    case Kind::kUndefined:
      return 4;
    default:
      return 5;
  }
}

template <typename T>
int sign_of(const T& a, const T& b) {
  return a < b ? -1 : (b < a ? 1 : 0);
}

int compare_int_float(Int a, double b) {
  if (std::isnan(b)) return 1;
  // Beyond these bounds there is no int; within them the whole part of b is one.
  if (b >= 0x1p127) return -1;
  if (b < -0x1p127) return 1;
  const Int whole = static_cast<Int>(b);
  if (a != whole) return sign_of(a, whole);
  return sign_of(0.0, b - std::trunc(b));
}

}  // namespace

Object::Object(Heap* heap, std::size_t bytes, unsigned depth) : depth_(depth), heap_(heap), bytes_(0) {
  if (depth > kMaxValueDepth) fail("values are nested more than {} deep", kMaxValueDepth);
  if (heap_ == nullptr) return;
  heap_->spend(1);
  charge(bytes);
}

Object::~Object() {
  if (heap_ != nullptr) heap_->release(bytes_);
}

void Object::charge(std::size_t bytes) {
  if (heap_ == nullptr) return;
  heap_->allocate(bytes);
  bytes_ += bytes;
}

void Value::swap(Value& other) noexcept {
  std::swap(kind_, other.kind_);
  std::swap(integer_, other.integer_);
}

Value Value::boolean(bool value) {
  Value out(Kind::kBool);
  out.boolean_ = value;
  return out;
}

Value Value::integer(Int value) {
  Value out(Kind::kInt);
  out.integer_ = value;
  return out;
}

Value Value::real(double value) {
  Value out(Kind::kFloat);
  out.real_ = value;
  return out;
}

bool Value::truthy() const {
  switch (kind_) {
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
      return boolean_;
    case Kind::kInt:
      return integer_ != 0;
    case Kind::kFloat:
      return real_ != 0;
    case Kind::kString:
      return !as_text().empty();
    case Kind::kList:
    case Kind::kTuple:
      return !sequence().items.empty();
    case Kind::kDict:
      return !dict().entries.empty();
    case Kind::kRange:
      return object<Range>().count > 0;
    case Kind::kDictView:
      return !object<DictView>().dict.dict().entries.empty();
    default:
      return true;
  }
}

Text::Text(Heap* heap, std::string content_, bool markup_)
    : Object(heap, sizeof(Text) + content_.size(), 0), content(std::move(content_)), markup(markup_) {
  Heap::check_text(content.size());
  if (heap != nullptr) heap->spend_copy(content.size());
}

std::size_t Text::length() const {
  std::size_t length = length_.load(std::memory_order_relaxed);
  if (length == kUnknown) {
    length = count_code_points(content);
    length_.store(length, std::memory_order_relaxed);
  }
  return length;
}

void Text::append(std::string_view more) {
  Heap::check_text(content.size() + more.size());
  charge(more.size());
  if (heap() != nullptr) heap()->spend_copy(more.size());
  content += more;
  length_.store(kUnknown, std::memory_order_relaxed);
}

Sequence::Sequence(Heap* heap, std::vector<Value> items_)
    : Object(heap, sizeof(Sequence) + items_.size() * sizeof(Value), depth_around(items_)),
      items(std::move(items_)) {
  if (heap != nullptr) heap->spend_items(items.size());
}

Dict::Dict(Heap& heap, std::vector<Entry> entries_)
    : Object(&heap, sizeof(Dict) + entries_.size() * (sizeof(Entry) + sizeof(std::uint32_t)),
             depth_around(entries_)),
      entries(std::move(entries_)) {
  for (const Entry& entry : entries) check_hashable(heap, entry.first);
  heap.spend_items(entries.size());
  std::vector<std::uint32_t> order(entries.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
    return compare_keys(heap, entries[a].first, entries[b].first) < 0;
  });
  std::vector<bool> dropped(entries.size(), false);
  bool any_dropped = false;
  for (std::size_t i = 0, next; i < order.size(); i = next) {
    for (next = i + 1;
         next < order.size() && compare_keys(heap, entries[order[i]].first, entries[order[next]].first) == 0;
         ++next) {
      entries[order[i]].second = std::move(entries[order[next]].second);
      dropped[order[next]] = any_dropped = true;
    }
  }
  if (any_dropped) {
    std::vector<std::uint32_t> place(entries.size());
    std::vector<Entry> left;
    for (std::size_t i = 0; i < entries.size(); ++i) {
      place[i] = static_cast<std::uint32_t>(left.size());
      if (!dropped[i]) left.push_back(std::move(entries[i]));
    }
    entries = std::move(left);
    std::erase_if(order, [&](std::uint32_t i) { return dropped[i]; });
    for (std::uint32_t& i : order) i = place[i];
  }
  if (entries.size() > kFewEntries) order_ = std::move(order);
}

const Value* Dict::find(std::string_view key) const {
  // Compared with at most this many keys of its own length.
  heap()->spend_copy(key.size() * 8);
  if (order_.empty()) {
    for (const auto& [name, value] : entries) {
      if (name.is_string() && name.as_text() == key) return &value;
    }
    return nullptr;
  }
  // Strings have the lowest rank: among them order_ goes by their bytes.
  const auto at = std::partition_point(order_.begin(), order_.end(), [&](std::uint32_t i) {
    return entries[i].first.is_string() && entries[i].first.as_text() < key;
  });
  if (at == order_.end()) return nullptr;
  const auto& [name, value] = entries[*at];
  return name.is_string() && name.as_text() == key ? &value : nullptr;
}

const Value* Dict::find(const Value& key) const {
  if (key.is_string()) return find(key.as_text());
  if (order_.empty()) {
    for (const auto& [name, value] : entries) {
      if (compare_keys(*heap(), name, key) == 0) return &value;
    }
    return nullptr;
  }
  const auto at = std::partition_point(order_.begin(), order_.end(), [&](std::uint32_t i) {
    return compare_keys(*heap(), entries[i].first, key) < 0;
  });
  if (at == order_.end() || compare_keys(*heap(), entries[*at].first, key) != 0) return nullptr;
  return &entries[*at].second;
}

Range::Range(Heap* heap, Int start_, Int stop_, Int step_)
    : Object(heap, sizeof(Range), 1), start(start_), stop(stop_), step(step_), count(0) {
  constexpr Int kFar = Int{1} << 100;
  for (const Int bound : {start, stop, step}) {
    if (bound > kFar || bound < -kFar) fail("the bounds of a range are too large");
  }
  if (step > 0 && stop > start) count = (stop - start + step - 1) / step;
  if (step < 0 && stop < start) count = (start - stop - step - 1) / -step;
  if (count > kMaxRange) fail("a range has {} elements, at most {} are allowed", count, kMaxRange);
}

DictView::DictView(Heap* heap, Value dict_, Part part_)
    : Object(heap, sizeof(DictView), dict_.depth() + 2), dict(std::move(dict_)), part(part_) {}

Value DictView::element(Heap& heap, std::size_t index) const {
  const auto& [key, value] = dict.dict().entries[index];
  if (part == Part::kKeys) return key;
  if (part == Part::kValues) return value;
  return make_tuple(heap, {key, value});
}

Iterator::Iterator(Heap& heap, const Value& source, Next next)
    : Object(&heap, 256, source.depth() + 1), next_(std::move(next)) {}

std::optional<Value> Iterator::pull() {
  if (!next_) return std::nullopt;
  const Heap::Level level(*heap());
  heap()->spend(1);
  // Held here: what the element needs may exhaust and clear this very iterator.
  const Next next = next_;
  std::optional<Value> element = next();
  if (!element) next_ = nullptr;
  return element;
}

const Value* Namespace::find(std::string_view name) const {
  heap()->spend(attributes.size() / 16);
  for (const auto& [key, value] : attributes) {
    if (key == name) return &value;
  }
  return nullptr;
}

void Namespace::set(std::string_view name, Value value) {
  if (const Value* old = find(name)) {
    *const_cast<Value*>(old) = std::move(value);
    return;
  }
  charge(sizeof(attributes[0]) + name.size());
  attributes.emplace_back(name, std::move(value));
}

Value make_text(Heap& heap, std::string content, bool markup) {
  return Value(Kind::kString, new Text(&heap, std::move(content), markup));
}

Value make_list(Heap& heap, std::vector<Value> items) {
  return Value(Kind::kList, new Sequence(&heap, std::move(items)));
}

Value make_tuple(Heap& heap, std::vector<Value> items) {
  return Value(Kind::kTuple, new Sequence(&heap, std::move(items)));
}

Value make_dict(Heap& heap, std::vector<Dict::Entry> entries) {
  return Value(Kind::kDict, new Dict(heap, std::move(entries)));
}

Value make_iterator(Heap& heap, const Value& source, Iterator::Next next) {
  auto* iterator = new Iterator(heap, source, std::move(next));
  Value value(Kind::kIterator, iterator);
  heap.keep(*iterator);
  return value;
}

Value make_undefined(Heap& heap, std::string reason) {
  return Value(Kind::kUndefined, new Text(&heap, std::move(reason), false));
}

Value make_constant(std::string content) {
  return Value(Kind::kString, new Text(nullptr, std::move(content), false));
}

void check_hashable(Heap& heap, const Value& key) {
  heap.spend(1);
  if (key.is(Kind::kList) || key.is(Kind::kDict) || key.is(Kind::kDictView))
    fail("a {} cannot be a key of a dict (unhashable type: '{}')", type_name(key), type_name(key));
  if (!key.is(Kind::kTuple)) return;
  for (const Value& item : key.sequence().items) check_hashable(heap, item);
}

int compare_numbers(const Value& a, const Value& b) {
  if (a.is(Kind::kFloat) && b.is(Kind::kFloat)) {
    const double x = a.as_float();
    const double y = b.as_float();
    if (std::isnan(x) || std::isnan(y)) return sign_of(!std::isnan(x), !std::isnan(y));
    return sign_of(x, y);
  }
  if (a.is(Kind::kFloat)) return -compare_int_float(b.as_int(), a.as_float());
  if (b.is(Kind::kFloat)) return compare_int_float(a.as_int(), b.as_float());
  return sign_of(a.as_int(), b.as_int());
}

int compare_keys(Heap& heap, const Value& a, const Value& b) {
  heap.spend(1);
  if (rank(a) != rank(b)) return sign_of(rank(a), rank(b));
  switch (rank(a)) {
    case 0:
      heap.spend_copy(std::min(a.as_text().size(), b.as_text().size()));
      return sign_of(a.as_text(), b.as_text());
    case 1:
      return compare_numbers(a, b);
    case 3: {
      const auto& x = a.sequence().items;
      const auto& y = b.sequence().items;
      for (std::size_t i = 0; i < x.size() && i < y.size(); ++i) {
        if (const int order = compare_keys(heap, x[i], y[i])) return order;
      }
      return sign_of(x.size(), y.size());
    }
    case 5:
      return sign_of(a.identity(), b.identity());
    default:
      return 0;
  }
}

std::string_view type_name(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return "Undefined";
    case Kind::kNone:
      return "NoneType";
    case Kind::kBool:
      return "bool";
    case Kind::kInt:
      return "int";
    case Kind::kFloat:
      return "float";
    case Kind::kString:
      return value.text().markup ? "Markup" : "str";
    case Kind::kList:
      return "list";
    case Kind::kTuple:
      return "tuple";
    case Kind::kDict:
      return "dict";
    case Kind::kRange:
      return "range";
    case Kind::kDictView:
      switch (value.object<DictView>().part) {
        case DictView::Part::kKeys:
          return "dict_keys";
        case DictView::Part::kValues:
          return "dict_values";
        case DictView::Part::kItems:
          return "dict_items";
      }
      return "dict_view";
    case Kind::kIterator:
      return "generator";
    case Kind::kNamespace:
      return "Namespace";
    case Kind::kMacro:
      return "Macro";
    case Kind::kLoop:
      return "LoopContext";
    case Kind::kFunction:
      return "function";
    case Kind::kMethod:
      return "builtin_function_or_method";
    case Kind::kCycler:
      return "Cycler";
    case Kind::kJoiner:
      return "Joiner";
  }
  return "object";
}

std::string owner_name(const Value& value) {
  switch (value.kind()) {
    case Kind::kNone:
      return "None";
    case Kind::kMacro:
    case Kind::kLoop:
      return fmt::format("jinja2.runtime.{} object", type_name(value));
    case Kind::kNamespace:
    case Kind::kCycler:
    case Kind::kJoiner:
      return fmt::format("jinja2.utils.{} object", type_name(value));
    default:
      return fmt::format("{} object", type_name(value));
  }
}

void fail_undefined(const Value& undefined) {
  const auto* reason = static_cast<const Text*>(undefined.identity());
  throw Failure(reason == nullptr ? "an undefined value is used" : reason->content);
}

}  // namespace peregrine::text::jinja
