// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string_view>

#include "text/jinja/callables.h"

// Attributes and items as the sandbox gives them: what is not there is Undefined, and so is what Python names
// with underscores and every method that would change a list or dict.

namespace peregrine::text::jinja {

/// `object.name`: the attribute, else the item.
Value get_attribute(Heap& heap, const Value& object, std::string_view name);
/// `object[key]`: the item, else, for a string, the attribute.
Value get_item(Heap& heap, const Value& object, const Value& key);
/// `object[start:stop:step]`; None for a part that is not given.
Value get_slice(Heap& heap, const Value& object, const Value& start, const Value& stop, const Value& step);
/// Python's attribute alone; nothing where there is none.
std::optional<Value> find_attribute(Heap& heap, const Value& object, std::string_view name);

// Methods of the types.
std::span<const Method> string_methods();
std::span<const Method> list_methods();
std::span<const Method> tuple_methods();
std::span<const Method> dict_methods();
std::span<const Method> loop_methods();
std::span<const Method> cycler_methods();

}  // namespace peregrine::text::jinja
