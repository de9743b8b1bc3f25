// SPDX-License-Identifier: Apache-2.0
// Calls: of macros, of loops, and their arguments.

#include <algorithm>

#include "text/jinja/filters.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/tests.h"

namespace peregrine::text::jinja {

Macro::Macro(Heap& heap, const MacroSyntax& syntax_, std::shared_ptr<Scope> closure_)
    : Object(&heap, 512, 1), syntax(&syntax_), closure(std::move(closure_)) {}

std::string_view Macro::name() const { return syntax->name; }

Value Interpreter::call(const Value& callee, const CallArguments& arguments) {
  const Heap::Level level(heap_);
  heap_.spend(1);
  switch (callee.kind()) {
    case Kind::kUndefined:
      fail_undefined(callee);
    case Kind::kFunction:
      return callee.object<Function>().body(*this, arguments);
    case Kind::kMethod: {
      const auto& bound = callee.object<BoundMethod>();
      if (bound.method->body == nullptr) {
        throw Failure(
            fmt::format("the method '{}' of {} is not supported", bound.method->name, type_name(bound.self)),
            core::ErrorKind::kUnsupported);
      }
      return bound.method->body(*this, bound.self, arguments);
    }
    case Kind::kMacro:
      return call_macro(callee.object<Macro>(), arguments);
    case Kind::kLoop:
      return call_loop(callee.object<Loop>(), arguments);
    case Kind::kJoiner: {
      auto& joiner = callee.object<Joiner>();
      return std::exchange(joiner.used, true) ? joiner.separator : make_text(heap_, "");
    }
    default:
      fail("'{}' object is not callable", type_name(callee));
  }
}

Value Interpreter::apply_filter(std::string_view name, const Value& value, const CallArguments& arguments) {
  const Filter* filter = find_filter(name);
  if (filter == nullptr || filter->body == nullptr) fail("no filter named {}", core::quoted(name, 40));
  return filter->body(*this, value, arguments);
}

bool Interpreter::apply_test(std::string_view name, const Value& value, const CallArguments& arguments) {
  const Test* test = find_test(name);
  if (test == nullptr) fail("no test named {}", core::quoted(name, 40));
  return test->body(*this, value, arguments);
}

Value Interpreter::call_macro(const Macro& macro, const CallArguments& arguments) {
  const auto outer_scope = std::exchange(scope_, std::make_shared<Scope>(macro.closure));
  Capture inner(heap_);
  Capture* const outer_output = std::exchange(output_, &inner);
  bind_arguments(macro, arguments);
  execute(macro.syntax->body);
  output_ = outer_output;
  scope_ = outer_scope;
  return make_text(heap_, std::move(inner.text));
}

/// Declares the parameters, and varargs, kwargs and caller where the macro names them.
void Interpreter::bind_arguments(const Macro& macro, const CallArguments& arguments) {
  const MacroSyntax& syntax = *macro.syntax;
  const std::size_t positional = std::min(arguments.positional.size(), syntax.parameters.size());
  std::vector<bool> used(arguments.named.size(), false);
  const auto take = [&](std::string_view name) -> const Value* {
    heap_.spend_items(arguments.named.size());
    for (std::size_t i = 0; i < arguments.named.size(); ++i) {
      if (used[i] || arguments.named[i].first != name) continue;
      used[i] = true;
      return &arguments.named[i].second;
    }
    return nullptr;
  };
  for (std::size_t i = 0; i < syntax.parameters.size(); ++i) {
    const auto& parameter = syntax.parameters[i];
    const Value* given = i < positional ? &arguments.positional[i] : take(parameter.name);
    if (given != nullptr) {
      declare(parameter.symbol, *given);
    } else if (parameter.standard) {
      declare(parameter.symbol, evaluate(*parameter.standard));
    } else {
      declare(parameter.symbol,
              make_undefined(heap_, fmt::format("parameter '{}' was not provided", parameter.name)));
    }
  }
  const bool own_caller = std::any_of(syntax.parameters.begin(), syntax.parameters.end(),
                                      [](const auto& parameter) { return parameter.name == "caller"; });
  if (syntax.uses_caller && !own_caller) {
    const Value* caller = take("caller");
    declare(kCallerSymbol, caller != nullptr ? *caller : make_undefined(heap_, "No caller defined"));
  }
  std::vector<Dict::Entry> rest;
  for (std::size_t i = 0; i < arguments.named.size(); ++i) {
    if (used[i]) continue;
    if (!syntax.uses_kwargs)
      fail("macro '{}' takes no keyword argument {}", syntax.name,
           core::quoted(arguments.named[i].first, 40));
    rest.emplace_back(make_text(heap_, arguments.named[i].first), arguments.named[i].second);
  }
  if (syntax.uses_kwargs) declare(kKwargsSymbol, make_dict(heap_, std::move(rest)));
  if (syntax.uses_varargs) {
    declare(kVarargsSymbol,
            make_tuple(heap_, {arguments.positional.begin() + static_cast<std::ptrdiff_t>(positional),
                               arguments.positional.end()}));
  } else if (arguments.positional.size() > positional) {
    fail("macro '{}' takes not more than {} argument(s)", syntax.name, syntax.parameters.size());
  }
}

/// loop(elements) of a recursive loop: its body over the elements, as text.
Value Interpreter::call_loop(Loop& loop, const CallArguments& arguments) {
  if (!loop.statement().recursive) fail("the loop must have the 'recursive' marker to be called");
  if (!loop.outer()) fail("the loop has ended and cannot be called");
  if (arguments.positional.size() != 1 || !arguments.named.empty()) fail("loop() takes one argument");
  const auto outer_scope = std::exchange(scope_, loop.outer());
  Capture inner(heap_);
  Capture* const outer_output = std::exchange(output_, &inner);
  execute_for(loop.statement(), arguments.positional[0], loop.nesting() + 1);
  output_ = outer_output;
  scope_ = outer_scope;
  return make_text(heap_, std::move(inner.text));
}

void Interpreter::execute_call_block(const CallBlockStatement& statement) {
  auto* object = new Macro(heap_, statement.caller, scope_);
  const Value caller(Kind::kMacro, object);
  heap_.keep(*object);
  const Value callee = evaluate(*statement.call->callee);
  CallArguments arguments = evaluate_arguments(statement.call->arguments);
  arguments.named.emplace_back("caller", caller);
  line_ = statement.line;
  print(call(callee, arguments));
}

CallArguments Interpreter::evaluate_arguments(const ArgumentSyntax& syntax) {
  CallArguments arguments;
  arguments.positional = evaluate_items(syntax.positional);
  add_all_positional(syntax.all_positional, arguments);
  for (const auto& [name, value] : syntax.named) arguments.named.emplace_back(name, evaluate(*value));
  add_all_named(syntax.all_named, arguments);
  return arguments;
}

void Interpreter::add_all_positional(const ExpressionPtr& expression, CallArguments& arguments) {
  if (!expression) return;
  for (Value& value : to_vector(heap_, evaluate(*expression)))
    arguments.positional.push_back(std::move(value));
}

void Interpreter::add_all_named(const ExpressionPtr& expression, CallArguments& arguments) {
  if (!expression) return;
  const Value named = evaluate(*expression);
  if (!named.is(Kind::kDict)) fail("the argument after ** must be a mapping, not {}", type_name(named));
  for (const auto& [key, value] : named.dict().entries) {
    if (!key.is_string()) fail("keywords must be strings, not {}", type_name(key));
    heap_.spend(1);
    arguments.named.emplace_back(key.as_text(), value);
  }
}

}  // namespace peregrine::text::jinja
