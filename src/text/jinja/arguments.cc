// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/arguments.h"

#include <algorithm>

namespace peregrine::text::jinja {

Parameters::Parameters(std::string_view function, const CallArguments& arguments,
                       std::initializer_list<std::string_view> names, std::size_t required)
    : function_(function) {
  std::copy(names.begin(), names.end(), names_.begin());
  if (arguments.positional.size() > names.size()) {
    fail("{}() takes at most {} arguments, {} are given", function, names.size(),
         arguments.positional.size());
  }
  for (std::size_t i = 0; i < arguments.positional.size(); ++i) values_[i] = &arguments.positional[i];
  for (const auto& [name, value] : arguments.named) {
    const auto* const at = std::find(names.begin(), names.end(), name);
    if (at == names.end()) fail("{}() has no parameter {}", function, core::quoted(name, 40));
    const auto index = static_cast<std::size_t>(at - names.begin());
    if (values_[index] != nullptr) fail("{}() has two values for its parameter '{}'", function, name);
    values_[index] = &value;
  }
  for (std::size_t i = 0; i < required; ++i) {
    if (values_[i] == nullptr) fail("{}() lacks its argument '{}'", function, names_[i]);
  }
}

void Parameters::fail_type(std::size_t index, std::string_view expected) const {
  const Value& value = *values_[index];
  if (value.is_undefined()) fail_undefined(value);
  fail("{}(): '{}' must be {}, not {}", function_, names_[index], expected, type_name(value));
}

Value Parameters::value(std::size_t index, Value standard) const {
  return values_[index] != nullptr ? *values_[index] : std::move(standard);
}

bool Parameters::flag(std::size_t index, bool standard) const {
  return values_[index] != nullptr ? values_[index]->truthy() : standard;
}

Int Parameters::integer(std::size_t index, Int standard) const {
  if (values_[index] == nullptr) return standard;
  if (!values_[index]->is_integral()) fail_type(index, "an integer");
  return values_[index]->as_int();
}

std::optional<std::string_view> Parameters::text(std::size_t index) const {
  if (!has(index)) return std::nullopt;
  return required_text(index);
}

std::string_view Parameters::required_text(std::size_t index) const {
  if (!values_[index]->is_string()) fail_type(index, "a string");
  return values_[index]->as_text();
}

}  // namespace peregrine::text::jinja
