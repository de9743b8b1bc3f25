// SPDX-License-Identifier: Apache-2.0
#include "engine/request_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <string_view>

#include "core/checked.h"
#include "core/error.h"
#include "engine/checks.h"
#include "ops/device.h"

namespace peregrine::engine {

using core::ErrorKind;

namespace {

void check_ids(std::span<const std::int32_t> ids, std::int64_t vocab_size, std::string_view what) {
  check_values(ids, vocab_size, what, "token ids");
}

void check_sequences(const generation::Parameters& parameters, const BatchLimits& limits) {
  constexpr std::string_view kBatch = " (max_rolling_batch_size)";
  check_range("num_beams", parameters.num_beams, 1, limits.max_sequences, kBatch);
  if (parameters.num_beams > 1) {
    check_range("n", parameters.n, 1, parameters.num_beams, " (num_beams)");
  } else {
    check_range("n", parameters.n, 1, limits.max_sequences, kBatch);
    check_range("best_of", parameters.best_of, 1, limits.max_sequences, kBatch);
  }
}

void check_text(const Request& request, const BatchLimits& limits) {
  const std::size_t tokens = request.encoder_ids.size();
  if (limits.encoder_layers == 0) {
    if (tokens == 0) return;
    core::fail(ErrorKind::kInvalidArgument,
               "the request has a text of {} tokens for an encoder, and the model has none", tokens);
  }
  if (tokens == 0 || tokens > static_cast<std::size_t>(limits.max_model_length)) {
    core::fail(ErrorKind::kInvalidArgument,
               "the text has {} tokens; the model takes 1 to {} (max_model_length)", tokens,
               limits.max_model_length);
  }
  check_ids(request.encoder_ids, limits.vocab_size, "encoder_ids");
}

void check_generated(const Request& request, const BatchLimits& limits, std::int32_t most) {
  if (request.generated.empty()) return;
  const std::size_t sequences = request.generated.size();
  if (request.parameters.num_beams > 1) {
    core::fail(ErrorKind::kInvalidArgument,
               "generated has tokens of {} sequences; beams begin anew, and have none", sequences);
  }
  if (sequences != static_cast<std::size_t>(request.parameters.computed_sequences())) {
    core::fail(ErrorKind::kInvalidArgument,
               "generated has tokens of {} sequences; the request has n={} and must have as many, or none",
               sequences, request.parameters.computed_sequences());
  }
  for (const auto& ids : request.generated) {
    check_ids(ids, limits.vocab_size, "generated");
    if (ids.size() > static_cast<std::size_t>(most)) {
      core::fail(ErrorKind::kInvalidArgument,
                 "generated has {} tokens of one sequence; max_new_tokens and the context of {} tokens allow "
                 "{} after a prompt of {}",
                 ids.size(), limits.max_model_length, most, request.prompt_ids.size());
    }
  }
}

}  // namespace

std::int64_t blocks_needed(std::int64_t prompt_tokens, std::int64_t new_tokens, std::int32_t sequences) {
  const std::int64_t prompt_blocks = core::ceil_div<std::int64_t>(prompt_tokens, ops::kBlockTokens);
  if (new_tokens <= 1) return prompt_blocks;
  const std::int64_t shared = prompt_tokens / ops::kBlockTokens;
  const std::int64_t all = core::ceil_div<std::int64_t>(prompt_tokens + new_tokens - 1, ops::kBlockTokens);
  return shared + sequences * (all - shared);
}

std::int32_t cross_blocks(std::size_t encoder_tokens) {
  return core::ceil_div(static_cast<std::int32_t>(encoder_tokens), ops::kBlockTokens);
}

std::int32_t check_request(const Request& request, const BatchLimits& limits) {
  const generation::Parameters& parameters = request.parameters;
  check_sequences(parameters, limits);
  check_text(request, limits);
  if (parameters.max_new_tokens < 1) {
    core::fail(ErrorKind::kInvalidArgument, "max_new_tokens is {}; it must be at least 1",
               parameters.max_new_tokens);
  }
  if (request.prompt_ids.empty()) {
    core::fail(ErrorKind::kInvalidArgument, "the prompt has no tokens; it must have at least one");
  }
  const auto prompt = static_cast<std::int64_t>(request.prompt_ids.size());
  if (prompt >= limits.max_model_length) {
    core::fail(ErrorKind::kInvalidArgument,
               "the prompt has {} tokens; a context of {} tokens (max_model_length) has room for a prompt of "
               "at most {}",
               prompt, limits.max_model_length, limits.max_model_length - 1);
  }
  check_ids(request.prompt_ids, limits.vocab_size, "prompt_ids");

  const std::int64_t most =
      std::min<std::int64_t>(parameters.max_new_tokens, limits.max_model_length - prompt);
  const std::int32_t sequences = parameters.computed_sequences();
  const std::int64_t needed =
      blocks_needed(prompt, most, sequences) + cross_blocks(request.encoder_ids.size());
  if (needed > limits.kv_blocks) {
    core::fail(
        ErrorKind::kInvalidArgument,
        "the request needs {} KV blocks of {} tokens ({}prompt of {} tokens, {} new tokens for each of {} "
        "sequences), and the cache has {}; ask for fewer tokens or sequences, or enlarge the cache",
        needed, ops::kBlockTokens,
        request.encoder_ids.empty() ? "" : fmt::format("text of {} tokens, ", request.encoder_ids.size()),
        prompt, most, sequences, limits.kv_blocks);
  }
  check_generated(request, limits, static_cast<std::int32_t>(most));
  return static_cast<std::int32_t>(most);
}

}  // namespace peregrine::engine
