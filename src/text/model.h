// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "text/vocabulary.h"

namespace peregrine::text {

/// A token that stands for bytes [begin, end) of a piece.
struct ModelToken {
  std::int32_t id;
  std::uint32_t begin;
  std::uint32_t end;
};

/// Turns one piece of text into tokens. Immutable; safe to use from many threads.
class Model {
 public:
  virtual ~Model() = default;

  /// Appends the tokens of `piece`, which is not empty.
  virtual void tokenize(std::string_view piece, std::vector<ModelToken>& out) const = 0;
  virtual const Vocabulary& vocabulary() const = 0;
};

/// The "model" of a tokenizer file: BPE, WordPiece, Unigram or WordLevel. Files of before 2020 lack its
/// "type"; it is then told by its members. Throws Error: kUnsupported for other models, kInvalidArgument for
/// contents that do not fit together.
std::unique_ptr<Model> make_model(const core::JsonView& json);

}  // namespace peregrine::text
