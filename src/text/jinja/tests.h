// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "text/jinja/callables.h"

namespace peregrine::text::jinja {

/// `value is name(arguments)`.
struct Test {
  using Body = bool (*)(Interpreter&, const Value&, const CallArguments&);
  std::string_view name;
  Body body;
};

/// Null where there is no test of that name.
const Test* find_test(std::string_view name);

}  // namespace peregrine::text::jinja
