// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/json.h"
#include "text/token_list.h"

namespace peregrine::text {

/// Adds the tokens that a model expects around a text, and trims offsets. Immutable; safe to use from many
/// threads.
class PostProcessor {
 public:
  virtual ~PostProcessor() = default;
  /// Adds special tokens only with `add_special_tokens`.
  virtual void process(TokenList& tokens, bool add_special_tokens) const = 0;
  /// The ids that process may add.
  virtual std::vector<std::int32_t> added_ids() const { return {}; }
};

/// The "post_processor" of a tokenizer file: ByteLevel, TemplateProcessing, RobertaProcessing, BertProcessing
/// or a Sequence of these. Of templates the one for single texts. Throws Error as component.h says.
std::unique_ptr<PostProcessor> make_post_processor(const core::JsonView& json);

}  // namespace peregrine::text
