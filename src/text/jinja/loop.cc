// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/loop.h"

#include <algorithm>

#include "text/jinja/access.h"
#include "text/jinja/interpreter.h"

namespace peregrine::text::jinja {
namespace {

Value cycle(Interpreter& interpreter, const Value& self, const CallArguments& arguments) {
  (void)interpreter;
  const auto& items = arguments.positional;
  if (items.empty()) fail("loop.cycle() has nothing to choose from");
  return items[static_cast<std::size_t>(self.object<Loop>().index0() % static_cast<Int>(items.size()))];
}

Value changed(Interpreter& interpreter, const Value& self, const CallArguments& arguments) {
  return Value::boolean(self.object<Loop>().changed(interpreter.heap(), arguments.positional));
}

constexpr Method kMethods[] = {{"cycle", cycle}, {"changed", changed}};

}  // namespace

std::span<const Method> loop_methods() { return kMethods; }

Loop::Loop(Heap& heap, const ForStatement& statement, const Value& iterable, Passes passes,
           std::shared_ptr<Scope> outer, unsigned nesting)
    : Object(&heap, sizeof(Loop), 1),
      statement_(statement),
      cursor_(std::in_place, heap, iterable),
      passes_(std::move(passes)),
      outer_(std::move(outer)),
      nesting_(nesting) {
  if (!passes_) length_ = size_of(iterable);
}

void Loop::clear() {
  cursor_.reset();
  passes_ = nullptr;
  outer_.reset();
  after_.reset();
  current_ = before_ = Value();
  ahead_.clear();
  last_changed_.reset();
}

/// The next element that passes the filter.
std::optional<Value> Loop::pull() {
  if (!ahead_.empty()) {
    Value next = std::move(ahead_.back());
    ahead_.pop_back();
    return next;
  }
  while (cursor_) {
    std::optional<Value> next = cursor_->next();
    if (!next || !passes_ || passes_(*next)) return next;
  }
  return std::nullopt;
}

const std::optional<Value>& Loop::peek() {
  if (!peeked_) {
    after_ = pull();
    peeked_ = true;
  }
  return after_;
}

std::optional<Value> Loop::advance() {
  std::optional<Value> next = peeked_ ? std::move(after_) : pull();
  peeked_ = false;
  after_.reset();
  if (!next) return next;
  ++index0_;
  before_ = std::move(current_);
  current_ = *next;
  return next;
}

Int Loop::length() {
  if (length_) return *length_;
  std::vector<Value> rest;
  heap()->spend(1);
  while (std::optional<Value> next = pull()) {
    heap()->spend(1);
    charge(sizeof(Value));
    rest.push_back(std::move(*next));
  }
  length_ = static_cast<Int>(rest.size()) + index0_ + 1 + (peeked_ && after_ ? 1 : 0);
  std::reverse(rest.begin(), rest.end());
  ahead_ = std::move(rest);
  return *length_;
}

std::optional<Value> Loop::attribute(std::string_view name) {
  if (name == "index") return Value::integer(index0_ + 1);
  if (name == "index0") return Value::integer(index0_);
  if (name == "first") return Value::boolean(index0_ == 0);
  if (name == "last") return Value::boolean(!peek().has_value());
  if (name == "length") return Value::integer(length());
  if (name == "revindex") return Value::integer(length() - index0_);
  if (name == "revindex0") return Value::integer(length() - index0_ - 1);
  if (name == "depth") return Value::integer(Int{nesting_} + 1);
  if (name == "depth0") return Value::integer(nesting_);
  if (name == "previtem") {
    return index0_ > 0 ? before_ : make_undefined(*heap(), "there is no previous item");
  }
  if (name == "nextitem") {
    return peek() ? *peek() : make_undefined(*heap(), "there is no next item");
  }
  return std::nullopt;
}

bool Loop::changed(Heap& heap, const std::vector<Value>& values) {
  bool same = last_changed_ && last_changed_->size() == values.size();
  for (std::size_t i = 0; same && i < values.size(); ++i) same = equal(heap, (*last_changed_)[i], values[i]);
  if (!same) last_changed_ = values;
  return !same;
}

std::string Loop::repr() { return fmt::format("<LoopContext {}/{}>", index0_ + 1, length()); }

}  // namespace peregrine::text::jinja
