// SPDX-License-Identifier: Apache-2.0
#include "text/pattern.h"

#include <algorithm>
#include <array>

#include "core/error.h"
#include "text/unicode.h"

namespace peregrine::text {
namespace {

std::variant<std::string, Regex> parse_pattern(const core::JsonView& json) {
  if (!json.is_object()) json.fail_expected(R"({"String": ...} or {"Regex": ...})");
  if (const auto literal = json.find("String")) return std::string(literal->as_string());
  if (const auto regex = json.find("Regex")) return Regex(regex->as_string(), regex->where());
  json.fail_expected(R"({"String": ...} or {"Regex": ...})");
}

/// A part of the split text, before delimiters are dropped or merged.
struct Part {
  Range range;
  bool delimiter;
};

std::vector<Part> parts_of(std::uint32_t size, const std::vector<Range>& matches, bool invert) {
  std::vector<Part> parts;
  parts.reserve(matches.size() * 2 + 1);
  std::uint32_t end = 0;
  for (const Range& match : matches) {
    if (match.begin > end) parts.push_back({{end, match.begin}, invert});
    parts.push_back({match, !invert});
    end = match.end;
  }
  if (end < size) parts.push_back({{end, size}, invert});
  return parts;
}

}  // namespace

Pattern::Pattern(const core::JsonView& json) : pattern_(parse_pattern(json)) {}

PatternSearch::PatternSearch(const Pattern& pattern) {
  if (const auto* regex = std::get_if<Regex>(&pattern.pattern_)) {
    regex_.emplace(*regex);
  } else {
    literal_ = std::get<std::string>(pattern.pattern_);
  }
}

void PatternSearch::find_all(std::string_view text, std::vector<Range>& matches) {
  if (regex_) return regex_->find_all(text, matches);
  matches.clear();
  if (literal_.empty()) {  // matches between any two characters, as an empty expression does
    for (std::size_t i = 0; i <= text.size(); ++i) {
      const auto at = static_cast<std::uint32_t>(i);
      if (i == text.size() || !is_continuation(text[i])) matches.push_back({at, at});
    }
    return;
  }
  for (std::size_t at = text.find(literal_); at != std::string_view::npos;
       at = text.find(literal_, at + literal_.size())) {
    matches.push_back({static_cast<std::uint32_t>(at), static_cast<std::uint32_t>(at + literal_.size())});
  }
}

SplitBehavior parse_split_behavior(const core::JsonView& json) {
  struct Name {
    std::string_view name;
    SplitBehavior behavior;
  };
  constexpr std::array kNames = {
      Name{"Removed", SplitBehavior::kRemoved},
      Name{"Isolated", SplitBehavior::kIsolated},
      Name{"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
      Name{"MergedWithNext", SplitBehavior::kMergedWithNext},
      Name{"Contiguous", SplitBehavior::kContiguous},
  };
  const std::string_view given = json.as_string();
  for (const Name& known : kNames) {
    if (known.name == given) return known.behavior;
  }
  json.fail_expected("Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous");
}

void split_at_matches(std::uint32_t size, const std::vector<Range>& matches, SplitBehavior behavior,
                      bool invert, std::vector<Range>& pieces) {
  const std::vector<Part> parts = parts_of(size, matches, invert);
  const std::size_t first = pieces.size();
  // Where a delimiter joins its neighbour, it does so once: of two in a row the other stays alone.
  bool open = false;  // the last piece may still grow
  bool before = false;
  for (const Part& part : parts) {
    bool join = false;
    switch (behavior) {
      case SplitBehavior::kRemoved:
      case SplitBehavior::kIsolated:
        break;
      case SplitBehavior::kMergedWithPrevious:
        join = part.delimiter && !before && pieces.size() > first;
        break;
      case SplitBehavior::kMergedWithNext:
        join = open && !part.delimiter;
        break;
      case SplitBehavior::kContiguous:
        join = part.delimiter == before && pieces.size() > first;
        break;
    }
    if (join) {
      pieces.back().end = part.range.end;
    } else if (!(behavior == SplitBehavior::kRemoved && part.delimiter)) {
      pieces.push_back(part.range);
    }
    before = part.delimiter;
    open = part.delimiter;
  }
  const auto begin = pieces.begin() + static_cast<std::ptrdiff_t>(first);
  pieces.erase(std::remove_if(begin, pieces.end(), [](const Range& range) { return range.empty(); }),
               pieces.end());
}

}  // namespace peregrine::text
