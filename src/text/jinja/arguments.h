// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <initializer_list>
#include <optional>
#include <string_view>

#include "text/jinja/callables.h"

namespace peregrine::text::jinja {

/// The arguments of a call by the names of the parameters. Refers to the arguments.
class Parameters {
 public:
  /// The first `required` of `names` must be given. Throws where one is missing, given twice or unknown.
  Parameters(std::string_view function, const CallArguments& arguments,
             std::initializer_list<std::string_view> names, std::size_t required = 0);

  /// Null where it is not given.
  const Value* find(std::size_t index) const { return values_[index]; }
  /// A required one.
  const Value& operator[](std::size_t index) const { return *values_[index]; }
  /// Whether it is given and not None.
  bool has(std::size_t index) const { return values_[index] != nullptr && !values_[index]->is_none(); }

  Value value(std::size_t index, Value standard) const;
  bool flag(std::size_t index, bool standard) const;
  /// Throws where it is given and no integer.
  Int integer(std::size_t index, Int standard) const;
  /// Throws where it is given and no string. Nothing for None.
  std::optional<std::string_view> text(std::size_t index) const;
  /// Throws where it is no string.
  std::string_view required_text(std::size_t index) const;

 private:
  static constexpr std::size_t kMost = 8;
  [[noreturn]] void fail_type(std::size_t index, std::string_view expected) const;

  std::string_view function_;
  std::array<std::string_view, kMost> names_{};
  std::array<const Value*, kMost> values_{};
};

}  // namespace peregrine::text::jinja
