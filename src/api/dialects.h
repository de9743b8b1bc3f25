// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/json/object.hpp>
#include <cstdint>
#include <string>

#include "api/generation_exchange.h"

// The dialects: each reads the JSON of a request into a plan. They throw core::Error, FieldError or
// StatusError for what is wrong, naming the field. Null means absent; a known field that Peregrine cannot do
// and that would change the answer is refused; an unknown field is passed over, logged once for each name.

namespace peregrine::api {

/// What a dialect may need to know besides the body.
struct DialectContext {
  std::string request_id;
  std::int64_t created = 0;  ///< Unix time in seconds.
  /// Streams as server-sent events ending with "data: [DONE]" (the /v1 routes) instead of lines of JSON.
  bool server_sent_events = false;
};

/// LMI's {"inputs", "parameters", "stream"} (specification 2.4 to 2.7).
GenerationPlan read_prediction(const boost::json::object& body, const ServedModel& model,
                               const DialectContext& context);

/// OpenAI's completions: {"prompt", "max_tokens", ...}.
GenerationPlan read_completion(const boost::json::object& body, const ServedModel& model,
                               const DialectContext& context);

/// OpenAI's chat completions: {"messages", ...}.
GenerationPlan read_chat(const boost::json::object& body, const ServedModel& model,
                         const DialectContext& context);

}  // namespace peregrine::api
