// SPDX-License-Identifier: Apache-2.0
// Filters that apply another filter or a test to each element: generators, which compute an element when it
// is asked for.

#include <memory>

#include "text/jinja/arguments.h"
#include "text/jinja/attribute_path.h"
#include "text/jinja/filters.h"
#include "text/jinja/interpreter.h"

namespace peregrine::text::jinja {
namespace {

Value nothing(Heap& heap) {
  return make_iterator(heap, Value::none(), []() -> std::optional<Value> { return std::nullopt; });
}

std::string name_argument(const Value& value, std::string_view what) {
  if (!value.is_string()) fail("the name of a {} must be a string, not {}", what, type_name(value));
  return std::string(value.as_text());
}

/// The arguments behind the first `count`.
CallArguments without_first(const CallArguments& arguments, std::size_t count) {
  CallArguments rest;
  rest.positional.assign(arguments.positional.begin() + static_cast<std::ptrdiff_t>(count),
                         arguments.positional.end());
  rest.named = arguments.named;
  return rest;
}

/// The deepest of what a generator holds on to.
Value deepest(Heap& heap, const Value& value, const CallArguments& arguments) {
  std::vector<Value> all = arguments.positional;
  for (const auto& [name, named] : arguments.named) all.push_back(named);
  all.push_back(value);
  return make_tuple(heap, std::move(all));
}

Value map_attribute(Interpreter& interpreter, const Value& value, const CallArguments& arguments) {
  const Parameters parameters("map", arguments, {"attribute", "default"}, 1);
  Heap& heap = interpreter.heap();
  const auto cursor = std::make_shared<Cursor>(heap, value);
  return make_iterator(heap, deepest(heap, value, arguments),
                       [&heap, cursor, path = AttributePath(heap, parameters[0]),
                        standard = parameters.value(1, Value::none())]() -> std::optional<Value> {
                         const std::optional<Value> item = cursor->next();
                         if (!item) return std::nullopt;
                         return path.get(heap, *item, standard);
                       });
}

Value map(Interpreter& interpreter, const Value& value, const CallArguments& arguments) {
  Heap& heap = interpreter.heap();
  if (!value.truthy()) return nothing(heap);
  if (arguments.positional.empty() && !arguments.named.empty()) {
    for (const auto& [name, named] : arguments.named) {
      if (name == "attribute") return map_attribute(interpreter, value, arguments);
    }
  }
  if (arguments.positional.empty()) fail("map requires a filter argument");
  const std::string name = name_argument(arguments.positional[0], "filter");
  const auto cursor = std::make_shared<Cursor>(heap, value);
  return make_iterator(
      heap, deepest(heap, value, arguments),
      [&interpreter, cursor, name, rest = without_first(arguments, 1)]() -> std::optional<Value> {
        const std::optional<Value> item = cursor->next();
        if (!item) return std::nullopt;
        interpreter.heap().spend(1);
        return interpreter.apply_filter(name, *item, rest);
      });
}

/// select, reject, selectattr and rejectattr.
template <bool by_attribute, bool wanted>
Value select(Interpreter& interpreter, const Value& value, const CallArguments& arguments) {
  Heap& heap = interpreter.heap();
  if (!value.truthy()) return nothing(heap);
  constexpr std::size_t kName = by_attribute ? 1 : 0;
  if (by_attribute && arguments.positional.empty()) fail("Missing parameter for attribute name");
  const AttributePath path(heap, by_attribute ? arguments.positional[0] : Value::none());
  const bool has_test = arguments.positional.size() > kName;
  const std::string test = has_test ? name_argument(arguments.positional[kName], "test") : "";
  const auto rest = has_test ? without_first(arguments, kName + 1) : CallArguments{};
  const auto cursor = std::make_shared<Cursor>(heap, value);
  return make_iterator(heap, deepest(heap, value, arguments),
                       [&interpreter, cursor, path, has_test, test, rest]() -> std::optional<Value> {
                         while (std::optional<Value> item = cursor->next()) {
                           interpreter.heap().spend(1);
                           const Value subject = path.get(interpreter.heap(), *item);
                           const bool passed =
                               has_test ? interpreter.apply_test(test, subject, rest) : subject.truthy();
                           if (passed == wanted) return item;
                         }
                         return std::nullopt;
                       });
}

constexpr Filter kFilters[] = {
    {"map", map},
    {"reject", select<false, false>},
    {"rejectattr", select<true, false>},
    {"select", select<false, true>},
    {"selectattr", select<true, true>},
};

}  // namespace

std::span<const Filter> selection_filters() { return kFilters; }

}  // namespace peregrine::text::jinja
