// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string_view>

#include "text/jinja/callables.h"

namespace peregrine::text::jinja {

/// `value | name(arguments)`. Without a body it is Jinja's, but not supported here.
struct Filter {
  using Body = Value (*)(Interpreter&, const Value&, const CallArguments&);
  std::string_view name;
  Body body;
};

/// Null where there is no filter of that name.
const Filter* find_filter(std::string_view name);

// One table for each file of filters.
std::span<const Filter> text_filters();
std::span<const Filter> number_filters();
std::span<const Filter> sequence_filters();
std::span<const Filter> selection_filters();

}  // namespace peregrine::text::jinja
