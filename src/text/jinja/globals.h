// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string_view>

#include "text/jinja/callables.h"

namespace peregrine::text::jinja {

/// The function that every template has by this name: range, dict, namespace, raise_exception, ...
std::optional<Value> find_function(std::string_view name);

}  // namespace peregrine::text::jinja
