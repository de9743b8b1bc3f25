// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <optional>
#include <string>

#include "text/model.h"

namespace peregrine::text {

/// Byte pair encoding: Sennrich, Haddow and Birch, "Neural Machine Translation of Rare Words with Subword
/// Units", 2016. Starts from the characters of a piece and joins, again and again, the neighbours whose merge
/// has the lowest rank, the leftmost of equal ones. O(n log n) for a piece of n characters.
class Bpe final : public Model {
 public:
  /// `json` is the "model" object: vocab, merges ("a b" or ["a", "b"]), unk_token, fuse_unk, byte_fallback,
  /// ignore_merges, continuing_subword_prefix, end_of_word_suffix.
  explicit Bpe(const core::JsonView& json);

  void tokenize(std::string_view piece, std::vector<ModelToken>& out) const override;
  const Vocabulary& vocabulary() const override { return vocabulary_; }

 private:
  /// What two neighbouring tokens become, and how early.
  struct Merge {
    std::uint32_t rank = 0;
    std::int32_t id = -1;
  };
  /// A token in the making: `bytes` of the piece.
  struct Symbol {
    std::int32_t id;
    std::uint32_t bytes;
  };

  /// Merges by the pair of tokens: open addressing, filled once.
  class MergeTable {
   public:
    explicit MergeTable(std::size_t count);
    void set(std::int32_t left, std::int32_t right, Merge merge);
    /// Null where the two do not merge.
    const Merge* find(std::int32_t left, std::int32_t right) const;

   private:
    struct Slot {
      std::uint64_t pair = kFree;
      Merge merge;
    };
    static constexpr std::uint64_t kFree = ~std::uint64_t{0};
    std::size_t slot_of(std::uint64_t pair) const;

    std::uint64_t seed_;
    std::vector<Slot> slots_;
  };

  void read_merges(const core::JsonView& json);
  void add_merge(std::string_view left, std::string_view right, std::size_t rank, const std::string& where);
  void split_characters(std::string_view piece, std::vector<Symbol>& symbols) const;
  std::optional<std::int32_t> find_character(std::string_view character, bool first, bool last) const;
  bool fall_back_to_bytes(std::string_view character, std::vector<Symbol>& symbols) const;
  void merge_short(std::vector<Symbol>& symbols) const;
  void merge_long(std::vector<Symbol>& symbols) const;

  Vocabulary vocabulary_;
  MergeTable merges_;
  std::string unknown_token_;  ///< Empty where unknown characters vanish.
  std::string prefix_;         ///< Of every character but a piece's first.
  std::string suffix_;         ///< Of a piece's last character.
  bool fuse_unknown_ = false;
  bool byte_fallback_ = false;
  bool ignore_merges_ = false;
  std::vector<std::int32_t> ids_of_low_characters_;  ///< By code point; -1 where there is no such token.
  std::vector<std::int32_t> byte_tokens_;            ///< <0x00> to <0xFF>; -1 where missing.
};

}  // namespace peregrine::text
