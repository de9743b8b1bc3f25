// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "api/encoder_text.h"
#include "api/seen_names.h"
#include "serving/model.h"
#include "text/model_template.h"
#include "text/tokenizer.h"

namespace peregrine::api {

/// A model as the dialects see it: what serves it, and what makes text of it. Parts are null where the model
/// has none, with a message for the client that asks for it.
struct ServedModel {
  serving::Model* model = nullptr;
  std::shared_ptr<const text::Tokenizer> tokenizer;
  std::shared_ptr<const text::ModelTemplate> chat_template;
  std::string chat_template_error;             ///< Why there is none: "model X has no chat template ...".
  std::shared_ptr<const EncoderText> encoder;  ///< For requests to embed and to classify.
  /// Bytes of text that one token can stand for at most; 0 where that is not known.
  std::size_t longest_token = 0;
  /// Fields of requests that were passed over, for the log; null: not logged.
  std::shared_ptr<SeenNames> unknown_fields;
};

/// Reads tokenizer, chat template (option.chat_template, else the model's own) and what an encoder's files
/// say, and tells the model the bytes of its tokens. Throws Error naming the file where one is there and
/// wrong, and kNotFound where there is no tokenizer and the model is no encoder, which can do with token ids.
/// A model's own template that needs what is not supported yet takes only chat away: it goes to
/// chat_template_error.
ServedModel load_text(serving::Model& model);

/// Bytes of text that one token of `tokenizer` can stand for at most, normalization of the text included.
std::size_t longest_token_bytes(const text::Tokenizer& tokenizer);

}  // namespace peregrine::api
