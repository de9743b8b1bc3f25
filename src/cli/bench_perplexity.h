// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "cli/session.h"

namespace peregrine::cli {

/// How a text's perplexity is measured: in windows of `context` tokens, each beginning `stride` tokens after
/// the one before. Every token but the first counts once, in the first window that has it, so that it is
/// predicted from at least context - stride tokens (the first window's from those before it). Transformers'
/// documentation, "Perplexity of fixed-length models".
struct PerplexityPlan {
  std::string text;          ///< A file, or where there is none of that name the text itself.
  std::int32_t context = 0;  ///< 0: the model's, at most 1,024.
  std::int32_t stride = 0;   ///< 0: half of the context.
};

struct Perplexity {
  std::int64_t tokens = 0;  ///< Of the text, as the model's tokenizer gives them.
  std::int64_t scored = 0;
  std::int64_t windows = 0;
  std::int32_t context = 0;
  std::int32_t stride = 0;
  double seconds = 0;
  double mean_negative_log_likelihood = 0;  ///< Natural logarithm.
  double perplexity = 0;                    ///< Its exponential.
};

/// Throws Error(kInvalidArgument) for fewer than two tokens or a context or stride out of range, kUnsupported
/// for encoders, encoder-decoders and random weights, which have no tokenizer.
Perplexity measure_perplexity(const Session& session, const PerplexityPlan& plan);

}  // namespace peregrine::cli
