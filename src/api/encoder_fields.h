// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "api/encode_exchange.h"
#include "api/encoder_text.h"
#include "api/json_fields.h"

// What the dialects of encoders share in reading requests. Everything here throws FieldError.

namespace peregrine::api {

/// The fields that say how texts become tokens: truncate or truncation, truncation_direction, max_length,
/// truncate_prompt_tokens, add_special_tokens.
EncodeTextOptions read_text_options(const Fields& fields, const ServedModel& model);

/// The same of an LMI request, which has them in its parameters or, as TEI's clients write them, beside its
/// inputs.
EncodeTextOptions read_lmi_text_options(const Fields& body, const Fields& parameters,
                                        const ServedModel& model);

/// prompt_name, or else the model's default prompt.
std::string read_prompt(const Fields& fields, const ServedModel& model);

/// The pooling and normalization of a request's embeddings: its own fields, else the model's.
void read_embedding_options(const Fields& fields, const ServedModel& model, EncodePlan& plan);

/// The elements of a list of texts, 1 to kMostTexts of them.
std::span<const boost::json::value> texts_of(const boost::json::array& list, const std::string& field);

/// Logs the members of `fields` that are neither in `known` nor read by read_text_options.
void log_unknown_members(const Fields& fields, const ServedModel& model,
                         std::span<const std::string_view> known);

/// 1 / (1 + exp(-x)), and the softmax of scores in place.
float sigmoid(float score);
void softmax(std::span<float> scores);

}  // namespace peregrine::api
