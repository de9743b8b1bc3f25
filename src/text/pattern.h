// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/json.h"
#include "text/regex.h"

namespace peregrine::text {

/// What Replace and Split look for: {"String": "..."} or {"Regex": "..."} in a tokenizer file.
class Pattern {
 public:
  explicit Pattern(const core::JsonView& json);

 private:
  friend class PatternSearch;
  std::variant<std::string, Regex> pattern_;
};

/// The working state of searches with one Pattern, which must outlive it. For one thread.
class PatternSearch {
 public:
  explicit PatternSearch(const Pattern& pattern);

  /// As RegexSearch::find_all.
  void find_all(std::string_view text, std::vector<Range>& matches);

 private:
  std::string_view literal_;
  std::optional<RegexSearch> regex_;
};

/// What becomes of the delimiters that a text is split at. "a-b--c" split at "-":
enum class SplitBehavior {
  kRemoved,             ///< a | b | c
  kIsolated,            ///< a | - | b | - | - | c
  kMergedWithPrevious,  ///< a- | b- | - | c
  kMergedWithNext,      ///< a | -b | - | -c
  kContiguous,          ///< a | - | b | -- | c
};

SplitBehavior parse_split_behavior(const core::JsonView& json);

/// The pieces of a text of `size` bytes split at `matches` (ascending, not overlapping). With `invert` the
/// matches are the text and what lies between them the delimiters. Empty pieces are left out. Appends to
/// `pieces`.
void split_at_matches(std::uint32_t size, const std::vector<Range>& matches, SplitBehavior behavior,
                      bool invert, std::vector<Range>& pieces);

}  // namespace peregrine::text
