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

/// What goes along with the ids of a TokenList.
struct TokenDetails {
  bool offsets = false;
  bool types = false;
};

/// The tokens of a text. Offsets and blanks, and types, go along with ids where `details` says so; else they
/// are empty.
struct TokenList {
  TokenDetails details{};
  std::vector<std::int32_t> ids{};
  std::vector<CodePointRange> offsets{};
  std::vector<BlankCounts> blanks{};
  std::vector<std::int32_t> types{};

  /// A token of type 0.
  void add(std::int32_t id, CodePointRange range, BlankCounts counts) {
    ids.push_back(id);
    if (details.types) types.push_back(0);
    if (!details.offsets) return;
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
    cut(types);
  }

  /// Makes `type` the type of all tokens.
  void set_types(std::int32_t type) {
    if (details.types) types.assign(ids.size(), type);
  }

  /// Tokens that stand for no text.
  void append_added(std::span<const std::int32_t> added, std::int32_t type) {
    ids.insert(ids.end(), added.begin(), added.end());
    if (details.types) types.insert(types.end(), added.size(), type);
    if (!details.offsets) return;
    offsets.insert(offsets.end(), added.size(), {});
    blanks.insert(blanks.end(), added.size(), {});
  }

  /// All tokens of `other`, whose details are the same.
  void append(const TokenList& other) {
    const auto join = [](auto& list, const auto& more) { list.insert(list.end(), more.begin(), more.end()); };
    join(ids, other.ids);
    join(offsets, other.offsets);
    join(blanks, other.blanks);
    join(types, other.types);
  }
};

}  // namespace peregrine::text
