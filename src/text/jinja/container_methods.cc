// SPDX-License-Identifier: Apache-2.0
// The methods of lists, tuples and dicts that change nothing.

#include <algorithm>

#include "text/jinja/access.h"
#include "text/jinja/arguments.h"
#include "text/jinja/interpreter.h"

namespace peregrine::text::jinja {
namespace {

Value copied(Interpreter&, const Value& self, const CallArguments& arguments) {
  const Parameters parameters("copy", arguments, {});
  return self;
}

Value count_of(Interpreter& interpreter, const Value& self, const CallArguments& arguments) {
  const Parameters parameters("count", arguments, {"value"}, 1);
  Int times = 0;
  for (const Value& item : self.sequence().items)
    times += equal(interpreter.heap(), item, parameters[0]) ? 1 : 0;
  return Value::integer(times);
}

Value index_of(Interpreter& interpreter, const Value& self, const CallArguments& arguments) {
  const Parameters parameters("index", arguments, {"value", "start", "stop"}, 1);
  const auto& items = self.sequence().items;
  const auto size = static_cast<Int>(items.size());
  const auto position = [&](Int value) {
    return value < 0 ? std::max<Int>(value + size, 0) : std::min(value, size);
  };
  const Int stop = position(parameters.integer(2, size));
  for (Int i = position(parameters.integer(1, 0)); i < stop; ++i) {
    if (equal(interpreter.heap(), items[static_cast<std::size_t>(i)], parameters[0]))
      return Value::integer(i);
  }
  fail("the value is not in the {}", type_name(self));
}

Value get(Interpreter& interpreter, const Value& self, const CallArguments& arguments) {
  const Parameters parameters("get", arguments, {"key", "default"}, 1);
  check_hashable(interpreter.heap(), parameters[0]);
  const Value* value = self.dict().find(parameters[0]);
  return value != nullptr ? *value : parameters.value(1, Value::none());
}

template <DictView::Part part>
Value view(Interpreter& interpreter, const Value& self, const CallArguments& arguments) {
  const Parameters parameters("dict view", arguments, {});
  return Value(Kind::kDictView, new DictView(&interpreter.heap(), self, part));
}

constexpr Method kListMethods[] = {{"copy", copied}, {"count", count_of}, {"index", index_of}};
constexpr Method kTupleMethods[] = {{"count", count_of}, {"index", index_of}};
constexpr Method kDictMethods[] = {
    {"copy", copied},
    {"fromkeys", nullptr},
    {"get", get},
    {"items", view<DictView::Part::kItems>},
    {"keys", view<DictView::Part::kKeys>},
    {"values", view<DictView::Part::kValues>},
};

}  // namespace

std::span<const Method> list_methods() { return kListMethods; }
std::span<const Method> tuple_methods() { return kTupleMethods; }
std::span<const Method> dict_methods() { return kDictMethods; }

}  // namespace peregrine::text::jinja
