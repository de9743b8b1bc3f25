// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace peregrine::text {

/// A half-open range of code points of the original text.
struct CodePointRange {
  std::uint32_t begin = 0;
  std::uint32_t end = 0;

  friend bool operator==(const CodePointRange&, const CodePointRange&) = default;
};

/// How many blanks a token's text starts and ends with.
struct BlankCounts {
  std::uint32_t leading = 0;
  std::uint32_t trailing = 0;
};

/// The tokens of a text. Where `with_offsets`, offsets and blanks go along with ids; else they are empty.
struct TokenList {
  bool with_offsets = false;
  std::vector<std::int32_t> ids;
  std::vector<CodePointRange> offsets;
  std::vector<BlankCounts> blanks;

  void add(std::int32_t id, CodePointRange range, BlankCounts counts) {
    ids.push_back(id);
    if (!with_offsets) return;
    offsets.push_back(range);
    blanks.push_back(counts);
  }

  /// Keeps the first `count` tokens, or with `drop_start` the last.
  void truncate(std::size_t count, bool drop_start) {
    const auto cut = [&](auto& list) {
      if (list.size() <= count) return;
      if (drop_start) list.erase(list.begin(), list.end() - static_cast<std::ptrdiff_t>(count));
      list.resize(count);
    };
    cut(ids);
    cut(offsets);
    cut(blanks);
  }

  /// Puts `before` and `after`, which stand for no text, around the tokens.
  void surround(std::span<const std::int32_t> before, std::span<const std::int32_t> after) {
    ids.insert(ids.begin(), before.begin(), before.end());
    ids.insert(ids.end(), after.begin(), after.end());
    if (!with_offsets) return;
    offsets.insert(offsets.begin(), before.size(), {});
    offsets.insert(offsets.end(), after.size(), {});
    blanks.insert(blanks.begin(), before.size(), {});
    blanks.insert(blanks.end(), after.size(), {});
  }
};

}  // namespace peregrine::text
