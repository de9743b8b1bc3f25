// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/interpreter.h"

#include <map>

#include "text/jinja/globals.h"
#include "text/jinja/printing.h"
#include "text/unicode.h"

namespace peregrine::text::jinja {

Value from_json(Heap& heap, const boost::json::value& json) {
  const Heap::Level level(heap);
  switch (json.kind()) {
    case boost::json::kind::null:
      return Value::none();
    case boost::json::kind::bool_:
      return Value::boolean(json.get_bool());
    case boost::json::kind::int64:
      return Value::integer(json.get_int64());
    case boost::json::kind::uint64:
      return Value::integer(json.get_uint64());
    case boost::json::kind::double_:
      return Value::real(json.get_double());
    case boost::json::kind::string: {
      const std::string_view text = json.get_string();
      return make_text(heap, is_valid_utf8(text) ? std::string(text) : to_valid_utf8(text));
    }
    case boost::json::kind::array: {
      std::vector<Value> items;
      items.reserve(json.get_array().size());
      for (const auto& item : json.get_array()) items.push_back(from_json(heap, item));
      return make_list(heap, std::move(items));
    }
    case boost::json::kind::object: {
      std::vector<Dict::Entry> entries;
      entries.reserve(json.get_object().size());
      for (const auto& [key, value] : json.get_object()) {
        const std::string_view name = key;
        entries.emplace_back(make_text(heap, is_valid_utf8(name) ? std::string(name) : to_valid_utf8(name)),
                             from_json(heap, value));
      }
      return make_dict(heap, std::move(entries));
    }
  }
  return Value::none();
}

Interpreter::Interpreter(const Syntax& syntax, std::int64_t now)
    : syntax_(syntax), now_(now), scope_(std::make_shared<Scope>(nullptr)) {}

std::string Interpreter::run(const boost::json::object& variables) {
  define_globals(variables);
  Capture output(heap_);
  output_ = &output;
  execute(syntax_.body);
  output_ = nullptr;
  return std::move(output.text);
}

/// Only what the template names; a variable hides a function of the same name.
void Interpreter::define_globals(const boost::json::object& variables) {
  for (Symbol symbol = 0; symbol < syntax_.symbols.size(); ++symbol) {
    const std::string& name = syntax_.symbols[symbol];
    if (const auto* value = variables.if_contains(name)) {
      declare(symbol, from_json(heap_, *value));
    } else if (std::optional<Value> function = find_function(name)) {
      declare(symbol, std::move(*function));
    }
  }
}

void Interpreter::emit(std::string_view text) {
  Heap::check_text(output_->text.size() + text.size());
  heap_.spend_copy(text.size());
  output_->reservation.add(text.size());
  output_->text += text;
}

void Interpreter::print(const Value& value) {
  const std::size_t before = output_->text.size();
  append_str(heap_, output_->text, value);
  output_->reservation.add(output_->text.size() - before);
}

const Value* Interpreter::find_variable(Symbol symbol) {
  for (const Scope* scope = scope_.get(); scope != nullptr; scope = scope->parent.get()) {
    heap_.spend(scope->variables.size() / 64);
    for (const auto& [name, value] : scope->variables) {
      if (name == symbol) return &value;
    }
  }
  return nullptr;
}

void Interpreter::declare(Symbol symbol, Value value) {
  heap_.spend(scope_->variables.size() / 64);
  for (auto& [name, old] : scope_->variables) {
    if (name == symbol) {
      old = std::move(value);
      return;
    }
  }
  scope_->variables.emplace_back(symbol, std::move(value));
}

void Interpreter::assign(const Target& target, const Value& value) {
  switch (target.type) {
    case Target::Type::kName:
      declare(target.symbol, value);
      return;
    case Target::Type::kAttribute: {
      const Value* space = find_variable(target.symbol);
      if (space == nullptr || !space->is(Kind::kNamespace))
        fail("cannot assign attribute on non-namespace object '{}'", syntax_.symbols[target.symbol]);
      space->object<Namespace>().set(target.attribute, value);
      return;
    }
    case Target::Type::kTuple:
      assign_tuple(target, value);
      return;
  }
}

void Interpreter::assign_tuple(const Target& target, const Value& value) {
  if (!is_iterable(value)) fail("cannot unpack non-iterable {} object", type_name(value));
  std::vector<Value> items;
  Cursor cursor(heap_, value);
  while (std::optional<Value> item = cursor.next()) {
    if (items.size() == target.targets.size())
      fail("too many values to unpack (expected {})", target.targets.size());
    items.push_back(std::move(*item));
  }
  if (items.size() < target.targets.size())
    fail("not enough values to unpack (expected {}, got {})", target.targets.size(), items.size());
  for (std::size_t i = 0; i < items.size(); ++i) assign(target.targets[i], items[i]);
}

Interpreter::Flow Interpreter::execute(const Block& block) {
  for (const auto& statement : block) {
    const Flow flow = execute(*statement);
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::execute(const Statement& statement) {
  heap_.spend(1);
  line_ = statement.line;
  using Type = Statement::Type;
  switch (statement.type) {
    case Type::kText:
      emit(static_cast<const TextStatement&>(statement).text);
      return Flow::kNext;
    case Type::kPrint:
      print(evaluate(*static_cast<const PrintStatement&>(statement).expression));
      return Flow::kNext;
    case Type::kSet: {
      const auto& set = static_cast<const SetStatement&>(statement);
      assign(set.target, evaluate(*set.value));
      return Flow::kNext;
    }
    case Type::kMacro: {
      const auto& macro = static_cast<const MacroStatement&>(statement);
      auto* object = new Macro(heap_, macro.macro, scope_);
      const Value value(Kind::kMacro, object);
      heap_.keep(*object);
      declare(macro.symbol, value);
      return Flow::kNext;
    }
    case Type::kBreak:
      return Flow::kBreak;
    case Type::kContinue:
      return Flow::kContinue;
    default:
      break;
  }
  const Heap::Level level(heap_);
  switch (statement.type) {
    case Type::kIf:
      return execute_if(static_cast<const IfStatement&>(statement));
    case Type::kFor: {
      const auto& loop = static_cast<const ForStatement&>(statement);
      return execute_for(loop, evaluate(*loop.iterable), 0);
    }
    case Type::kSetBlock:
      return execute_set_block(static_cast<const SetBlockStatement&>(statement));
    case Type::kCallBlock:
      execute_call_block(static_cast<const CallBlockStatement&>(statement));
      return Flow::kNext;
    case Type::kFilterBlock:
      return execute_filter_block(static_cast<const FilterBlockStatement&>(statement));
    case Type::kWith:
      return execute_with(static_cast<const WithStatement&>(statement));
    case Type::kScope:
      return execute_inside(static_cast<const ScopeStatement&>(statement).body);
    default:
      return Flow::kNext;
  }
}

Interpreter::Flow Interpreter::execute_if(const IfStatement& statement) {
  for (const auto& [test, body] : statement.branches) {
    if (evaluate(*test).truthy()) return execute(body);
  }
  return execute(statement.otherwise);
}

/// The filter of a loop, which sees the loop's target but not its `loop`.
Loop::Passes Interpreter::passes(const ForStatement& statement) {
  if (!statement.filter) return nullptr;
  return [this, &statement, outer = scope_](const Value& element) {
    const auto saved = std::exchange(scope_, std::make_shared<Scope>(outer));
    heap_.spend(1);
    assign(statement.target, element);
    const bool passed = evaluate(*statement.filter).truthy();
    scope_ = saved;
    return passed;
  };
}

Interpreter::Flow Interpreter::execute_for(const ForStatement& statement, const Value& iterable,
                                           unsigned depth) {
  const auto outer = scope_;
  const Value loop(Kind::kLoop, new Loop(heap_, statement, iterable, passes(statement), outer, depth));
  auto& state = loop.object<Loop>();
  struct Cleared {
    Loop& loop;
    ~Cleared() { loop.clear(); }
  } const cleared{state};
  std::shared_ptr<Scope> inner;
  bool any = false;
  Flow flow = Flow::kNext;
  while (const std::optional<Value> element = state.advance()) {
    any = true;
    heap_.spend(1);
    // A macro of the body may have kept the scope of the last turn.
    if (inner && inner.use_count() == 1) {
      inner->variables.clear();
    } else {
      inner = std::make_shared<Scope>(outer);
    }
    scope_ = inner;
    assign(statement.target, *element);
    if (statement.uses_loop) declare(kLoopSymbol, loop);
    flow = execute(statement.body);
    scope_ = outer;
    if (flow == Flow::kBreak) break;
  }
  return any ? Flow::kNext : execute_inside(statement.otherwise);
}

Interpreter::Flow Interpreter::execute_inside(const Block& block) {
  if (block.empty()) return Flow::kNext;
  const auto outer = scope_;
  scope_ = std::make_shared<Scope>(outer);
  const Flow flow = execute(block);
  scope_ = outer;
  return flow;
}

std::optional<Value> Interpreter::capture(const Block& block, Flow& flow) {
  Capture inner(heap_);
  Capture* const outer = std::exchange(output_, &inner);
  flow = execute_inside(block);
  output_ = outer;
  if (flow != Flow::kNext) return std::nullopt;
  return make_text(heap_, std::move(inner.text));
}

Interpreter::Flow Interpreter::execute_set_block(const SetBlockStatement& statement) {
  Flow flow = Flow::kNext;
  std::optional<Value> text = capture(statement.body, flow);
  if (!text) return flow;
  if (statement.filter) {
    block_text_ = std::move(*text);
    text = evaluate(*statement.filter);
  }
  assign(statement.target, *text);
  return flow;
}

Interpreter::Flow Interpreter::execute_filter_block(const FilterBlockStatement& statement) {
  Flow flow = Flow::kNext;
  std::optional<Value> text = capture(statement.body, flow);
  if (!text) return flow;
  block_text_ = std::move(*text);
  print(evaluate(*statement.filter));
  return flow;
}

Interpreter::Flow Interpreter::execute_with(const WithStatement& statement) {
  // All values are computed outside, before any name is there.
  std::vector<Value> values;
  for (const auto& [target, value] : statement.assignments) values.push_back(evaluate(*value));
  const auto outer = scope_;
  scope_ = std::make_shared<Scope>(outer);
  for (std::size_t i = 0; i < values.size(); ++i) assign(statement.assignments[i].first, values[i]);
  const Flow flow = execute(statement.body);
  scope_ = outer;
  return flow;
}

}  // namespace peregrine::text::jinja
