// SPDX-License-Identifier: Apache-2.0
#include "text/metaspace.h"

#include "text/component.h"
#include "text/unicode.h"

namespace peregrine::text {
namespace {

using Prepend = MetaspaceOptions::Prepend;

Prepend parse_prepend(const core::JsonView& json) {
  const std::string_view name = json.as_string();
  if (name == "first") return Prepend::kFirst;
  if (name == "always") return Prepend::kAlways;
  if (name == "never") return Prepend::kNever;
  json.fail_expected("first, always or never");
}

}  // namespace

MetaspaceOptions parse_metaspace(const core::JsonView& json) {
  MetaspaceOptions options;
  const core::JsonView replacement = json.at("replacement");
  if (count_code_points(replacement.as_string()) != 1) replacement.fail_expected("a single character");
  options.replacement = decode_at(replacement.as_string(), 0).value;
  options.split = optional_bool(json, "split", true);
  if (const auto scheme = json.find("prepend_scheme")) {
    options.prepend = parse_prepend(*scheme);
    if (options.prepend != Prepend::kNever && !optional_bool(json, "add_prefix_space", true))
      scheme->fail_expected("never where add_prefix_space is false");
  } else if (!optional_bool(json, "add_prefix_space", true)) {
    options.prepend = Prepend::kNever;
  }
  return options;
}

}  // namespace peregrine::text
