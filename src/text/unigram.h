// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "text/byte_trie.h"
#include "text/model.h"

namespace peregrine::text {

/// Kudo, "Subword Regularization: Improving Neural Network Translation Models with Multiple Subword
/// Candidates", 2018: the segmentation whose tokens have the largest sum of scores, found by the Viterbi
/// algorithm from left to right; of equal ones the one whose last token begins first. Linear in a piece's
/// size (times the length of the longest token).
class Unigram final : public Model {
 public:
  /// `json` is the "model" object: vocab (a list of [token, score], in the order of ids), unk_id,
  /// byte_fallback.
  explicit Unigram(const core::JsonView& json);

  /// Throws Error(kInvalidArgument) where a character is unknown and the file has no unk_id.
  void tokenize(std::string_view piece, std::vector<ModelToken>& out) const override;
  const Vocabulary& vocabulary() const override { return vocabulary_; }

 private:
  /// The best way to a place in the piece: its score and its last token.
  struct Arrival {
    double score = 0;
    std::uint32_t begin = kNowhere;
    std::int32_t id = -1;
  };
  static constexpr std::uint32_t kNowhere = ~std::uint32_t{0};

  void read_vocabulary(const core::JsonView& json);
  std::vector<Arrival> find_arrivals(std::string_view piece) const;
  void add_unknown(std::string_view piece, std::uint32_t begin, std::uint32_t end,
                   std::vector<ModelToken>& out) const;

  Vocabulary vocabulary_;
  std::vector<double> scores_;  ///< By id.
  ByteTrie trie_;
  std::optional<std::int32_t> unknown_id_;
  double unknown_score_ = 0;
  std::vector<std::int32_t>
      byte_tokens_;  ///< <0x00> to <0xFF>, -1 where missing; empty without byte_fallback.
};

}  // namespace peregrine::text
