// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "api/generation_exchange.h"
#include "text/tokenizer.h"

namespace peregrine::api {

/// How an answer in LMI's dialect looks (specification 2.6 and 2.7).
struct PredictionFormat {
  bool details = false;
  bool cumulative_log_probs = false;  ///< details.cum_log_probs, FasterTransformer's.
  bool full_text = false;             ///< generated_text begins with the inputs.
  bool top_tokens = false;            ///< details.top_tokens
  bool server_sent_events = false;    ///< Streaming: events instead of lines.
  std::string inputs;
  std::vector<std::int32_t> prefill;  ///< The tokens of the prompt, where details.prefill is wanted.
  bool prefill_top_tokens = false;    ///< details.prefill_top_tokens
  std::shared_ptr<const text::Tokenizer> tokenizer;  ///< For the texts of top_tokens.
};

/// The writer for such answers: of one prompt, streamed of one sequence.
std::unique_ptr<AnswerWriter> make_prediction_writer(PredictionFormat format);

}  // namespace peregrine::api
