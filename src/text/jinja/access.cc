// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/access.h"

#include <algorithm>
#include <array>

#include "text/jinja/iteration.h"
#include "text/jinja/loop.h"
#include "text/jinja/printing.h"
#include "text/jinja/strings.h"
#include "text/unicode.h"

namespace peregrine::text::jinja {
namespace {

std::span<const Method> methods_of(Kind kind) {
  switch (kind) {
    case Kind::kString:
      return string_methods();
    case Kind::kList:
      return list_methods();
    case Kind::kTuple:
      return tuple_methods();
    case Kind::kDict:
      return dict_methods();
    case Kind::kLoop:
      return loop_methods();
    case Kind::kCycler:
      return cycler_methods();
    default:
      return {};
  }
}

/// Whether Python's attribute would change the object, or leads behind the scenes.
bool is_unsafe(const Value& object, std::string_view name) {
  static constexpr std::array<std::string_view, 8> kList = {"append", "clear",  "extend",  "insert",
                                                            "pop",    "remove", "reverse", "sort"};
  static constexpr std::array<std::string_view, 5> kDict = {"clear", "pop", "popitem", "setdefault",
                                                            "update"};
  if (name.starts_with("__") && name.ends_with("__")) return true;
  if (object.is(Kind::kList)) return std::find(kList.begin(), kList.end(), name) != kList.end();
  if (object.is(Kind::kDict)) return std::find(kDict.begin(), kDict.end(), name) != kDict.end();
  return false;
}

Value unsafe_undefined(Heap& heap, const Value& object, std::string_view name) {
  return make_undefined(heap, fmt::format("access to attribute {} of '{}' object is unsafe.",
                                          repr(name.substr(0, 80)), type_name(object)));
}

Value no_attribute(Heap& heap, const Value& object, std::string_view name) {
  return make_undefined(
      heap, fmt::format("'{}' has no attribute {}", owner_name(object), repr(name.substr(0, 80))));
}

Value no_element(Heap& heap, const Value& object, const Value& key) {
  if (key.is_string()) return no_attribute(heap, object, key.as_text());
  const std::string text =
      key.is_number() || key.is_none() ? to_repr(heap, key) : std::string(type_name(key));
  return make_undefined(heap, fmt::format("{} has no element {}", owner_name(object), text));
}

std::optional<Value> macro_attribute(Heap& heap, const Macro& macro, std::string_view name) {
  if (name == "name") return make_text(heap, std::string(macro.name()));
  if (name == "caller") return Value::boolean(macro.syntax->uses_caller);
  if (name == "catch_kwargs") return Value::boolean(macro.syntax->uses_kwargs);
  if (name == "catch_varargs") return Value::boolean(macro.syntax->uses_varargs);
  if (name != "arguments") return std::nullopt;
  std::vector<Value> names;
  for (const auto& parameter : macro.syntax->parameters) names.push_back(make_text(heap, parameter.name));
  return make_tuple(heap, std::move(names));
}

/// Attributes that are no methods.
std::optional<Value> data_attribute(Heap& heap, const Value& object, std::string_view name) {
  switch (object.kind()) {
    case Kind::kNamespace:
      if (const Value* value = object.object<Namespace>().find(name)) return *value;
      return std::nullopt;
    case Kind::kLoop:
      return object.object<Loop>().attribute(name);
    case Kind::kMacro:
      return macro_attribute(heap, object.object<Macro>(), name);
    case Kind::kTuple:
      if (!object.sequence().group) return std::nullopt;
      if (name == "grouper") return object.sequence().items[0];
      if (name == "list") return object.sequence().items[1];
      return std::nullopt;
    case Kind::kRange:
      if (name == "start") return Value::integer(object.object<Range>().start);
      if (name == "stop") return Value::integer(object.object<Range>().stop);
      if (name == "step") return Value::integer(object.object<Range>().step);
      return std::nullopt;
    case Kind::kCycler:
      if (name == "current") return object.object<Cycler>().items[object.object<Cycler>().position];
      return std::nullopt;
    case Kind::kBool:
    case Kind::kInt:
      if (name == "real" || name == "numerator") return Value::integer(object.as_int());
      if (name == "imag") return Value::integer(0);
      if (name == "denominator") return Value::integer(1);
      return std::nullopt;
    case Kind::kFloat:
      if (name == "real") return object;
      if (name == "imag") return Value::real(0);
      return std::nullopt;
    default:
      return std::nullopt;
  }
}

std::optional<Value> character(Heap& heap, const Value& text, Int index) {
  const auto length = static_cast<Int>(text.text().length());
  if (index < 0) index += length;
  if (index < 0 || index >= length) return std::nullopt;
  const std::string_view content = text.as_text();
  const auto number = static_cast<std::size_t>(index);
  const bool ascii = text.text().ascii();
  if (!ascii) heap.spend_scan(content.size());
  const std::size_t at = ascii ? number : byte_of(content, number);
  return make_text(heap, std::string(content.substr(at, decode_at(content, at).bytes)), text.text().markup);
}

std::optional<Value> element(Heap& heap, const Value& object, const Value& key) {
  switch (object.kind()) {
    case Kind::kDict: {
      if (key.is(Kind::kList) || key.is(Kind::kDict) || key.is(Kind::kDictView)) return std::nullopt;
      const Value* value = object.dict().find(key);
      return value != nullptr ? std::optional(*value) : std::nullopt;
    }
    case Kind::kString:
      if (!key.is_integral()) return std::nullopt;
      return character(heap, object, key.as_int());
    case Kind::kList:
    case Kind::kTuple: {
      if (!key.is_integral()) return std::nullopt;
      const auto& items = object.sequence().items;
      Int index = key.as_int();
      if (index < 0) index += static_cast<Int>(items.size());
      if (index < 0 || index >= static_cast<Int>(items.size())) return std::nullopt;
      return items[static_cast<std::size_t>(index)];
    }
    case Kind::kRange: {
      if (!key.is_integral()) return std::nullopt;
      const auto& range = object.object<Range>();
      Int index = key.as_int();
      if (index < 0) index += range.count;
      if (index < 0 || index >= range.count) return std::nullopt;
      return range_element(range, index);
    }
    default:
      return std::nullopt;
  }
}

/// The elements that a slice takes, of `length`: the first, the step, and how many.
struct Slice {
  Int start, step, count;
};

Slice resolve_slice(const Value& start, const Value& stop, const Value& step, Int length) {
  for (const Value* part : {&start, &stop, &step}) {
    if (!part->is_none() && !part->is_integral())
      fail("slice indices must be integers or None, not {}", type_name(*part));
  }
  const Int stride = step.is_none() ? 1 : step.as_int();
  if (stride == 0) fail("slice step cannot be zero");
  const Int lowest = stride > 0 ? 0 : -1;
  const Int highest = stride > 0 ? length : length - 1;
  const auto clamp = [&](const Value& bound, Int standard) {
    if (bound.is_none()) return standard;
    const Int value = bound.as_int() < 0 ? bound.as_int() + length : bound.as_int();
    return std::clamp(value, lowest, highest);
  };
  const Int first = clamp(start, stride > 0 ? lowest : highest);
  const Int last = clamp(stop, stride > 0 ? highest : lowest);
  const Int distance = stride > 0 ? last - first : first - last;
  if (distance <= 0) return {first, 1, 0};
  // The count comes first: a stride far beyond the length must not overflow where it is added.
  const Int size = stride > 0 ? stride : (stride < -length - 1 ? length + 1 : -stride);
  const Int count = size > distance ? 1 : (distance + size - 1) / size;
  return {first, count == 1 ? 1 : stride, count};
}

Value slice_text(Heap& heap, const Value& object, const Slice& slice) {
  const std::string_view text = object.as_text();
  heap.spend_scan(text.size());
  const bool markup = object.text().markup;
  const auto first = static_cast<std::size_t>(slice.start);
  const auto count = static_cast<std::size_t>(slice.count);
  if (slice.count == 0) return make_text(heap, "", markup);
  if (slice.step == 1) {
    if (object.text().ascii()) return make_text(heap, std::string(text.substr(first, count)), markup);
    const std::string_view rest = text.substr(byte_of(text, first));
    return make_text(heap, std::string(rest.substr(0, byte_of(rest, count))), markup);
  }
  Reservation reservation(heap);
  reservation.add(object.text().length() * sizeof(std::size_t));
  std::vector<std::size_t> begins;
  for (std::size_t at = 0; at < text.size(); at += decode_at(text, at).bytes) begins.push_back(at);
  std::string out;
  for (Int i = 0; i < slice.count; ++i) {
    const std::size_t at = begins[static_cast<std::size_t>(slice.start + i * slice.step)];
    out += text.substr(at, decode_at(text, at).bytes);
  }
  return make_text(heap, std::move(out), markup);
}

}  // namespace

std::optional<Value> find_attribute(Heap& heap, const Value& object, std::string_view name) {
  if (object.is_undefined()) fail_undefined(object);
  if (is_unsafe(object, name)) return unsafe_undefined(heap, object, name);
  for (const Method& method : methods_of(object.kind())) {
    if (method.name == name) return Value(Kind::kMethod, new BoundMethod(&heap, object, method));
  }
  std::optional<Value> value = data_attribute(heap, object, name);
  if (value && name.starts_with('_')) return unsafe_undefined(heap, object, name);
  return value;
}

Value get_attribute(Heap& heap, const Value& object, std::string_view name) {
  if (std::optional<Value> attribute = find_attribute(heap, object, name)) return *attribute;
  const Value* entry = object.is(Kind::kDict) ? object.dict().find(name) : nullptr;
  return entry != nullptr ? *entry : no_attribute(heap, object, name);
}

Value get_item(Heap& heap, const Value& object, const Value& key) {
  if (object.is_undefined()) fail_undefined(object);
  if (std::optional<Value> value = element(heap, object, key)) return *value;
  if (key.is_string()) {
    if (std::optional<Value> attribute = find_attribute(heap, object, key.as_text())) return *attribute;
  }
  return no_element(heap, object, key);
}

Value get_slice(Heap& heap, const Value& object, const Value& start, const Value& stop, const Value& step) {
  if (object.is_undefined()) fail_undefined(object);
  if (object.is_string()) {
    const auto length = static_cast<Int>(object.text().length());
    return slice_text(heap, object, resolve_slice(start, stop, step, length));
  }
  if (object.is(Kind::kRange)) {
    const auto& range = object.object<Range>();
    const Slice slice = resolve_slice(start, stop, step, range.count);
    const Int first = range.start + slice.start * range.step;
    const Int stride = range.step * slice.step;
    return Value(Kind::kRange, new Range(&heap, first, first + stride * slice.count, stride));
  }
  if (!object.is_list_or_tuple()) fail("'{}' object cannot be sliced", type_name(object));
  const auto& items = object.sequence().items;
  const Slice slice = resolve_slice(start, stop, step, static_cast<Int>(items.size()));
  std::vector<Value> out;
  out.reserve(static_cast<std::size_t>(slice.count));
  for (Int i = 0; i < slice.count; ++i)
    out.push_back(items[static_cast<std::size_t>(slice.start + i * slice.step)]);
  return object.is(Kind::kList) ? make_list(heap, std::move(out)) : make_tuple(heap, std::move(out));
}

}  // namespace peregrine::text::jinja
