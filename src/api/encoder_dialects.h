// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/json/object.hpp>

#include "api/encode_exchange.h"
#include "api/model_text.h"

// The dialects of encoders: each reads the JSON of a request into a plan, with the rules of dialects.h.

namespace peregrine::api {

/// LMI's {"inputs": "text" | ["text", ...], "parameters"} as embeddings: [[...], ...].
EncodePlan read_lmi_embedding(const boost::json::object& body, const ServedModel& model);

/// The same as classes, as transformers' pipeline answers: [{"label", "score"}, ...].
EncodePlan read_lmi_classification(const boost::json::object& body, const ServedModel& model);

/// LMI's list of {"key", "value"}, which is in `body` as "inputs": [score, ...].
EncodePlan read_lmi_pairs(const boost::json::object& body, const ServedModel& model);

/// Whether "inputs" is a pair {"key", "value"} or a list that begins with one.
bool has_pairs(const boost::json::object& body);

/// OpenAI's embeddings: {"input", "encoding_format", ...}.
EncodePlan read_embeddings(const boost::json::object& body, const ServedModel& model);

/// Reranking: {"query", "documents", "top_n", ...} as Cohere, Jina and vLLM have it, or {"query", "texts",
/// "raw_scores", ...} as TEI does.
EncodePlan read_rerank(const boost::json::object& body, const ServedModel& model,
                       const std::string& request_id);

}  // namespace peregrine::api
