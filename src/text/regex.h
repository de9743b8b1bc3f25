// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/aligned_text.h"

namespace peregrine::text {

/// A compiled regular expression of a tokenizer file. Immutable; one object may be searched by many threads
/// at once, each with its own RegexSearch.
class Regex {
 public:
  /// Compiles `pattern`, which is written in Oniguruma's Ruby syntax (translate_regex). Throws Error
  /// (kInvalidArgument, kUnsupported) that names `where` and quotes the pattern.
  Regex(std::string_view pattern, std::string_view where);
  ~Regex();
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;

 private:
  friend class RegexSearch;
  struct Code;
  std::unique_ptr<const Code> code_;
};

/// The working state of searches with one Regex, which must outlive it. For one thread.
class RegexSearch {
 public:
  explicit RegexSearch(const Regex& regex);
  ~RegexSearch();
  RegexSearch(const RegexSearch&) = delete;
  RegexSearch& operator=(const RegexSearch&) = delete;

  /// Sets `matches` to the successive matches in `text` (valid UTF-8), left to right, none overlapping; an
  /// empty match directly behind another match is left out. Throws Error(kInvalidArgument) where the pattern
  /// needs so many steps that its file must be wrong: too much backtracking for one match, or 5 s plus 10 us
  /// per byte for all searches of this object.
  void find_all(std::string_view text, std::vector<Range>& matches);

 private:
  struct State;
  /// The first match that starts at `from` or behind; false where there is none.
  bool next(std::string_view text, std::size_t from, Range& match);
  /// One call of the engine for matches that start in [from, limit].
  bool search(std::string_view text, std::size_t from, std::size_t limit, Range& match);
  void charge(std::chrono::steady_clock::duration spent);

  const Regex& regex_;
  std::unique_ptr<State> state_;
};

}  // namespace peregrine::text
