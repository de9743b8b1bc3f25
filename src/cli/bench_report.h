// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace peregrine::cli {

/// Results of a benchmark as text for people, or as members of one JSON object.
class Report {
 public:
  explicit Report(bool json) : json_(json) {}

  /// Text appears as it comes: on standard output, or as progress beside JSON.
  void line(const std::string& text) const;
  /// A member of the object; `value` is JSON.
  void member(std::string_view name, const std::string& value);
  void number(std::string_view name, double value);
  /// Prints the object where JSON is wanted.
  void finish() const;

 private:
  bool json_;
  std::string members_;
};

}  // namespace peregrine::cli
