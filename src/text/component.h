// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "core/error.h"
#include "core/json.h"

namespace peregrine::text {

/// A kind of component that tokenizer files name by "type", and what makes one from its JSON object.
template <typename Component>
struct ComponentType {
  std::string_view name;
  std::unique_ptr<Component> (*make)(const core::JsonView& json);
};

/// Makes the component that `json` describes. Throws Error(kUnsupported) that lists the types of `known`
/// where its "type" is another one.
template <typename Component>
std::unique_ptr<Component> make_component(const core::JsonView& json,
                                          std::span<const ComponentType<Component>> known) {
  const std::string_view type = json.at("type").as_string();
  std::string names;
  for (const ComponentType<Component>& candidate : known) {
    if (candidate.name == type) return candidate.make(json);
    names += (names.empty() ? "" : ", ") + std::string(candidate.name);
  }
  core::fail(core::ErrorKind::kUnsupported, "{}: type {} is not supported, only {}", json.where(),
             core::quoted(type), names);
}

/// The boolean member `key`, or `fallback` where it is missing or null.
inline bool optional_bool(const core::JsonView& json, std::string_view key, bool fallback) {
  const auto member = json.find(key);
  return member ? member->as_bool() : fallback;
}

/// The string member `key`, or `fallback` where it is missing or null.
inline std::string optional_string(const core::JsonView& json, std::string_view key,
                                   std::string_view fallback = {}) {
  const auto member = json.find(key);
  return std::string(member ? member->as_string() : fallback);
}

}  // namespace peregrine::text
