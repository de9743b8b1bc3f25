// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/json.h"
#include "text/token_list.h"

namespace peregrine::text {

/// Adds the tokens that a model expects around a text, or around and between two, says which types they have,
/// and trims offsets. Immutable; safe to use from many threads.
class PostProcessor {
 public:
  virtual ~PostProcessor() = default;

  /// Works on the one or two texts of an input, which may become one list on the way. Adds special tokens
  /// only with `add_special_tokens`. Throws Error(kUnsupported) where there is no form for two.
  virtual void process(std::vector<TokenList>& texts, bool add_special_tokens) const = 0;
  /// The ids that process may add to an input of so many texts (1 or 2), each as often as it does. Empty
  /// where there is no form for two.
  virtual std::vector<std::int32_t> added_ids(std::size_t texts) const = 0;
};

/// The "post_processor" of a tokenizer file: ByteLevel, TemplateProcessing, RobertaProcessing, BertProcessing
/// or a Sequence of these. Throws Error as component.h says.
std::unique_ptr<PostProcessor> make_post_processor(const core::JsonView& json);

}  // namespace peregrine::text
