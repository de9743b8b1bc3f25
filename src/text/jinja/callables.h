// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/value.h"

namespace peregrine::text::jinja {

class Interpreter;
struct MacroSyntax;
struct Scope;

/// The arguments of one call, in order.
struct CallArguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

/// A function that every template has: range, namespace, ...
struct Function : Object {
  using Body = Value (*)(Interpreter&, const CallArguments&);
  Function(std::string_view name_, Body body_) : Object(nullptr, 0, 0), name(name_), body(body_) {}
  std::string_view name;
  Body body;
};

/// A method of a type. Without a body it is Python's, but not supported here: an error where it is called.
struct Method {
  using Body = Value (*)(Interpreter&, const Value& self, const CallArguments&);
  std::string_view name;
  Body body;
};

struct BoundMethod : Object {
  BoundMethod(Heap* heap, Value self_, const Method& method_)
      : Object(heap, sizeof(BoundMethod), self_.depth() + 1), self(std::move(self_)), method(&method_) {}
  Value self;
  const Method* method;
};

struct Macro : Object {
  /// `closure` is the scope that it is defined in.
  Macro(Heap& heap, const MacroSyntax& syntax_, std::shared_ptr<Scope> closure_);
  std::string_view name() const;
  void clear() override { closure.reset(); }
  const MacroSyntax* syntax;
  std::shared_ptr<Scope> closure;
};

struct Cycler : Object {
  Cycler(Heap& heap, std::vector<Value> items_)
      : Object(&heap, sizeof(Cycler) + items_.size() * sizeof(Value), 1), items(std::move(items_)) {}
  void clear() override { items.clear(); }
  std::vector<Value> items;
  std::size_t position = 0;
};

struct Joiner : Object {
  Joiner(Heap& heap, Value separator_) : Object(&heap, sizeof(Joiner), 1), separator(std::move(separator_)) {}
  void clear() override { separator = Value(); }
  Value separator;
  bool used = false;
};

}  // namespace peregrine::text::jinja
