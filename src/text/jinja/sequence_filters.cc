// SPDX-License-Identifier: Apache-2.0
// Filters over lists and other iterables, and those that choose a value.

#include <algorithm>
#include <memory>
#include <numeric>
#include <set>

#include "text/jinja/access.h"
#include "text/jinja/arguments.h"
#include "text/jinja/attribute_path.h"
#include "text/jinja/filters.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/operators.h"
#include "text/jinja/printing.h"
#include "text/jinja/strings.h"

namespace peregrine::text::jinja {
namespace {

Value iterator_over(Heap& heap, const Value& iterable) {
  const auto cursor = std::make_shared<Cursor>(heap, iterable);
  return make_iterator(heap, iterable, [cursor] { return cursor->next(); });
}

Value standard_value(Interpreter& interpreter, const Value& value, const CallArguments& arguments) {
  const Parameters parameters("default", arguments, {"default_value", "boolean"});
  const bool replaces = value.is_undefined() || (parameters.flag(1, false) && !value.truthy());
  return replaces ? parameters.value(0, make_text(interpreter.heap(), "")) : value;
}

Value attribute(Interpreter& interpreter, const Value& value, const CallArguments& arguments) {
  const Parameters parameters("attr", arguments, {"name"}, 1);
  Heap& heap = interpreter.heap();
  if (auto found = find_attribute(heap, value, parameters.required_text(0))) return *found;
  return make_undefined(heap, fmt::format("'{}' has no attribute {}", owner_name(value),
                                          core::quoted(parameters.required_text(0), 80)));
}

Value length(Interpreter&, const Value& value, const CallArguments& arguments) {
  const Parameters parameters("length", arguments, {});
  const auto size = size_of(value);
  if (!size) fail("object of type '{}' has no len()", type_name(value));
  return Value::integer(*size);
}

Value first(Interpreter& interpreter, const Value& value, const CallArguments& arguments) {
  const Parameters parameters("first", arguments, {});
  const auto item = Cursor(interpreter.heap(), value).next();
  return item ? *item : make_undefined(interpreter.heap(), "No first item, sequence was empty.");
}

Value last(Interpreter& interpreter, const Value& value, const CallArguments& arguments) {
  const Parameters parameters("last", arguments, {});
  Heap& heap = interpreter.heap();
  if (!size_of(value)) fail("'{}' object is not reversible", type_name(value));
  if (value.is_string()) {
    return value.truthy() ? get_item(heap, value, Value::integer(-1))
                          : make_undefined(heap, "No last item, sequence was empty.");
  }
  if (value.is_list_or_tuple() && value.truthy()) return value.sequence().items.back();
  const std::vector<Value> items = to_vector(heap, value);
  return items.empty() ? make_undefined(heap, "No last item, sequence was empty.") : items.back();
}

Value list(Interpreter& interpreter, const Value& value, const CallArguments& arguments) {
  const Parameters parameters("list", arguments, {});
  return make_list(interpreter.heap(), to_vector(interpreter.heap(), value));
}

Value items(Interpreter& interpreter, const Value& value, const CallArguments& arguments) {
  const Parameters parameters("items", arguments, {});
  Heap& heap = interpreter.heap();
  if (value.is_undefined()) return iterator_over(heap, value);
  if (!value.is(Kind::kDict)) fail("Can only get item pairs from a mapping.");
  return iterator_over(heap, Value(Kind::kDictView, new DictView(&heap, value, DictView::Part::kItems)));
}

Value join(Interpreter& interpreter, const Value& value, const CallArguments& arguments) {
  const Parameters parameters("join", arguments, {"d", "attribute"});
  Heap& heap = interpreter.heap();
  const std::string separator = parameters.find(0) != nullptr ? to_str(heap, parameters[0]) : "";
  const AttributePath path(heap, parameters.value(1, Value::none()));
  std::string out;
  Cursor cursor(heap, value);
  for (bool begun = false; const std::optional<Value> item = cursor.next(); begun = true) {
    heap.spend(1);
    if (begun) out += separator;
    append_str(heap, out, path.get(heap, *item));
    Heap::check_text(out.size());
  }
  return make_text(heap, std::move(out));
}

Value reverse(Interpreter& interpreter, const Value& value, const CallArguments& arguments) {
  const Parameters parameters("reverse", arguments, {});
  Heap& heap = interpreter.heap();
  if (value.is_string()) {
    heap.spend_scan(value.as_text().size());
    return make_text(heap, reversed(value.as_text()), value.text().markup);
  }
  std::vector<Value> all = to_vector(heap, value);
  std::reverse(all.begin(), all.end());
  return iterator_over(heap, make_list(heap, std::move(all)));
}

/// Positions of `keys` in their order; equal ones stay in the order they are in.
std::vector<std::size_t> sorted_positions(Heap& heap, const std::vector<Value>& keys, bool backwards) {
  std::vector<std::size_t> positions(keys.size());
  std::iota(positions.begin(), positions.end(), 0);
  std::stable_sort(positions.begin(), positions.end(), [&](std::size_t a, std::size_t b) {
    return backwards ? ordered(heap, Order::kLess, keys[b], keys[a])
                     : ordered(heap, Order::kLess, keys[a], keys[b]);
  });
  return positions;
}

std::vector<Value> in_order(const std::vector<Value>& values, const std::vector<std::size_t>& positions) {
  std::vector<Value> out;
  out.reserve(values.size());
  for (const std::size_t position : positions) out.push_back(values[position]);
  return out;
}

Value sort(Interpreter& interpreter, const Value& value, const CallArguments& arguments) {
  const Parameters parameters("sort", arguments, {"reverse", "case_sensitive", "attribute"});
  Heap& heap = interpreter.heap();
  const bool case_sensitive = parameters.flag(1, false);
  const Value attribute = parameters.value(2, Value::none());
  // "a,b" sorts by a, then by b.
  std::vector<AttributePath> paths;
  if (attribute.is_string()) {
    for (const auto part : split(attribute.as_text(), ",", kNoLimit, false))
      paths.emplace_back(heap, make_text(heap, std::string(part)));
  } else {
    paths.emplace_back(heap, attribute);
  }
  const std::vector<Value> all = to_vector(heap, value);
  std::vector<Value> keys;
  keys.reserve(all.size());
  for (const Value& item : all) {
    std::vector<Value> key;
    for (const AttributePath& path : paths) {
      const Value part = path.get(heap, item);
      key.push_back(case_sensitive ? part : without_case(heap, part));
    }
    keys.push_back(make_list(heap, std::move(key)));
  }
  return make_list(heap, in_order(all, sorted_positions(heap, keys, parameters.flag(0, false))));
}

Value dict_sort(Interpreter& interpreter, const Value& value, const CallArguments& arguments) {
  const Parameters parameters("dictsort", arguments, {"case_sensitive", "by", "reverse"});
  Heap& heap = interpreter.heap();
  const std::string_view by = parameters.text(1).value_or("key");
  if (by != "key" && by != "value") fail("You can only sort by either \"key\" or \"value\"");
  if (value.is_undefined()) fail_undefined(value);
  if (!value.is(Kind::kDict)) fail("dictsort needs a mapping, not {}", type_name(value));
  const bool case_sensitive = parameters.flag(0, false);
  std::vector<Value> pairs;
  std::vector<Value> keys;
  for (const auto& [name, entry] : value.dict().entries) {
    pairs.push_back(make_tuple(heap, {name, entry}));
    const Value& key = by == "key" ? name : entry;
    keys.push_back(case_sensitive ? key : without_case(heap, key));
  }
  return make_list(heap, in_order(pairs, sorted_positions(heap, keys, parameters.flag(2, false))));
}

Value unique(Interpreter& interpreter, const Value& value, const CallArguments& arguments) {
  const Parameters parameters("unique", arguments, {"case_sensitive", "attribute"});
  Heap& heap = interpreter.heap();
  const auto before = [&heap](const Value& a, const Value& b) { return compare_keys(heap, a, b) < 0; };
  struct Seen {
    Seen(Heap& heap, decltype(before) order) : keys(order), memory(heap) {}
    std::set<Value, decltype(before)> keys;
    Reservation memory;
  };
  const auto seen = std::make_shared<Seen>(heap, before);
  const auto cursor = std::make_shared<Cursor>(heap, value);
  return make_iterator(
      heap, value,
      [&heap, seen, cursor, case_sensitive = parameters.flag(0, false),
       path = AttributePath(heap, parameters.value(1, Value::none()))]() -> std::optional<Value> {
        while (std::optional<Value> item = cursor->next()) {
          Value key = path.get(heap, *item);
          if (!case_sensitive) key = without_case(heap, key);
          check_hashable(heap, key);
          heap.spend(1);
          seen->memory.add(sizeof(Value) + 48);
          if (seen->keys.insert(std::move(key)).second) return item;
        }
        return std::nullopt;
      });
}

template <Order order>
Value extreme(Interpreter& interpreter, const Value& value, const CallArguments& arguments) {
  const Parameters parameters("min or max", arguments, {"case_sensitive", "attribute"});
  Heap& heap = interpreter.heap();
  const bool case_sensitive = parameters.flag(0, false);
  const AttributePath path(heap, parameters.value(1, Value::none()));
  std::optional<Value> best;
  Value best_key;
  Cursor cursor(heap, value);
  while (std::optional<Value> item = cursor.next()) {
    Value key = path.get(heap, *item);
    if (!case_sensitive) key = without_case(heap, key);
    if (best && !ordered(heap, order, key, best_key)) continue;
    best = std::move(item);
    best_key = std::move(key);
  }
  return best ? *best : make_undefined(heap, "No aggregated item, sequence was empty.");
}

Value sum(Interpreter& interpreter, const Value& value, const CallArguments& arguments) {
  const Parameters parameters("sum", arguments, {"attribute", "start"});
  Heap& heap = interpreter.heap();
  const AttributePath path(heap, parameters.value(0, Value::none()));
  Value total = parameters.value(1, Value::integer(0));
  if (total.is_string()) fail("sum() can't sum strings [use ''.join(seq) instead]");
  Cursor cursor(heap, value);
  while (const std::optional<Value> item = cursor.next()) {
    heap.spend(1);
    total = arithmetic(heap, Arithmetic::kAdd, std::move(total), path.get(heap, *item));
  }
  return total;
}

Value group_by(Interpreter& interpreter, const Value& value, const CallArguments& arguments) {
  const Parameters parameters("groupby", arguments, {"attribute", "default", "case_sensitive"}, 1);
  Heap& heap = interpreter.heap();
  const AttributePath path(heap, parameters[0]);
  const Value standard = parameters.value(1, Value::none());
  const bool case_sensitive = parameters.flag(2, false);
  const std::vector<Value> all = to_vector(heap, value);
  std::vector<Value> keys;
  for (const Value& item : all) {
    const Value key = path.get(heap, item, standard);
    keys.push_back(case_sensitive ? key : without_case(heap, key));
  }
  const auto positions = sorted_positions(heap, keys, false);
  std::vector<Value> groups;
  for (std::size_t i = 0, end; i < positions.size(); i = end) {
    std::vector<Value> members;
    for (end = i; end < positions.size() && equal(heap, keys[positions[i]], keys[positions[end]]); ++end)
      members.push_back(all[positions[end]]);
    if (members.empty()) members.push_back(all[positions[end++]]);  // a NaN equals nothing, itself included
    const Value grouper = path.get(heap, members.front(), standard);
    Value group = make_tuple(heap, {grouper, make_list(heap, std::move(members))});
    group.object<Sequence>().group = true;
    groups.push_back(std::move(group));
  }
  return make_list(heap, std::move(groups));
}

Value batch(Interpreter& interpreter, const Value& value, const CallArguments& arguments) {
  const Parameters parameters("batch", arguments, {"linecount", "fill_with"}, 1);
  Heap& heap = interpreter.heap();
  const Int size = parameters.integer(0, 1);
  if (size > kMaxRange) fail("batch: lines of {} elements, at most {} are allowed", size, kMaxRange);
  const auto full = [&](const std::vector<Value>& line) { return static_cast<Int>(line.size()) == size; };
  std::vector<Value> lines;
  std::vector<Value> line;
  for (Value& item : to_vector(heap, value)) {
    if (full(line)) lines.push_back(make_list(heap, std::exchange(line, {})));
    line.push_back(std::move(item));
  }
  if (!line.empty()) {
    if (parameters.has(1)) {
      while (static_cast<Int>(line.size()) < size) line.push_back(*parameters.find(1));
    }
    lines.push_back(make_list(heap, std::move(line)));
  }
  return iterator_over(heap, make_list(heap, std::move(lines)));
}

Value slice(Interpreter& interpreter, const Value& value, const CallArguments& arguments) {
  const Parameters parameters("slice", arguments, {"slices", "fill_with"}, 1);
  Heap& heap = interpreter.heap();
  const Int count = parameters.integer(0, 1);
  if (count < 1 || count > kMaxRange) fail("slice: {} slices, 1 to {} are allowed", count, kMaxRange);
  const std::vector<Value> all = to_vector(heap, value);
  const auto slices = static_cast<std::size_t>(count);
  const std::size_t each = all.size() / slices;
  const std::size_t longer = all.size() % slices;
  std::vector<Value> out;
  for (std::size_t i = 0, begin = 0; i < slices; ++i) {
    const std::size_t size = each + (i < longer ? 1 : 0);
    std::vector<Value> part(all.begin() + static_cast<std::ptrdiff_t>(begin),
                            all.begin() + static_cast<std::ptrdiff_t>(begin + size));
    if (parameters.has(1) && i >= longer) part.push_back(*parameters.find(1));
    out.push_back(make_list(heap, std::move(part)));
    begin += size;
  }
  return iterator_over(heap, make_list(heap, std::move(out)));
}

constexpr Filter kFilters[] = {
    {"attr", attribute},
    {"batch", batch},
    {"count", length},
    {"d", standard_value},
    {"default", standard_value},
    {"dictsort", dict_sort},
    {"first", first},
    {"groupby", group_by},
    {"items", items},
    {"join", join},
    {"last", last},
    {"length", length},
    {"list", list},
    {"max", extreme<Order::kGreater>},
    {"min", extreme<Order::kLess>},
    {"reverse", reverse},
    {"slice", slice},
    {"sort", sort},
    {"sum", sum},
    {"unique", unique},
};

}  // namespace

std::span<const Filter> sequence_filters() { return kFilters; }

}  // namespace peregrine::text::jinja
