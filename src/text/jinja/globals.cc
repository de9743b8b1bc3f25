// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/globals.h"

#include <array>
#include <ctime>

#include "text/jinja/access.h"
#include "text/jinja/arguments.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/printing.h"

namespace peregrine::text::jinja {
namespace {

/// The entries that dict() makes of its arguments: of a mapping or of pairs, then of the named ones.
std::vector<Dict::Entry> dict_entries(Heap& heap, std::string_view function, const CallArguments& arguments) {
  if (arguments.positional.size() > 1) fail("{}() takes at most one positional argument", function);
  std::vector<Dict::Entry> entries;
  if (!arguments.positional.empty()) {
    const Value& source = arguments.positional[0];
    if (source.is(Kind::kDict)) {
      entries = source.dict().entries;
    } else {
      for (const Value& pair : to_vector(heap, source)) {
        std::vector<Value> parts = to_vector(heap, pair);
        if (parts.size() != 2)
          fail("{}() needs pairs, found an element of length {}", function, parts.size());
        entries.emplace_back(std::move(parts[0]), std::move(parts[1]));
      }
    }
  }
  for (const auto& [name, value] : arguments.named) entries.emplace_back(make_text(heap, name), value);
  return entries;
}

Value make_range(Interpreter& interpreter, const CallArguments& arguments) {
  if (!arguments.named.empty()) fail("range() takes no keyword arguments");
  const auto& bounds = arguments.positional;
  if (bounds.empty() || bounds.size() > 3)
    fail("range() takes 1 to 3 arguments, {} are given", bounds.size());
  for (const Value& bound : bounds) {
    if (bound.is_undefined()) fail_undefined(bound);
    if (!bound.is_integral()) fail("'{}' object cannot be interpreted as an integer", type_name(bound));
  }
  const Int start = bounds.size() > 1 ? bounds[0].as_int() : 0;
  const Int stop = bounds.size() > 1 ? bounds[1].as_int() : bounds[0].as_int();
  const Int step = bounds.size() > 2 ? bounds[2].as_int() : 1;
  if (step == 0) fail("range() arg 3 must not be zero");
  return Value(Kind::kRange, new Range(&interpreter.heap(), start, stop, step));
}

Value make_dictionary(Interpreter& interpreter, const CallArguments& arguments) {
  return make_dict(interpreter.heap(), dict_entries(interpreter.heap(), "dict", arguments));
}

Value make_namespace(Interpreter& interpreter, const CallArguments& arguments) {
  Heap& heap = interpreter.heap();
  const Value initial = make_dict(heap, dict_entries(heap, "namespace", arguments));
  auto* space = new Namespace(heap);
  Value value(Kind::kNamespace, space);
  heap.keep(*space);
  for (const auto& [key, attribute] : initial.dict().entries) {
    if (!key.is_string()) fail("namespace() needs strings for names, found {}", type_name(key));
    space->set(key.as_text(), attribute);
  }
  return value;
}

Value make_cycler(Interpreter& interpreter, const CallArguments& arguments) {
  if (arguments.positional.empty() || !arguments.named.empty()) fail("cycler() needs at least one item");
  auto* cycler = new Cycler(interpreter.heap(), arguments.positional);
  Value value(Kind::kCycler, cycler);
  interpreter.heap().keep(*cycler);
  return value;
}

Value make_joiner(Interpreter& interpreter, const CallArguments& arguments) {
  const Parameters parameters("joiner", arguments, {"sep"});
  auto* joiner = new Joiner(interpreter.heap(), parameters.value(0, make_text(interpreter.heap(), ", ")));
  Value value(Kind::kJoiner, joiner);
  interpreter.heap().keep(*joiner);
  return value;
}

Value raise_exception(Interpreter& interpreter, const CallArguments& arguments) {
  const Parameters parameters("raise_exception", arguments, {"message"}, 1);
  throw Failure(to_str(interpreter.heap(), parameters[0]), core::ErrorKind::kInvalidArgument, true);
}

/// The format for C: Python's time has no zone, and microseconds.
std::string c_format(std::string_view format) {
  std::string out;
  for (std::size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%' || i + 1 == format.size()) {
      out += format[i];
      continue;
    }
    const char letter = format[++i];
    if (letter == 'f') {
      out += "000000";
    } else if (letter != 'z' && letter != 'Z') {
      out += '%';
      out += letter;
    }
  }
  return out;
}

Value strftime_now(Interpreter& interpreter, const CallArguments& arguments) {
  constexpr std::size_t kMostFormat = 256;
  constexpr std::size_t kMostText = 4096;
  const Parameters parameters("strftime_now", arguments, {"format"}, 1);
  // A mark at the end tells an empty text from one that does not fit.
  const std::string format = c_format(parameters.required_text(0)) + "|";
  if (format.size() > kMostFormat)
    fail("strftime_now(): a format of at most {} bytes is allowed", kMostFormat);
  interpreter.heap().spend(50);
  const auto seconds = static_cast<std::time_t>(interpreter.now());
  std::tm local{};
  if (localtime_r(&seconds, &local) == nullptr) fail("strftime_now(): the time cannot be shown");
  std::array<char, kMostText> text;
  const std::size_t size = std::strftime(text.data(), text.size(), format.c_str(), &local);
  if (size == 0) fail("strftime_now(): the text is longer than {} bytes", kMostText);
  return make_text(interpreter.heap(), std::string(text.data(), size - 1));
}

Value cycler_next(Interpreter&, const Value& self, const CallArguments& arguments) {
  const Parameters parameters("next", arguments, {});
  auto& cycler = self.object<Cycler>();
  const Value item = cycler.items[cycler.position];
  cycler.position = (cycler.position + 1) % cycler.items.size();
  return item;
}

Value cycler_reset(Interpreter&, const Value& self, const CallArguments& arguments) {
  const Parameters parameters("reset", arguments, {});
  self.object<Cycler>().position = 0;
  return Value::none();
}

constexpr Method kCyclerMethods[] = {{"next", cycler_next}, {"reset", cycler_reset}};

struct Global {
  std::string_view name;
  Function::Body body;
};

constexpr Global kFunctions[] = {
    {"cycler", make_cycler},
    {"dict", make_dictionary},
    {"joiner", make_joiner},
    {"namespace", make_namespace},
    {"raise_exception", raise_exception},
    {"range", make_range},
    {"strftime_now", strftime_now},
};

}  // namespace

std::span<const Method> cycler_methods() { return kCyclerMethods; }

std::optional<Value> find_function(std::string_view name) {
  for (const Global& function : kFunctions) {
    if (function.name == name) return Value(Kind::kFunction, new Function(function.name, function.body));
  }
  return std::nullopt;
}

}  // namespace peregrine::text::jinja
