// SPDX-License-Identifier: Apache-2.0
#include "engine/request_check.h"

#include <algorithm>
#include <span>
#include <string_view>

#include "core/checked.h"
#include "core/error.h"
#include "ops/device.h"

namespace peregrine::engine {

using core::ErrorKind;

namespace {

void check_ids(std::span<const std::int32_t> ids, std::int64_t vocab_size, std::string_view what) {
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= vocab_size) {
      core::fail(ErrorKind::kInvalidArgument, "{}[{}] is {}; the model's token ids are 0 to {}", what, i,
                 ids[i], vocab_size - 1);
    }
  }
}

void check_generated(const Request& request, const BatchLimits& limits, std::int32_t most) {
  if (request.generated.empty()) return;
  const std::size_t sequences = request.generated.size();
  if (sequences != static_cast<std::size_t>(request.parameters.n)) {
    core::fail(ErrorKind::kInvalidArgument,
               "generated has tokens of {} sequences; the request has n={} and must have as many, or none",
               sequences, request.parameters.n);
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

std::int32_t check_request(const Request& request, const BatchLimits& limits) {
  const generation::Parameters& parameters = request.parameters;
  if (parameters.num_beams != 1) {
    core::fail(ErrorKind::kUnsupported, "num_beams is {}; beam search is not supported, it must be 1",
               parameters.num_beams);
  }
  if (parameters.n < 1 || parameters.n > limits.max_sequences) {
    core::fail(ErrorKind::kInvalidArgument, "n is {}; allowed is 1 to {} (max_rolling_batch_size)",
               parameters.n, limits.max_sequences);
  }
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
  const std::int64_t needed = blocks_needed(prompt, most, parameters.n);
  if (needed > limits.kv_blocks) {
    core::fail(
        ErrorKind::kInvalidArgument,
        "the request needs {} KV blocks of {} tokens (prompt of {} tokens, {} new tokens for each of {} "
        "sequences), and the cache has {}; ask for fewer tokens or sequences, or enlarge the cache",
        needed, ops::kBlockTokens, prompt, most, parameters.n, limits.kv_blocks);
  }
  check_generated(request, limits, static_cast<std::int32_t>(most));
  return static_cast<std::int32_t>(most);
}

}  // namespace peregrine::engine
