// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"

namespace peregrine::text {

/// Ids of a tokenizer file may leave this many holes in all; beyond, the file is damaged.
constexpr std::int64_t kMaxHoles = 1 << 20;

/// A hash seed that differs from process to process, so that no file can be made whose keys all collide.
std::uint64_t random_seed();

/// Tokens and their ids; ids are unique, and tokens unless the caller lets them repeat. Memory is
/// proportional to the text of the tokens, plus at most 4 MiB for holes.
class Vocabulary {
 public:
  /// Room for `count` tokens with ids below `count` + kMaxHoles.
  explicit Vocabulary(std::size_t count);

  /// What becomes of a token that is there already.
  enum class Repeated { kRefuse, kLastCounts };

  /// Throws Error(kInvalidArgument) that names `where` where the id is negative or too large, or the id, or a
  /// token that may not repeat, is there already.
  void add(std::string_view token, std::int64_t id, std::string_view where,
           Repeated repeated = Repeated::kRefuse);

  /// Of a repeated token the last id.
  std::optional<std::int32_t> find(std::string_view token) const;
  /// Valid as long as this object stays unchanged.
  std::optional<std::string_view> token(std::int32_t id) const;
  /// Number of tokens.
  std::size_t size() const { return entries_.size(); }
  /// One more than the largest id; 0 for an empty vocabulary.
  std::int32_t end_id() const { return static_cast<std::int32_t>(entry_of_id_.size()); }

 private:
  struct Entry {
    std::uint32_t begin;  ///< In text_.
    std::uint32_t bytes;
    std::int32_t id;
  };
  std::size_t slot_of(std::string_view token) const;
  std::string_view text_of(const Entry& entry) const {
    return std::string_view(text_).substr(entry.begin, entry.bytes);
  }

  std::uint64_t seed_;
  std::int64_t end_limit_;
  std::string text_;
  std::vector<Entry> entries_;
  std::vector<std::uint32_t> slots_;        ///< Open addressing; 1 + index in entries_, or 0.
  std::vector<std::uint32_t> entry_of_id_;  ///< 1 + index in entries_, or 0.
};

/// The vocabulary of a file that is an object of tokens and their ids. Throws as Vocabulary::add.
Vocabulary read_vocabulary(const core::JsonView& json);

/// The ids of the tokens <0x00> to <0xFF>, by byte; -1 where there is no such token.
std::vector<std::int32_t> find_byte_tokens(const Vocabulary& vocabulary);

}  // namespace peregrine::text
